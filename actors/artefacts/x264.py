"""What keeps x264's output the same on every machine and in every run."""

import platform


def x264_options(*params: str) -> dict[str, str]:
    """Return options for FFmpeg's x264 encoders; use one thread beside them.

    Args:
        params: x264's own, as ``name=value``.
    """
    own = list(params)
    if platform.machine().lower() in ("x86_64", "amd64"):
        # x264's AVX-512 code gives other bytes each time where the whole picture jumps. Every x86
        # processor that NumPy runs on has SSE 4.2.
        own.append("asm=sse4.2")
    return {"threads": "1", "x264-params": ":".join(own)}
