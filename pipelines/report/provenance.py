"""The section of a training report that says where a model comes from."""

import json
from collections.abc import Mapping
from typing import Any

from pipelines.report.html import DASH, Html, el, join
from pipelines.report.page import Cell, Column, code, details, facts, figure_cell, table


def provenance(card: Mapping[str, Any]) -> Html:
    """Show digests, weights, code version and settings of a model card."""
    details_of, data, source = card["model_details"], card["training_data"], card["provenance"]
    training = card["training"]
    shown = facts(
        {
            "trained": details_of["date"],
            "code version": details_of["code_version"],
            "training time": f"{training['seconds']:,.0f} s, {training['epochs']} epochs",
            "seed": training["seed"],
            "epoch chosen by": training["monitor"],
            "features": code(data["features"]),
            "fingerprint of the features": code(source["fingerprint"]),
            "labels": code(data["labels"]),
            "digest of the labels": code(data["labels_digest"]),
            "digest of the splits": code(card["evaluation_data"]["splits_digest"]),
            "digest of the settings": code(source["settings_digest"]),
            **{f"weights of {name}": code(digest) for name, digest in source["backbones"].items()},
            **{str(name): code(digest) for name, digest in source["files"].items()},
        }
    )
    explained = data["preprocessor"]["explained_variance"]
    rows = [
        [
            name,
            Cell(f"{stream['raw_width']:,}", stream["raw_width"]),
            Cell(f"{stream['width']:,}", stream["width"]),
            _share(explained.get(name)),
        ]
        for name, stream in details_of["streams"].items()
    ]
    columns = [Column("stream")]
    columns += [Column(name, "number") for name in ("stored", "read", "explained variance")]
    settings = json.dumps(source["settings"], indent=2, ensure_ascii=True)
    return join(
        [
            shown,
            el("h3", "Streams"),
            table(columns, rows, label="Streams and their widths"),
            details("All settings", el("pre", el("code", settings), class_="scroll", tabindex=0)),
        ]
    )


def _share(value: float | None) -> Cell:
    if value is None:
        return Cell(DASH)
    return Cell(f"{100 * value:.1f} %", figure_cell(value).sort)
