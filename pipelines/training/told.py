"""What a finished training run says on the terminal."""

import json
from typing import Any

from pipelines import evaluate
from pipelines.progress import duration
from pipelines.storage import Store


def told(summary: dict[str, Any], out: str) -> str:
    """Describe a finished run for a person, with the figures of its held-out split."""
    store = Store.at(out)
    metrics = json.loads(store.read_bytes(evaluate.NAME))
    videos, seconds = summary["videos"], summary["seconds"]
    what = (
        f"{summary['preset']}: {summary['epochs']} epochs, {summary['steps']} steps on "
        f"{videos['train']} videos in {duration(sum(seconds.values()))} ({summary['device']}); "
        f"epoch {summary['best']['epoch'] + 1} was kept"
    )
    lines = [
        evaluate.told(metrics, (summary["held_out"],)),
        "",
        what,
        f"checkpoint: {store.display('checkpoint')}",
        f"report: {store.display('report.html')}",
    ]
    if summary["incidents"]:
        lines.append(
            f"{summary['incidents']} steps with NaN or exploding gradients: see the report"
        )
    return "\n".join(lines)
