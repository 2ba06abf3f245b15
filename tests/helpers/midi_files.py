"""Small MIDI files for tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import mido
import numpy as np

Event = tuple[int, mido.Message | mido.MetaMessage]


def midi(*tracks: Iterable[Event], ticks_per_beat: int = 480, kind: int = 1) -> bytes:
    """A MIDI file of these tracks; their events have absolute ticks."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track, last = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - last))
            last = tick
        file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def note(start: int, end: int, pitch: int, *, channel: int = 0, velocity: int = 90) -> list[Event]:
    return [
        (start, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)),
        (end, mido.Message("note_off", channel=channel, note=pitch)),
    ]


def program(number: int, *, channel: int = 0, tick: int = 0) -> Event:
    return tick, mido.Message("program_change", channel=channel, program=number)


def control(tick: int, number: int, value: int, *, channel: int = 0) -> Event:
    return tick, mido.Message("control_change", channel=channel, control=number, value=value)


def song(seed: int, *, bars: int = 8, transpose: int = 0, classes: Sequence[str] = ("Bass", "Drums", "Piano")) -> bytes:
    """A song of random notes: a bass line, drums and a piano."""
    rng = np.random.default_rng(seed)
    events: list[Event] = [program(33, channel=0), program(0, channel=1)]
    for beat in range(4 * bars):
        at = 480 * beat
        bass, chord, drum = rng.integers(30, 50), rng.integers(55, 80, 3), rng.choice([36, 38, 42])
        if "Bass" in classes:
            events += note(at, at + int(rng.integers(200, 480)), int(bass) + transpose, channel=0)
        if "Piano" in classes:
            for pitch in set(chord.tolist()):
                events += note(at, at + 400, int(pitch) + transpose, channel=1)
        if "Drums" in classes:
            events += note(at, at + 100, int(drum), channel=9)
    return midi(events)


def wad(path: Path, lumps: Sequence[tuple[str, bytes]], *, kind: bytes = b"PWAD") -> None:
    """A game archive of these lumps."""
    body, directory = b"", b""
    for name, data in lumps:
        directory += struct.pack("<ii8s", 12 + len(body), len(data), name.encode())
        body += data
    path.write_bytes(kind + struct.pack("<ii", len(lumps), 12 + len(body)) + body + directory)
