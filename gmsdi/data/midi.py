"""MIDI files from anywhere: found in folders and game archives, read within limits, and compared by their notes.

Nothing here trusts a file. A file that is broken, empty, endless or hostile raises `Unplayable` with the reason, within
the bounds of `Limits`.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.data.settings import Limits
from gmsdi.errors import UserError

if TYPE_CHECKING:
    import mido

DRUM_CHANNEL = 9
SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
ARCHIVES = (".wad",)
"""Game archives; each MIDI lump in one is a song."""
PASSED = frozenset({1, 6, 7, 10, 11, 38, 64, 66, 67, 100, 101})
"""Controllers passed on to the synthesizer: modulation, volume, pan, expression, pedals, and the pitch bend range."""
PEDAL = 64
_SOUND_OFF, _NOTES_OFF = 120, 123
_WINDOW = 6  # notes per shingle
_HASHES, _BANDS = 96, 24  # of the MinHash
_PRIME = (1 << 31) - 1


class Unplayable(Exception):
    """A MIDI file that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class SongFile:
    """Location of a song.

    Attributes:
        path: a MIDI file, or an archive of MIDI files.
        member: the song's name in the archive; "" for a MIDI file.
    """

    path: Path
    member: str = ""

    def read(self, limits: Limits) -> bytes:
        """Read the bytes of the MIDI file.

        Raises:
            Unplayable: if the file cannot be read or is too large.
        """
        try:
            if self.member:
                return dict(_lumps(self.path, limits))[self.member]
            if self.path.stat().st_size > limits.size:
                raise Unplayable(f"larger than {limits.size} bytes")
            return self.path.read_bytes()
        except (OSError, KeyError) as error:
            raise Unplayable(f"cannot be read ({getattr(error, 'strerror', None) or 'no such lump'})") from error


@dataclass
class Part:
    """The notes that one channel of a song plays with one program.

    Attributes:
        channel: number from 0, over all ports.
        program: General MIDI program from 0; for a drum kit its number.
        drums: whether it is the drum channel.
        notes: float64 `[n, 4]`: onset and end in seconds, pitch, velocity; sorted by onset.
        controls: (seconds, controller, value) of the channel, only for the controllers in `PASSED`.
        bends: (seconds, value from -8192 to 8191) of the channel.
    """

    channel: int
    program: int
    drums: bool
    notes: np.ndarray
    controls: list[tuple[float, int, int]] = field(default_factory=list)
    bends: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class Song:
    """A song that can be played.

    Attributes:
        parts: the parts that have notes, sorted by channel and program.
        seconds: end of the last note.
        beats: float64 `[notes, 4]`: onset and length in quarter notes, pitch, channel; of all notes except drums.
    """

    parts: list[Part]
    seconds: float
    beats: np.ndarray


def song_files(root: str | Path) -> list[Path]:
    """The MIDI files and game archives below a folder, sorted by name, or the one file that `root` is."""
    root = Path(root).expanduser()
    paths = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    return [path for path in paths if path.suffix.lower() in (*SUFFIXES, *ARCHIVES)]


