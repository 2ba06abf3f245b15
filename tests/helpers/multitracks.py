"""Stand-ins for folders of multi-tracks: tones that sound in known spans, so that what is read has a closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

MUSDB = {"Bass": ["bass.*"], "Drums": ["drums.*"], "Other": ["other.*"], "Vocals": ["vocals.*"]}
FREQUENCIES = {"bass": 110.0, "drums": 523.0, "other": 880.0, "vocals": 1400.0}
"""Far enough below half of the lowest rate that resampling leaves them as they are."""


def tone(frequency: float, seconds: float, rate: int, spans=None, amplitude: float = 0.2) -> np.ndarray:
    """float64 [T], sounding within `spans` (all the time without)."""
    time = np.arange(round(seconds * rate)) / rate
    sounds = np.ones(len(time), bool) if spans is None else np.zeros(len(time), bool)
    for onset, end in spans or []:
        sounds |= (time >= onset) & (time < end)
    return amplitude * sounds * np.sin(2 * np.pi * frequency * time)


def write(path: Path, audio: np.ndarray, rate: int, channels: int = 1) -> Path:
    """Of two channels the first has one and a half times the audio and the second a half, so that their mean is it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = audio if channels == 1 else np.stack([1.5 * audio, 0.5 * audio], axis=1)
    soundfile.write(path, samples, rate, **({"subtype": "PCM_16"} if path.suffix in (".wav", ".flac") else {}))
    return path


def write_musdb(root: Path, *, tracks=None, seconds: float = 4.0, rate: int = 44100) -> Path:
    """MUSDB18-HQ's layout; `tracks` are names of each split."""
    for split, names in (tracks or {"train": ["A - One", "B - Two", "C - Three"], "test": ["D - Four"]}).items():
        for number, name in enumerate(names):
            stems = {stem: tone(f * 2 ** (number / 12), seconds, rate) for stem, f in FREQUENCIES.items()}
            for stem, audio in {**stems, "mixture": sum(stems.values())}.items():
                write(root / split / name / f"{stem}.wav", audio, rate, 2)
    return root


def write_moisesdb(root: Path, *, tracks: int = 12, seconds: float = 4.0, rate: int = 44100) -> Path:
    """MoisesDB's layout: a folder for each kind of stem, files named by identifiers, and data.json."""
    for number in range(tracks):
        path = root / "moisesdb_v0.1" / f"{number:08x}-9c1e-4f4e-8a53"
        for stem, kinds in {"bass": 1, "drums": 2, "vocals": 1, "guitar": 1, "other_keys": 1}.items():
            frequency = FREQUENCIES.get(stem, FREQUENCIES["other"])
            for k in range(kinds):
                write(
                    path / stem / f"{k:08x}-6d0b.wav", tone(frequency * (1 + k), seconds, rate, amplitude=0.1), rate, 2
                )
        (path / "data.json").write_text("{}")
    return root
