"""MMA (Musical MIDI Accompaniment, https://www.mellowood.ca/mma): the program and its library of grooves.

MMA is licensed under the GPL, version 2; it is run as a program, and nothing of it is copied. Its library files of
grooves are divided among the splits, so that the grooves of test songs are unseen in training.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gmsdi.data.notes import TICKS_PER_BEAT, Note
from gmsdi.data.songs.score import Part, once_each
from gmsdi.errors import UserError

_TIME_LIMIT = 60.0  # seconds for a run of MMA, which takes 0.1
_SHARES = {"train": 0.75, "validation": 0.1, "test": 0.15}  # of the groove library
# Files without music: counts, clicks, and files of intros or endings only.
_NOT_MUSIC = re.compile(r"^(none|metronome.*|count|intro|ending)$")
_VARIANT = {
    "fill": re.compile(r"fill", re.IGNORECASE),
    "intro": re.compile(r"intro", re.IGNORECASE),
    "ending": re.compile(r"end(ing)?[0-9a-d]*(plus|sus)*$|ending", re.IGNORECASE),
}
_SHORT_VARIANT = {"fill": re.compile(r"[a-z0-9]F[A-D]$"), "ending": re.compile(r"[a-z0-9]E$")}  # of the folder pflib


@dataclass(frozen=True)
class ArrangedSettings:
    """Settings of arranged songs.

    Attributes:
        bars: smallest and largest number of bars.
        seconds: shortest and longest length, applied within the limits of `bars`.
        joined: probability that a player joins for a class that the arrangement lacks.
        lines: probability of a line (a lead, a riff, runs) on guitar or piano over the arrangement.
        percussion: probability of more percussion, crashes and fills over the arrangement's drums.
        program: name or path of MMA's program.
        library: folder of MMA's grooves; None finds the one installed with the program.
    """

    bars: tuple[int, int] = (24, 48)
    seconds: tuple[float, float] = (36.0, 80.0)
    joined: float = 0.85
    lines: float = 0.45
    percussion: float = 0.4
    program: str = "mma"
    library: str | None = None


@dataclass(frozen=True)
class Groove:
    """A groove of MMA's library.

    Attributes:
        file: library file, relative to the library's folder.
        name: name in its `DefGroove` line.
        beats: beats per bar, which MMA counts as quarters.
        variant: "main", "fill", "intro" or "ending".
    """

    file: str
    name: str
    beats: int
    variant: str


class Refused(Exception):
    """MMA did not make an arrangement of a chart."""


def find_mma(settings: ArrangedSettings) -> tuple[Path, Path]:
    """Find the program and the folder of its grooves.

    Raises:
        UserError: if either is missing.
    """
    found = shutil.which(settings.program)
    if found is None:
        raise UserError(
            f"arranged songs need MMA, but the program {settings.program!r} is not on the path; install it "
            "(Debian, Ubuntu: apt-get install mma; others: https://www.mellowood.ca/mma) or use other kinds of songs"
        )
    program = Path(found).resolve()
    if settings.library is not None:
        places = [Path(settings.library)]
    else:
        places = [program.parent / "lib", program.parent.parent / "share/mma/lib", Path("/usr/share/mma/lib"),
                  Path("/usr/local/share/mma/lib")]  # fmt: skip
    for place in places:
        if next(place.glob("*/*.mma"), None):
            return program, place.resolve()
    raise UserError(f"{places[0]}: no groove library of MMA found; install MMA with its library (apt-get install mma)")


def _environment() -> dict[str, str]:
    """The environment without this Python's variables, since MMA runs under another, whose hashing must not vary."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@lru_cache(maxsize=4)
def mma_version(program: Path) -> str:
    """The version that `mma -v` prints."""
    run = subprocess.run(
        [str(program), "-v"], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=_TIME_LIMIT, check=False,
    )  # fmt: skip
    numbers = re.findall(r"\d+\.\d+\S*", run.stdout)
    if run.returncode or not numbers:
        raise UserError(
            f"{program}: `mma -v` does not print a version; check that it is MMA (Musical MIDI Accompaniment)"
        )
    return str(numbers[-1])