def find_songs(root: str | Path) -> list[SongFile]:
    """Find all MIDI files below a folder, and the MIDI lumps of all game archives, sorted by name.

    `root` may also be a single such file.

    Raises:
        UserError: if there is no such folder or file, or it holds no song.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise UserError(f"{root}: no such folder or file; name a folder of MIDI files")
    found = []
    for path in song_files(root):
        if path.suffix.lower() in SUFFIXES:
            found.append(SongFile(path))
        else:
            found += [SongFile(path, name) for name, _ in _lumps(path, Limits())]
    if not found:
        raise UserError(f"{root}: no MIDI file ({', '.join(SUFFIXES)}) and no archive of them ({', '.join(ARCHIVES)})")
    return found


def read_song(data: bytes, limits: Limits | None = None) -> Song:
    """Read a MIDI file of type 0 or 1.

    Args:
        data: the bytes of the file; a RIFF container (`.rmi`) is opened.
        limits: limits on the song; None means the defaults.

    Raises:
        Unplayable: if it is not such a file, has no notes, or exceeds the limits.
    """
    import io

    import mido

    limits = limits or Limits()
    if len(data) > limits.size:
        raise Unplayable(f"larger than {limits.size} bytes")
    if not data:
        raise Unplayable("empty file")
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        start = data.find(b"MThd")
        data = data[max(0, start) :]
    if data[:4] != b"MThd":
        raise Unplayable("not a MIDI file")
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:  # mido raises many unrelated types on malformed input
        raise Unplayable(f"malformed MIDI file ({type(error).__name__})") from error
    if file.type == 2:
        raise Unplayable("MIDI file of type 2, whose tracks are separate songs")
    if not 0 < file.ticks_per_beat < 0x8000:
        raise Unplayable("has no beats (SMPTE time)")
    return _played(_events(file), file.ticks_per_beat, limits)


def _events(file: mido.MidiFile) -> list[tuple[int, int, mido.Message]]:
    """The events (tick, channel over all ports, message) of all tracks, sorted by time."""
    events: list[tuple[int, int, mido.Message]] = []
    for track in file.tracks:
        tick, port = 0, 0
        for message in track:
            tick += message.time
            if message.type == "midi_port":
                port = int(message.port)
            elif message.type == "set_tempo" or hasattr(message, "channel"):
                channel = 16 * port + message.channel if hasattr(message, "channel") else -1
                events.append((tick, channel, message))
    return sorted(events, key=lambda event: event[0])


def _played(events: Sequence[tuple[int, int, mido.Message]], ticks_per_beat: int, limits: Limits) -> Song:
    notes: dict[tuple[int, int], list[tuple[float, float, int, int]]] = defaultdict(list)
    controls: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    bends: dict[int, list[tuple[float, int]]] = defaultdict(list)
    beats: list[tuple[float, float, int, int]] = []
    program: dict[int, int] = defaultdict(int)
    # Sounding notes by channel and pitch: (tick, seconds, velocity, program); the first to begin ends first.
    sounding: dict[tuple[int, int], list[tuple[int, float, int, int]]] = defaultdict(list)
    pace = 500_000e-6 / ticks_per_beat
    seconds, last, count = 0.0, 0, 0

    def end(channel: int, pitch: int, tick: int, *, every: bool = False) -> None:
        held = sounding[channel, pitch]
        while held:
            began, onset, velocity, played_by = held.pop(0)
            if tick > began:
                notes[channel, played_by].append((onset, seconds, pitch, velocity))
                if channel % 16 != DRUM_CHANNEL:
                    beats.append((began / ticks_per_beat, (tick - began) / ticks_per_beat, pitch, channel))
            if not every:
                return

    first: float | None = None
    for tick, channel, message in events:
        seconds += (tick - last) * pace
        last = tick
        kind = message.type
        if first is not None and seconds - first > limits.seconds:
            raise Unplayable(f"longer than {limits.seconds:g} s")
        if kind == "set_tempo":
            pace = message.tempo * 1e-6 / ticks_per_beat
        elif kind == "note_on" and message.velocity > 0:
            count += 1
            if count > limits.notes:
                raise Unplayable(f"more than {limits.notes} notes")
            first = seconds if first is None else first
            sounding[channel, message.note].append((tick, seconds, message.velocity, program[channel]))
        elif kind in ("note_off", "note_on"):
            end(channel, message.note, tick)
        elif kind == "program_change":
            program[channel] = message.program
        elif kind == "pitchwheel":
            bends[channel].append((seconds, message.pitch))
        elif kind == "control_change" and message.control in PASSED:
            controls[channel].append((seconds, message.control, message.value))
        elif kind == "control_change" and message.control in (_SOUND_OFF, _NOTES_OFF):
            for own, pitch in [key for key in sounding if key[0] == channel]:
                end(own, pitch, tick, every=True)
    for channel, pitch in list(sounding):
        end(channel, pitch, last, every=True)
    parts = [
        Part(channel, number, channel % 16 == DRUM_CHANNEL, np.array(sorted(found)), controls[channel], bends[channel])
        for (channel, number), found in sorted(notes.items())
    ]
    if not parts:
        raise Unplayable("has no notes")
    return Song(parts, max(float(part.notes[:, 1].max()) for part in parts), np.array(beats).reshape(-1, 4))


def digest_of(song: Song) -> str:
    """A digest that is equal for files with the same notes, whatever their header, tempo, velocities and programs.

    Drums are compared by onset, in seconds relative to the song's length; other notes by pitch and by onset and length
    in 24ths of a beat.
    """
    grid = np.round(song.beats[:, :3] * [24, 24, 1]).astype(np.int64)
    drums = [
        np.round(part.notes[:, [0, 2]] * [4096 / max(song.seconds, 1e-9), 1]).astype(np.int64)
        for part in song.parts
        if part.drums
    ]
    text = np.unique(grid, axis=0).tobytes() + b"|" + b"|".join(np.unique(part, axis=0).tobytes() for part in drums)
    return hashlib.sha256(text).hexdigest()[:16]


def signature_of(song: Song) -> np.ndarray:
    """MinHash of the song's figures, int64 `[96]`: the share of equal entries estimates the share of common figures.

    A figure is `_WINDOW` successive notes of a channel: their intervals, and the distances of their onsets in 12ths of
    a beat, so that key, tempo and instruments do not matter. Songs of drums alone are compared by their drums.
    """
    figures = set()
    lines = [song.beats[song.beats[:, 3] == channel] for channel in np.unique(song.beats[:, 3])]
    if not lines:
        lines = [part.notes[:, [0, 1, 2, 3]] * [2, 2, 1, 0] for part in song.parts]  # as at 120 beats a minute
    for line in lines:
        line = line[np.lexsort((line[:, 2], line[:, 0]))]
        moves = np.stack([np.diff(line[:, 2]), np.round(np.diff(line[:, 0]) * 12)], axis=1).astype(np.int64)
        for start in range(len(moves) - _WINDOW + 2):
            figures.add(
                int.from_bytes(
                    hashlib.blake2b(moves[start : start + _WINDOW - 1].tobytes(), digest_size=4).digest(), "big"
                )
            )
    if not figures:
        figures = {int(digest_of(song)[:7], 16)}
    values = np.array(sorted(figures), dtype=np.int64) % _PRIME
    factors, offsets = _hashes()
    lowest = np.full(_HASHES, _PRIME, np.int64)
    for some in np.array_split(values, max(1, len(values) // 4096)):
        lowest = np.minimum(lowest, ((some[:, None] * factors + offsets) % _PRIME).min(axis=0))
    return lowest


@lru_cache(maxsize=1)
def _hashes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(1, _PRIME, _HASHES, dtype=np.int64), rng.integers(0, _PRIME, _HASHES, dtype=np.int64)


def group_songs(signatures: Sequence[np.ndarray], alike: float = 0.4) -> list[int]:
    """Group songs that share at least `alike` of their figures, since they are probably the same song.

    Candidates come from locality-sensitive hashing, so that a hundred thousand songs take seconds.

    Args:
        signatures: see `signature_of`.
        alike: smallest share of common figures for two files to count as one song.

    Returns:
        For each song, the index of the first song of its group.
    """
    parent = list(range(len(signatures)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    width = _HASHES // _BANDS
    for band in range(_BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index, signature in enumerate(signatures):
            key = signature[band * width : (band + 1) * width].tobytes()
            for other in buckets[key][:8]:
                if root(other) != root(index) and np.mean(signatures[other] == signature) >= alike:
                    low, high = sorted((root(other), root(index)))
                    parent[high] = low
            buckets[key].append(index)
    return [root(index) for index in range(len(signatures))]


def _lumps(path: Path, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the MIDI lumps of a WAD file; repeated names are numbered.

    The format: a header with the number of lumps and the offset of their directory, whose entries are offset, size, and
    name in eight bytes (The Unofficial Doom Specs, chapter 2).
    """
    try:
        with path.open("rb") as file:
            header = file.read(12)
            if len(header) < 12 or header[:4] not in (b"IWAD", b"PWAD"):
                return
            count, offset = struct.unpack_from("<ii", header, 4)
            size = path.stat().st_size
            if not (count >= 0 and 12 <= offset <= size and 16 * count <= size - offset):
                return
            file.seek(offset)
            directory = file.read(16 * count)
            seen: dict[str, int] = defaultdict(int)
            for start, length, raw in struct.iter_unpack("<ii8s", directory):
                if not (start >= 0 and 14 <= length <= limits.size and start + length <= size):
                    continue
                file.seek(start)
                if file.read(4) != b"MThd":
                    continue
                file.seek(start)
                name = raw.split(b"\0")[0].decode("ascii", "replace")
                seen[name] += 1
                yield name if seen[name] == 1 else f"{name}~{seen[name]}", file.read(length)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
