"""The report page, rendered with a gallery of a test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gmsdi.study import report
from gmsdi.study.data_kinds import KINDS
from tests import REPO

TEMPLATE = REPO / "workflow" / "report" / "page.html.j2"


def rendered(folder: Path, rows: list[dict[str, str]], **changes: Any) -> str:
    """The page with one example of these rows, whose files lie in `folder`, and changes to its context."""
    sections = [{"title": "T", "text": "t", "examples": [{"title": "E", "rows": rows}]}]
    (folder / "gallery.json").write_text(json.dumps(sections))
    context = {
        "run": "test",
        "summary": "a & b",
        "data_note": KINDS["mini"].NOTE,
        "trainings": "Trained on: one & two.",
        "amounts": "8 chunks",
        "table1": ["<table>1</table>"],
        "table2": [],
        "chosen": "w",
        "figures": [
            {"title": "F", "image": "data:image/svg+xml;base64,AA==", "caption": "c", "table": "<table></table>"}
        ],
        "stems": "<table>4</table>",
        "coherence": "<table>3</table>",
        "negatives": ["<table>5</table>"],
        "gallery": report.gallery(folder),
        "provenance": [("Model", [("size", "1 MB")])],
        "settings": [("run", "seed: 1")],
        "training": None,
        "codecs": [],
        "engines": ["<table>6</table>"],
        "costs": None,
    }
    return report.render(TEMPLATE, context | changes)