@lru_cache(maxsize=4)
def library(folder: Path) -> dict[str, tuple[Groove, ...]]:
    """The grooves of each library file that has at least one main groove."""
    result = {}
    for path in sorted(folder.glob("*/*.mma")):
        if _NOT_MUSIC.match(path.stem.lower()):
            continue
        grooves = read_grooves(path.read_text("latin-1"), path.relative_to(folder).as_posix())
        if any(groove.variant == "main" for groove in grooves):
            result[path.relative_to(folder).as_posix()] = grooves
    return result


def read_grooves(text: str, file: str) -> tuple[Groove, ...]:
    """The grooves that a library file defines, each with the metre of the last `Time` line before it."""
    beats = 4
    found: dict[str, Groove] = {}
    short = file.startswith("pflib/")
    inside_doc = False
    for line in text.splitlines():
        words = line.split("//")[0].split()
        if not words:
            continue
        command = [word.lower() for word in words[:2]]
        if command == ["begin", "doc"]:
            inside_doc = True
        elif command[0] == "end":
            inside_doc = False
        elif inside_doc:
            continue
        elif command[0] == "time" and (number := re.match(r"\d+", "".join(words[1:2]))):
            beats = int(number[0])
        elif command[0] == "defgroove" and len(words) > 1:
            name = words[1]
            kinds = [kind for kind, pattern in _VARIANT.items() if pattern.search(name)]
            kinds += [kind for kind, pattern in _SHORT_VARIANT.items() if short and pattern.search(name)]
            found[name.lower()] = Groove(file, name, beats, kinds[0] if kinds else "main")
    return tuple(found.values())


def split_of(file: str) -> str:
    """The split whose songs may use a library file; files of one style ("rock1", "rock2") are in one split."""
    style = re.sub(r"[\d.]+$", "", Path(file).stem.lower().removesuffix(".s280")) or Path(file).stem
    digest = hashlib.sha256(f"gmsdi groove library 1: {style}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < _SHARES["test"]:
        return "test"
    return "validation" if place < _SHARES["test"] + _SHARES["validation"] else "train"


def library_stamp(settings: ArrangedSettings) -> dict[str, str]:
    """What songs depend on besides the settings: MMA's version and the contents of its library."""
    program, folder = find_mma(settings)
    digest = hashlib.sha256()
    for file in sorted(library(folder)):
        digest.update(file.encode() + b"\0" + (folder / file).read_bytes() + b"\0")
    return {"mma": mma_version(program), "library": digest.hexdigest()[:16]}


def run_mma(text: str, settings: ArrangedSettings) -> list[Part]:
    """Let MMA arrange a chart; returns the parts, in ticks of this package.

    Raises:
        Refused: if MMA makes no arrangement or takes too long.
        UserError: if the program is missing.
    """
    import symusic

    program, _ = find_mma(settings)
    with tempfile.TemporaryDirectory(prefix="gmsdi-mma-") as private:
        # Neither the user's own MMA settings nor Python's hashing may change the result.
        (Path(private) / "empty.mma").write_text("")
        (Path(private) / "chart.mma").write_text(text)
        command = [str(program), "-w", "-i", "empty.mma", "-f", "out.mid", "chart.mma"]
        environment = {**_environment(), "HOME": private}
        try:
            run = subprocess.run(
                command, cwd=private, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=_TIME_LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"took more than {_TIME_LIMIT:.0f} s") from error
        path = Path(private) / "out.mid"
        if run.returncode or not path.exists():
            output = " ".join((run.stdout + run.stderr).split())
            raise Refused(output[output.find("Error") :][:200])
        score = symusic.Score(str(path))
    factor = TICKS_PER_BEAT / score.ticks_per_quarter
    parts = []
    for track in score.tracks:
        # symusic makes one track per program of a channel, so a part that changes its program becomes several.
        notes = [
            Note(round(n.time * factor), max(round(n.time * factor) + 12, round(n.end * factor)), n.pitch, n.velocity)
            for n in track.notes
        ]
        controls = [
            (round(c.time * factor), c.number, c.value) for c in track.controls if c.number in (1, 7, 10, 11, 64)
        ]
        bends = [(round(b.time * factor), b.value) for b in track.pitch_bends]
        if notes:
            parts.append(Part(track.name, track.program, once_each(notes), track.is_drum, controls, bends))
    return parts
