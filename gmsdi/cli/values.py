"""From what was typed to values: labels, LABEL=VALUE pairs, γ, settings; and checks of what will be written."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmsdi.errors import UserError
from gmsdi.types import file_names

if TYPE_CHECKING:
    from gmsdi.io.audio import Source
    from gmsdi.models.protocol import Model as AnyModel
    from gmsdi.models.protocol import Outline
    from gmsdi.models.registry import Named
    from gmsdi.sampling.solver import Guidance, Solver

SPREADING = ("--stems", "--rest", "--given", "--groups")
"""Options that take all values up to the next option."""


def spread(words: Sequence[str]) -> list[str]:
    """Repeat an option of `SPREADING` before each value that follows it; songs and folders are not labels.

    Raises:
        UserError: if a word is empty, such as an unset shell variable in quotes; or one is a file whose name begins
            like an option.
    """
    ended = False
    for before, word in zip(["gmsdi", *words], words, strict=False):
        ended = ended or word == "--"
        name, sign, value = word.partition("=")
        valued = bool(sign) and name.startswith("--")
        if not (value if valued else word).strip():
            raise UserError(f"an empty value after {name if valued else before}; give one, or leave it out")
        if word.startswith("-") and len(word) > 1 and not ended and os.path.isfile(word):
            raise UserError(f"{word}: a file whose name begins like an option; write ./{word}")
    result: list[str] = []
    option: str | None = None
    values = 0
    for word in [*words, "-"]:  # which ends the values of the last
        ends = word.startswith("-") or (option in ("--stems", "--rest") and _is_song(word, words))
        if option is not None and ends:
            if not values:
                result.append(option)  # without a value, for the parser to refuse
            option = None
        if option is not None:
            result += [option, word]
            values += 1
        elif word in SPREADING:
            option, values = word, 0
        else:
            result.append(word)
    return result[:-1]


def require_values(words: Sequence[str], valued: Collection[str]) -> None:
    """Refuse an option without its value, which would take the next option for it.

    Args:
        words: of the command line.
        valued: options that take a value.

    Raises:
        UserError: if there is one.
    """
    for before, word in pairwise(words):
        if before == "--":
            break
        if before in valued and word.startswith("--"):
            raise UserError(f"{before} is followed by {word}, not by a value; give one, or leave {before} out")


def _is_song(word: str, words: Sequence[str]) -> bool:
    """Whether a word among labels is a song, even one that is not there, or a folder."""
    from gmsdi.io.audio import SUFFIXES
    from gmsdi.models import registry

    if word.lower().endswith(SUFFIXES) or os.path.isfile(word):
        return True
    if not os.path.isdir(word):
        return False
    # A folder may be called like a stem.
    model = next((value for name, value in pairwise(words) if name in ("--model", "-m")), "mini")
    labels = (registry.config_of(model) or {}).get("labels") or ()
    return word.lower() not in {str(label).lower() for label in labels}


def labels_known(model: str) -> bool:
    """Whether the labels of a model can be known without loading it."""
    from gmsdi.models import registry

    return registry.config_of(model) is not None


def known_of(model: str, device: tuple[str, str]) -> tuple[Outline | AnyModel, Named | AnyModel]:
    """What is known of a model, and the model to work with: opened only if it says nothing of itself before.

    Args:
        model: its name.
        device: and precision.
    """
    from gmsdi.models.registry import Named

    named = Named(model, *device)
    outline = named.outline()
    if outline is not None:
        return outline, named
    opened = named.opened()
    return opened, opened


def listed(names: Sequence[str] | None) -> list[str] | None:
    """Labels, of which several may be in one text."""
    return None if names is None else [part.strip() for name in names for part in name.split(",") if part.strip()]


def require_place(
    signals: Sequence[tuple[str, int]],
    frames: int,
    sample_rate: int,
    out: Path,
    format: str,
    bits: str | None,
    given: Sequence[Source] = (),
) -> None:
    """Refuse, before any work, signals that could not be written to a folder.

    Args:
        signals: label and number of channels of each.
        frames: samples of a channel.
        sample_rate: in Hz.
        out: the folder.
        format: of the files.
        bits: of the files.
        given: files that must not be overwritten.

    Raises:
        UserError: if a place cannot be written to, the format cannot hold a signal, or the disk is too small.
    """
    from gmsdi.io.audio import Encoding
    from gmsdi.io.files import require_space, require_writable

    encoding = Encoding(format, bits)
    for _, channels in signals:
        encoding.require(sample_rate, channels, str(out))
    files = [out / f"{name}.{format}" for name in file_names(label for label, _ in signals).values()]
    require_writable(*files)
    for file in files:
        if file.exists() and any(file.samefile(source.name) for source in given):
            raise UserError(f"{file}: a given stem, which would be overwritten; choose another folder with --out")
    whole = sum(encoding.size(frames, sample_rate, channels) for _, channels in signals)
    require_space(out.absolute(), whole, f"writing {len(files)} files", advice="or choose another folder with --out")


def pairs_of(items: Sequence[str], option: str) -> dict[str, str]:
    """Values of the form LABEL=VALUE, as a mapping."""
    pairs = [item.partition("=") for item in items]
    for item, (key, _, value) in zip(items, pairs, strict=True):
        if not key.strip() or not value.strip():
            raise UserError(f"{option} {item!r}: write LABEL=VALUE")
    if len({key.strip().casefold() for key, *_ in pairs}) < len(items):
        raise UserError(f"{option} names one stem twice ({', '.join(key for key, *_ in pairs)}); give each once")
    return {key.strip(): value.strip() for key, _, value in pairs}


def sampling(
    solver: Solver, guidance: Guidance, steps: int | None, w: float | None, seed: int, negative: Sequence[str] | None
) -> dict[str, Any]:
    """The arguments that all tasks share: the task's own settings, with what the user changed."""
    return {
        "solver": solver if steps is None else replace(solver, steps=steps),
        "guidance": guidance if w is None else replace(guidance, w=w),
        "seed": seed,
        "negatives": pairs_of(negative or [], "--negative") or None,
    }


def gammas(gamma_x: str | None, gamma_y: str | None) -> dict[str, Any]:
    """The values of γ that were given; the task chooses the others."""
    from gmsdi.inference import gamma_from_text

    given = {"gamma_x": gamma_x, "gamma_y": gamma_y}
    return {
        name: gamma_from_text(text, f"--{name.replace('_', '-')}") for name, text in given.items() if text is not None
    }
