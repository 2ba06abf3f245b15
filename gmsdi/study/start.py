"""Creates a folder to run the workflow in: a configuration, and a Snakefile that uses the installed workflow."""

from __future__ import annotations

from pathlib import Path

from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.study.config.files import DEMO, HOME, WEIGHTS, over_base, writable
from gmsdi.study.methods import METHODS
from gmsdi.study.names import slug
from gmsdi.study.setups import GMSDI

SNAKEFILE = """\
# Uses the workflow of the installed gmsdi. Add rules of your own below.
from gmsdi.study.config.files import HOME


configfile: "config/config.yaml"


module gmsdi:
    snakefile:
        str(HOME / "workflow" / "Snakefile")
    config:
        config


use rule * from gmsdi
"""
CONFIG = """\
# Overrides keys of the base, which is demo, another configuration that comes with gmsdi, or the path of a file.
# The configurations are {names}.
# Run `snakemake --cores 8` in this folder; results go to results/{run}.
base: {base}
run: {run}
"""
NO_BASELINES = """\
# The weights of the paper's other systems, the wheel gmsdi-baselines, are not installed. Remove this once they are.
separation: {{rows: {{{rows}}}}}
"""
NO_RUNS = ("paper", "tuning")
"""Configurations without a run of their own: the base of others, and searches."""
OTHERS = tuple(kind for kind, row in METHODS.items() if row.system_name() != GMSDI)
"""Kinds of rows that need models trained on separated stems. Rows that combine such rows are left out with them."""


def init(folder: str | Path, *, base: str = "demo") -> list[Path]:
    """Create the files of a folder for a run.

    Args:
        folder: may exist, but not contain these files. Its name becomes that of the run.
        base: name of the configuration to start from.

    Returns:
        The files.

    Raises:
        UserError: if there is no such base, a file already exists, or the folder cannot be written.
    """
    folder = Path(folder)
    known = {path.stem for path in (HOME / "config").glob("*.yaml")} - {Path(DEMO).stem, *NO_RUNS}
    if base != "demo" and base not in known:
        raise UserError(f"--base is {base!r}; choose demo or one of {', '.join(sorted(known))}")
    profile = Path("workflow", "profiles", "default", "profile.v9+.yaml")
    run = slug(folder.resolve().name).strip("_")[:100] or "mine"
    config = CONFIG.format(names=", ".join(sorted(known)), base=base, run=run)
    resolved = over_base({"base": base})
    every = {name: row for name, row in resolved["separation"]["rows"].items() if row}
    rows = [name for name, row in every.items() if row["kind"] in OTHERS]
    rows += [name for name, row in every.items() if not set(rows).isdisjoint(row.get("of", ()))]
    baselines = resolved.get("baselines", {})
    if rows and not (baselines.get("train") or baselines.get("folder") or (WEIGHTS / "baselines").is_dir()):
        config += NO_BASELINES.format(rows=", ".join(f"{name}: null" for name in rows))
    content = {
        "config/config.yaml": config,
        "workflow/Snakefile": SNAKEFILE,
        profile.as_posix(): (HOME / profile).read_text(encoding="utf-8"),
        ".gitignore": ".snakemake/\nresults/\n",
    }
    there = [folder / name for name in content if (folder / name).exists()]
    if there:
        raise UserError(f"{there[0]}: already exists; choose another folder, or remove it")
    writable(folder)
    for name, text in content.items():
        with atomic(folder / name) as file:
            file.write_text(text, encoding="utf-8")
    return [folder / name for name in content]
