"""What a run of jobs/train_sync.py leaves: weights, their card, history, summary."""

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from pipelines import tensor_file
from pipelines.progress import duration
from pipelines.storage import Store, strip_credentials
from pipelines.sync_training.config import SyncTrainConfig
from pipelines.sync_training.excerpts import spread
from pipelines.sync_training.loop import SyncTask
from pipelines.version import CODE_VERSION

if TYPE_CHECKING:
    from pipelines.sync_training.worker import SyncOutcome

WEIGHTS, CARD, CARD_TEXT = "syncnet.safetensors", "syncnet.json", "syncnet.md"
HISTORY, SUMMARY = "history.json", "summary.json"


def keep(
    config: SyncTrainConfig,
    settings: dict[str, Any],
    task: SyncTask,
    outcome: "SyncOutcome",
    store: Store,
    *,
    left_out: dict[str, int],
    command: str,
    started: float,
) -> dict[str, Any]:
    """Write the results; returns the summary, which is written last.

    Args:
        config: Of the run.
        settings: Those of them that change results, without credentials.
        task: What was trained.
        outcome: What came of it.
        store: The output.
        left_out: Reason -> videos without any usable clip.
        command: What was typed, without credentials; "" when nothing was.
        started: Seconds since 1970.
    """
    import torch

    from actors.sync_weights import trained_metadata
    from pipelines.sync_training.loop import build_net

    index, split = task.index, task.split
    judged = spread(split.val, config.validation.clips)
    metadata = trained_metadata(
        build_net(task),
        demonstration=config.demonstration,
        code_version=CODE_VERSION,
        corpus=index.digest,
    )
    tensors = {name: torch.from_numpy(array.copy()) for name, array in outcome.tensors.items()}
    data = tensor_file.pack(tensors, metadata)
    card = {
        "what": "SyncNet, learned from talking-face video without labels",
        "format": metadata["format"],
        "version": metadata["version"],
        "network": json.loads(metadata["network"]),
        "digest": hashlib.sha256(data).hexdigest()[:16],
        "bytes": len(data),
        "parameters": sum(t.numel() for n, t in tensors.items() if n.endswith(("weight", "bias"))),
        "demonstration": config.demonstration,
        "code_version": CODE_VERSION,
        "corpus": {
            "uri": strip_credentials(config.corpus.corpus or str(config.crops)),
            "digest": index.digest,
            "videos": len(index.videos),
            "clips": len(index),
            "learned_from": {"clips": len(split.train), "groups": names(task, split.train)},
            "validated_on": {"clips": len(judged), "groups": names(task, judged)},
            "split_by": split.by,
            "left_out_groups": list(config.split.left_out),
            "videos_without_a_usable_clip": left_out,
        },
        "commands": [command] if command else [],
        "best": {"step": outcome.best["step"]},
        "validation": outcome.reached,
        "settings": settings,
        "device": outcome.device,
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
    }
    store.write_bytes(HISTORY, json.dumps(outcome.history, indent=1).encode())
    store.write_bytes(WEIGHTS, data)
    store.write_bytes(CARD, json.dumps(card, indent=1).encode())
    store.write_bytes(CARD_TEXT, card_text(card).encode())
    summary = {
        "weights": WEIGHTS,
        "preset": config.preset,
        "code_version": CODE_VERSION,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 1),
        "steps": outcome.history["validations"][-1]["step"],
        **{name: card[name] for name in ("best", "validation", "corpus", "device", "bytes")},
    }
    store.write_bytes(SUMMARY, json.dumps(summary, indent=1).encode())
    return summary


def names(task: SyncTask, clips: Any, most: int = 50) -> list[str]:
    """Return the speakers of clips, or nothing where the split is by video and they are many."""
    found = sorted({task.split.group[v] for v in task.index.video[clips].tolist()})
    return found if len(found) <= most else []


def card_text(card: dict[str, Any]) -> str:
    """Write the card for a person, as Markdown."""
    from pipelines.report.markdown import Markup, table, text

    network, corpus = card["network"], card["corpus"]
    lines = [f"# {card['what']}", ""]
    if card["demonstration"]:
        lines += [
            "**Demonstration.** Trained on made-up faces and voices: for software, not for judging",
            "real video.",
            "",
        ]

    def side(what: str) -> str:
        part = corpus[what]
        groups = ", ".join(text(group) for group in part["groups"])
        return f"{part['clips']} clips" + (f" ({corpus['split_by']}: {groups})" if groups else "")

    figures = []
    for key, what in (("whole", "whole"), ("pieces", "in pieces")):
        v = card["validation"][key]
        shares = [Markup(f"{v[name]:.1%}") for name in ("exact", "foreign")]
        medians = [Markup(f"{v[name]:.2f}") for name in ("confidence", "distance")]
        figures.append((what, *shares, *medians, v["offsets"], v["trials"]))
    heads = ("validation clips", "offsets exact", "own sound preferred", "LSE-C", "LSE-D")
    settings = card["settings"]["validation"]
    size = f"{card['parameters']:,} parameters, {card['bytes'] / 1024:.0f} KiB"
    lines += [
        f"- Network: width {network['width']:g} of the published one, faces of {network['face']}",
        f"  pixels, embeddings of {network['embedding']} numbers; {size}.",
        f"- Learned from {side('learned_from')}, validated on {side('validated_on')}.",
        f"- Corpus digest `{corpus['digest']}`, code {card['code_version']}.",
        f"- Weights of step {card['best']['step']}, chosen by validation; {card['device']}.",
        "",
        *table((*heads, "offsets", "trials"), figures),
        "",
        f"Offsets of up to ±{settings['offset']} frames are injected into clips, whole and in",
        f"pieces of {settings['piece_s']:g} s, and found by the measure as the product takes it",
        "(parity mode); each clip is compared with itself under foreign sound. LSE-C and LSE-D",
        "are medians in sync: distances are scaled so that LSE-C of whole clips has its",
        "published order of size. The zero vector, which stands for sound beyond the ends of a",
        "clip, lies as far from lips as wrong sound does.",
        "",
    ]
    if card["commands"]:
        lines += ["```sh", *(command.replace("`", "'") for command in card["commands"]), "```", ""]
    return "\n".join(lines)


def told(summary: dict[str, Any], store: Store) -> str:
    """Describe a finished run for a person."""
    whole, pieces = summary["validation"]["whole"], summary["validation"]["pieces"]
    corpus, wall = summary["corpus"], duration(summary["wall_seconds"])
    preferred = f"own sound preferred {whole['foreign']:.1%}, {pieces['foreign']:.1%}"
    exact = f"{whole['exact']:.1%} of whole clips, {pieces['exact']:.1%} of pieces"
    step, size = summary["best"]["step"], f"{summary['bytes'] / 1024:.0f} KiB"
    clips = corpus["validated_on"]["clips"]
    lines = [
        f"{summary['preset']}: {summary['steps']} steps in {wall} ({summary['device']})",
        f"the weights of step {step} were kept",
        f"validation, {clips} clips: offsets found exactly {exact}; {preferred}",
        f"in sync: LSE-C {whole['confidence']:.2f}, LSE-D {whole['distance']:.2f}",
    ]
    lacking = corpus["videos_without_a_usable_clip"]
    if lacking:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(lacking.items()))
        lines.append(f"videos left out: {counts} (table: failures.parquet)")
    lines.append(f"weights: {store.display(WEIGHTS)} ({size}), for --sync-weights")
    lines.append(f"card: {store.display(CARD_TEXT)}")
    return "\n".join(lines)
