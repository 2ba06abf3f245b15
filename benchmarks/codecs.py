"""How additive a codec of latents can be made: publishes the table of config/codecs.yaml.

    python -m benchmarks.codecs    # docs/codecs.csv, and its table in docs/codecs.md

After the command in that file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import fill
from gmsdi.io.files import atomic

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "results" / "codecs" / "tables" / "codecs"
FILE, PAGE = ROOT / "docs" / "codecs.csv", ROOT / "docs" / "codecs.md"


def main(given: Sequence[str] | None = None) -> None:
    """Copy the file, and write the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(given)
    fill("codecs", TABLE.with_suffix(".md").read_text(encoding="utf-8").strip().splitlines()[2:], PAGE)
    with atomic(FILE) as path:
        path.write_bytes(TABLE.with_suffix(".csv").read_bytes())


if __name__ == "__main__":
    main()
