"""Settings of the data sets; they can be read without numpy or torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Len

from gmsdi.errors import UserError
from gmsdi.settings import About, As, Bounded, Count, NonNegative, Number, Positive, Share

if TYPE_CHECKING:
    from gmsdi.data.midi import Part

SPLITS = ("train", "validation", "test")
INSTRUMENTS = ("Bass", "Drums", "Guitar", "Piano")
"""Classes of the package's own composer."""
DRUMS, REST = "drums", "rest"
"""Members of a class of MIDI songs besides programs: the drum channel, and all programs of no other class."""
GAP = 1.0
"""Rests shorter than this many seconds do not interrupt an instrument's activity."""

Program = Annotated[int, Bounded(whole=True, ge=0, le=127)]
Decibels = Annotated[float, Bounded(le=0)]
Drawn = Annotated[float, Bounded(ge=0, lt=1)]
Sizes = Annotated[dict[str, NonNegative], Len(1)]


@dataclass
class MiniConfig:
    """Settings of the composed data set, see `gmsdi.data.mini`."""

    sample_rate: Annotated[int, About("sample rate of all audio, in Hz")] = 8000
    tracks: Annotated[dict[str, int], About("number of tracks of each split")] = field(
        default_factory=lambda: {"train": 400, "validation": 24, "test": 40}
    )
    sections: Annotated[
        Sequence[Count], Len(2, 2), About("smallest and largest number of four-bar sections in a track")
    ] = (6, 8)
    section_sizes: Annotated[
        dict[int, float], As(Sizes), About("number of instruments in a section (a key in quotes) to its probability")
    ] = field(default_factory=lambda: {1: 0.35, 2: 0.15, 3: 0.2, 4: 0.3})
    programs: Annotated[
        dict[str, list[int]],
        As(dict[str, Annotated[list[Program], Len(1)]]),
        About("instrument to the General MIDI programs that tracks draw from"),
    ] = field(default_factory=lambda: {"Bass": [32, 33, 38], "Guitar": [25, 27, 29], "Piano": [0, 3, 4]})
    kits: Annotated[
        list[int], As(Annotated[list[Program], Len(1)]), About("drum kits to draw from, programs of bank 128")
    ] = field(default_factory=lambda: [0, 24])
    loudness: Annotated[Number, About("integrated loudness of each stem in LUFS")] = -13.0
    target_peak: Annotated[Number, About("peak of a mix in dB relative to full scale")] = -1.0
    soundfont: Annotated[str | None, About("SoundFont 2 file; null: TimGM6mb of the pretty_midi package")] = None


@dataclass(frozen=True)
class Limits:
    """Limits on the size of a song."""

    size: Annotated[Count, About("largest file, in bytes")] = 4_000_000
    seconds: Annotated[Positive, About("greatest length, from the first note to the end of the last, in seconds")] = (
        1200.0
    )
    notes: Annotated[Count, About("most notes")] = 200_000


@dataclass(frozen=True)
class Variety:
    """How versions of a song differ from its file. The defaults play it unchanged."""

    swap: Annotated[
        Share, About("probability that a part is played by a random program of its class, or by a random kit")
    ] = 0.0
    transpose: Annotated[
        int, Bounded(whole=True, ge=0, le=24), About("most semitones up or down; drums stay unchanged")
    ] = 0
    tempo: Annotated[
        tuple[float, float],
        As(Annotated[list[Positive], Len(2, 2)]),
        About("smallest and largest factor of the tempo"),
    ] = (1.0, 1.0)
    level_db: Annotated[NonNegative, About("half-width of each part's random gain in dB")] = 0.0
    sections: Annotated[
        tuple[float, float] | None,
        As(Annotated[list[Annotated[float, Bounded(gt=0.5)]], Len(2, 2)] | None),
        About("shortest and longest section in seconds, in each of which some classes rest; null: no rests"),
    ] = None
    section_sizes: Annotated[
        Mapping[int, float],
        As(Sizes),
        About(
            "number of classes that play in a section (a key in quotes) to its probability; more than there are means "
            "all"
        ),
    ] = field(default_factory=lambda: {1: 0.4, 2: 0.15, 3: 0.18, 4: 0.27})


