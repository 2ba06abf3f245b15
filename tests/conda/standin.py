"""A stand-in for conda: it answers what Snakemake asks, and makes environments out of the running interpreter.

An environment is a virtual environment in which nothing can be imported but the packages that its file names, at the
versions that it names, and what these ask for in turn. They are linked from the interpreter that runs this script, so
nothing is downloaded. A file that names a package or a version that is not installed here is refused, as conda refuses
what no channel has. The package `pip` is a stand-in too and does `python -m pip install --no-deps NAME==VERSION`.

Every process of an environment's Python adds a line to PREFIX/runs.log: its command and its PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NoReturn

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent
VERSION = "24.7.1"  # the oldest that Snakemake takes
LIBRARIES = {"fluidsynth"}
"""Packages of conda's own that are known but not made: what runs in these environments does not load them."""

PIP = f"""\
import sys

sys.path.append({str(ROOT)!r})
sys.path.extend({[path for path in sys.path if path]!r})  # what the stand-in itself needs

from standin import pip

pip(sys.prefix, sys.argv[1:])
"""

RECORDER = """\
import json, os, sys

with open(os.path.join(sys.prefix, "runs.log"), "a") as log:
    log.write(json.dumps({"command": sys.orig_argv, "pythonpath": os.environ.get("PYTHONPATH")}) + "\\n")
"""


def requirements(environment: dict[str, Any]) -> list[Requirement]:
    """The packages that pip is to install, of an environment file's content."""
    lists = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return [Requirement(line) for lines in lists for line in lines]


def closure(wanted: Iterable[Requirement]) -> dict[str, Distribution]:
    """The installed distributions of these requirements and of all that they require, by canonical name.

    Raises:
        LookupError: if one of them is not installed, or at another version than is asked for.
    """
    found: dict[str, Distribution] = {}
    extras: dict[str, set[str]] = {}
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in found and requirement.extras <= extras[name]:
            continue
        found[name] = _installed(requirement)
        extras.setdefault(name, set()).update(requirement.extras)
        for line in found[name].requires or []:
            further = Requirement(line)
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras[name]]):
                queue.append(further)
    return found


def _installed(requirement: Requirement) -> Distribution:
    try:
        installed = distribution(requirement.name)
    except PackageNotFoundError:
        raise LookupError(f"{requirement}: not installed beside {sys.executable}") from None
    public = Version(installed.version).public  # "2.13.0+cpu" serves as 2.13.0
    if not requirement.specifier.contains(public, prereleases=True):
        raise LookupError(f"{requirement}: {installed.version} is installed beside {sys.executable}")
    return installed


def create(file: Path, prefix: Path) -> None:
    """Make the environment of a file."""
    environment = yaml.safe_load(file.read_text(encoding="utf-8"))
    packages = closure(requirements(environment))
    names = {re.split("[ =<>!]", entry)[0] for entry in environment["dependencies"] if isinstance(entry, str)}
    if unknown := names - {"python", "pip"} - LIBRARIES:
        raise LookupError(f"{', '.join(sorted(unknown))}: the stand-in has no packages of conda's own")
    venv.create(prefix, symlinks=True)
    site = _site(prefix)
    # Not sitecustomize, as Debian's Python has one of its own, which comes first.
    (site / "recorder.py").write_text(RECORDER, encoding="utf-8")
    (site / "recorder.pth").write_text("import recorder\n", encoding="utf-8")
    if "pip" in names:
        (site / "pip").mkdir()
        (site / "pip" / "__init__.py").touch()
        (site / "pip" / "__main__.py").write_text(PIP, encoding="utf-8")
    for package in packages.values():
        _link(package, site)


def pip(prefix: str, words: list[str]) -> None:
    """`pip install --no-deps NAME==VERSION ...` into the environment."""
    if words[:2] != ["install", "--no-deps"]:
        _refuse(f"pip {' '.join(words)}")
    for word in words[2:]:
        _link(_installed(Requirement(word)), _site(Path(prefix)))


def _link(package: Distribution, site: Path) -> None:
    for source, target in _parts(package):
        target = site / target
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def _parts(package: Distribution) -> Iterator[tuple[Path, Path]]:
    """What to link: whole packages, and single files of folders that several distributions may share."""
    done = set()
    for file in package.files or []:
        parts = Path(file).parts
        if parts[0] in ("..", "__pycache__"):
            continue
        depth = 1
        top = Path(str(package.locate_file(parts[0])))
        if top.is_dir() and not (top / "__init__.py").exists():
            depth = 2
        part = Path(*parts[:depth])
        if part not in done:
            done.add(part)
            yield Path(str(package.locate_file(part))), part


def _site(prefix: Path) -> Path:
    return prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _refuse(what: str) -> NoReturn:
    sys.exit(f"stand-in conda: {what}: not known to the stand-in")


def main(words: list[str]) -> None:
    """Answer a command of Snakemake 9."""
    match words:
        case ["--version"]:
            print(f"conda {VERSION}")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(ROOT), "conda_version": VERSION, "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["clean", "-y", "--tarballs"]:
            pass  # there are none
        case ["env", "create", *options]:
            parser = argparse.ArgumentParser()
            parser.add_argument("--quiet", action="store_true")
            parser.add_argument("--no-default-packages", action="store_true")
            parser.add_argument("--file", type=Path, required=True)
            parser.add_argument("--prefix", type=Path, required=True)
            arguments = parser.parse_args(options)
            try:
                create(arguments.file, arguments.prefix)
            except LookupError as error:
                sys.exit(f"PackagesNotFoundError: {error}")
        case ["env", "export", "--prefix", prefix]:
            links = sorted(path.name for path in _site(Path(prefix)).glob("*.dist-info"))
            print(yaml.safe_dump({"prefix": prefix, "dependencies": links}))
        case _:
            _refuse(f"conda {' '.join(words)}")


if __name__ == "__main__":
    main(sys.argv[1:])
