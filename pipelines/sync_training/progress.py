"""What a person sees while SyncNet is trained."""

from typing import Any

from pipelines.training.progress import StepLine


class SyncLine(StepLine):
    """Steps done, rate, time left, loss; a line for each validation.

    Args:
        steps: Of the whole run.
        stream: Where to write; default standard error.
    """

    def heard(self, kind: str, value: Any) -> None:
        """Take a message of :class:`pipelines.sync_training.loop.SyncRun`."""
        if kind == "resumed":
            self.say(f"goes on after step {value}")
            self.begin(value)
        elif kind == "progress":
            step, loss, least = value
            self._step(step, loss, "", f"shifts from {least} frames")
        elif kind == "validation":
            self._validation(value)
        else:
            self.say(str(value))

    def _validation(self, record: dict[str, Any]) -> None:
        whole, pieces = record["whole"], record["pieces"]
        mark = ", best so far" if record["best"] else ""
        self.say(
            f"step {record['step']}: offsets found exactly {whole['exact']:.1%} of whole clips, "
            f"{pieces['exact']:.1%} of pieces; own sound preferred {whole['foreign']:.1%}, "
            f"{pieces['foreign']:.1%}{mark}"
        )