@dataclass(frozen=True)
class MidiConfig:
    """Settings of a data set of MIDI songs, see `gmsdi.data.midi_dataset`.

    Attributes:
        classes: for each label, its members: numbers or ranges of General MIDI programs from 0 ("32-39"), "drums", or
            "rest" for everything in no other class. Parts of no class are left out.
        soundfonts: .sf2 or .sf3 files, one of which is drawn for each part; "TimGM6mb" is that of the pretty_midi
            package.
        sample_rate: of the audio, in Hz.
        versions: number of versions of each song, by split.
        variety: how the versions differ.
        split_shares: shares of the splits among the songs of sources that are not sorted into splits.
        limits: limits on the size of a song.
    """

    classes: Mapping[str, Sequence[str | int]]
    soundfonts: Sequence[str]
    sample_rate: int = 8000
    channels: Annotated[Literal[1, 2], About("audio channels of the rendered stems; windows are mono in any case")] = 1
    kits: Annotated[Sequence[Program], About("drum kits that a swapped drum part draws from")] = (
        0, 8, 16, 24, 25, 32, 40,
    )  # fmt: skip
    required: Annotated[Sequence[str], About("labels that a song must have; songs without them are left out")] = ()
    least_classes: Annotated[Count, About("fewest classes that a song must have")] = 2
    rms_db: Annotated[
        Decibels, About("root mean square of a mix where it sounds, in dB relative to full scale")
    ] = -20.0
    target_peak: Annotated[
        Decibels,
        About("highest peak of a mix in dB relative to full scale; a mix that would exceed it is made quieter"),
    ] = -1.0
    versions: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 1))
    variety: Variety = field(default_factory=Variety)
    varied: Annotated[
        Sequence[str],
        As(list[Literal["train", "validation", "test"]]),
        About("the splits whose songs are varied; the others play songs unchanged"),
    ] = ("train",)
    split_shares: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1})
    limits: Limits = field(default_factory=Limits)
    time_limit: Annotated[Positive, About("most seconds that reading or playing a song may take")] = 120.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> MidiConfig:
        """Build the settings from the configuration's nested mappings."""
        variety = dict(settings.get("variety", {}))
        sizes = {int(size): share for size, share in variety.pop("section_sizes", {}).items()}
        variety |= {"section_sizes": sizes} if sizes else {}
        variety |= {key: tuple(variety[key]) for key in ("tempo", "sections") if variety.get(key)}
        limits = Limits(**settings.get("limits", {}))
        return cls(**{**settings, "variety": Variety(**variety), "limits": limits})

    def programs(self) -> dict[str, list[int]]:
        """The General MIDI programs of each class, without those of "rest".

        Raises:
            UserError: if a member of a class is invalid, or two classes share one.
        """
        found: dict[str, list[int]] = {}
        owner: dict[str | int, str] = {}
        for label, members in self.classes.items():
            found[label] = []
            for member in members:
                numbers = [member] if member in (DRUMS, REST) else _range(label, member)
                for number in numbers:
                    if owner.setdefault(number, label) != label:
                        raise UserError(f"data.classes: {number} belongs to both {owner[number]} and {label}")
                    if isinstance(number, int):
                        found[label].append(number)
        return found

    def label_of(self, part: Part) -> str | None:
        """The class of a part; None if it belongs to no class."""
        programs = self.programs()
        rest = next((label for label, members in self.classes.items() if REST in members), None)
        if part.drums:
            return next((label for label, members in self.classes.items() if DRUMS in members), rest)
        return next((label for label, numbers in programs.items() if part.program in numbers), rest)


@dataclass(frozen=True)
class Activity:
    """How the spans in which a stem sounds are found from its audio."""

    frame: Annotated[Positive, About("length of a frame in seconds, the precision of onsets and ends")] = 0.05
    range_db: Annotated[
        Positive, About("a frame is a rest if it is more than this many dB fainter than the stem's loud frames")
    ] = 35.0
    floor_db: Annotated[
        Decibels, About("a frame is also a rest if its root mean square is below this, in dB relative to full scale")
    ] = -60.0
    gap: Annotated[NonNegative, About("rests shorter than this many seconds do not count")] = GAP


@dataclass(frozen=True)
class Splits:
    """Which tracks belong to which split.

    A pattern names a track by its folder below the root, or all tracks below a folder: `train`, `test/A*`. Tracks in
    the lists of validation and test belong to these splits. Shares are drawn from the remaining tracks (if train is a
    list: from those that it names), and the rest are for training. Each track is drawn independently, so that no track
    moves when others are added.
    """

    train: Annotated[
        Annotated[Sequence[str], Len(1)] | None,
        About("a list, from which shares are then drawn; null: all tracks that validation and test leave"),
    ] = None
    validation: Annotated[Drawn | Sequence[str], About("a share or a list")] = 0.1
    test: Annotated[Drawn | Sequence[str], About("a share or a list")] = 0.2
    seed: Annotated[int, About("seed of the draw")] = 1


def _range(label: str, member: str | int) -> list[int]:
    low, _, high = str(member).partition("-")
    if low.isdigit() and (not high or high.isdigit()):
        numbers = range(int(low), int(high or low) + 1)
        if len(numbers) and numbers[-1] < 128:
            return list(numbers)
    raise UserError(
        f"data.classes.{label}: {member!r} is not a General MIDI program (0 to 127), a range of them like 32-39, "
        f"{DRUMS!r} or {REST!r}"
    )
