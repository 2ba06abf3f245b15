"""The built-in data set "mini": composed pieces, rendered with a SoundFont, in the folder layout of Slakh2100.

Every track is a function of (seed, split, index) and the configuration alone, so tracks can be made in any order and in
parallel, and an interrupted run continues where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.data.composer import Piece, compose
from gmsdi.data.instruments import CLOSED_HAT, CRASH, KICK, OPEN_HAT, RIDE
from gmsdi.data.notes import TICKS_PER_BEAT
from gmsdi.data.settings import INSTRUMENTS, SPLITS, MiniConfig
from gmsdi.data.soundfont import SoundFont, Tone
from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.io.processes import in_processes

if TYPE_CHECKING:
    import symusic

VERSION = 1  # of the music and its sound; raise it with every change, so that no folder mixes two versions
_LONGEST = 6.0  # seconds of a tone that are rendered
_SHORTEST_RELEASE, _LONGEST_RELEASE = 0.05, 0.25  # seconds to fall by 100 dB; short, so that sections end audibly
# Cymbals have little energy below 4 kHz and would vanish at this data set's low sample rate, so their energy is set, in
# dB relative to the kick drum of the same kit.
_CYMBALS = {CLOSED_HAT: -14.0, OPEN_HAT: -10.0, RIDE: -12.0, CRASH: -5.0}


def compose_dataset(
    root: str | Path,
    config: MiniConfig,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> None:
    """Write the data set to `root`/{train,validation,test}/Track00001/…; complete tracks are kept.

    Args:
        root: the data set's folder.
        config: see `MiniConfig`.
        seed: the same seed and configuration give the same bytes.
        progress: called with (tracks done, tracks in all).
        workers: number of processes.

    Raises:
        UserError: if `root` holds a data set composed with other settings or by another version, or if the
            configuration is invalid.
    """
    root = Path(root)
    _check(config)
    settings = json.dumps({"version": VERSION, "seed": seed, **asdict(config)}, indent=1, sort_keys=True) + "\n"
    stamp = root / "mini.json"
    if stamp.exists() and stamp.read_text() != settings:
        raise UserError(f"{root}: holds a data set composed with other settings; delete it or choose another folder")
    if not stamp.exists():
        with atomic(stamp) as temporary:
            temporary.write_text(settings)
    jobs = [
        (root, config, seed, split, index)
        for split in SPLITS
        for index in range(config.tracks.get(split, 0))
        if not (root / split / _name(split, index, config)).is_dir()
    ]
    total = sum(config.tracks.values())
    done = total - len(jobs)
    if progress:
        progress(done, total)
    for _ in in_processes(_write_track, jobs, workers):
        done += 1
        if progress:
            progress(done, total)


def compose_track(config: MiniConfig, *, seed: int, split: str, index: int) -> Piece:
    """Compose the piece of track `index` (from 0) of `split`."""
    # Each split has its own branch of the seed's tree, so that splits never share a piece.
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(SPLITS.index(split), index))
    low, high = config.sections
    return compose(
        np.random.default_rng(sequence),
        sections=(low, high),
        section_sizes={int(size): p for size, p in config.section_sizes.items()},
        programs=config.programs,
        kits=config.kits,
    )


def render(piece: Piece, config: MiniConfig) -> dict[str, np.ndarray]:
    """Render each instrument's audio, float32 `[T]`, at the SoundFont's own level."""
    path = config.soundfont or default_soundfont()
    length = round((piece.seconds(piece.ticks) + 0.5) * config.sample_rate)
    audio = {}
    for name, notes in piece.notes.items():
        out = np.zeros(length + round(_LONGEST * config.sample_rate), np.float32)
        bank = 128 if name == "Drums" else 0
        for note in notes:
            tone = _tone(path, bank, piece.programs[name], note.pitch, config.sample_rate)
            sound = _played(tone, piece.seconds(note.end - note.start), config.sample_rate)
            # Loudness by velocity as in the SoundFont specification: 40 dB per decade (section 8.4.1).
            gain = (note.velocity / 127) ** 2
            if bank:
                gain *= _drum_gain(path, piece.programs[name], note.pitch, config.sample_rate)
            start = round(piece.seconds(note.start) * config.sample_rate)
            out[start : start + len(sound)] += np.float32(gain) * sound
        audio[name] = out[:length]
    return audio


def _played(tone: Tone, seconds: float, sample_rate: int) -> np.ndarray:
    """A tone that is held for `seconds` and then released."""
    held = round(seconds * sample_rate)
    release = min(_LONGEST_RELEASE, max(_SHORTEST_RELEASE, tone.release))
    sound = tone.audio[: held + round(release * sample_rate)].copy()
    tail = len(sound) - held
    if tail > 0:
        sound[held:] *= _release(tail, round(release * sample_rate))
    return sound


@lru_cache(maxsize=256)
def _release(length: int, full: int) -> np.ndarray:
    return (10 ** (-5 * np.arange(length) / full)).astype(np.float32)


@lru_cache(maxsize=4096)
def _tone(path: str, bank: int, program: int, key: int, sample_rate: int) -> Tone:
    return _soundfont(path).tone(bank, program, key, _LONGEST, sample_rate)


@lru_cache(maxsize=256)
def _drum_gain(path: str, kit: int, key: int, sample_rate: int) -> float:
    """The factor that balances a drum within its kit."""
    if key not in _CYMBALS:
        return 1.0
    kick, drum = (float(np.sum(_tone(path, 128, kit, k, sample_rate).audio ** 2.0)) for k in (KICK, key))
    return float(np.sqrt(10 ** (_CYMBALS[key] / 10) * kick / drum)) if drum > 0 else 1.0


@lru_cache(maxsize=2)
def _soundfont(path: str) -> SoundFont:
    return SoundFont(path)


def default_soundfont() -> str:
    """The file of TimGM6mb, which comes with the pretty_midi package."""
    from importlib.util import find_spec

    spec = find_spec("pretty_midi")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the SoundFont TimGM6mb is missing; it comes with pretty_midi: pip install pretty_midi")
    return os.path.join(spec.submodule_search_locations[0], "TimGM6mb.sf2")


def master(
    audio: Mapping[str, np.ndarray], config: MiniConfig
) -> tuple[dict[str, np.ndarray], dict[str, float], float]:
    """Bring all stems to one loudness and keep the mix below its peak.

    Loudness is gated (ITU-R BS.1770-4), so a stem that rests for most of a piece is not turned up.

    Returns:
        The stems as int16, their loudness before, and the common gain.
    """
    import pyloudnorm

    meter = pyloudnorm.Meter(config.sample_rate)
    loudness = {name: float(meter.integrated_loudness(x.astype(np.float64))) for name, x in audio.items()}
    levelled = {name: x * 10 ** ((config.loudness - loudness[name]) / 20) for name, x in audio.items()}
    peak = float(np.abs(np.sum(list(levelled.values()), axis=0)).max())
    gain = min(1.0, 10 ** (config.target_peak / 20) / peak)
    stems = {name: np.round(np.clip(x * gain, -1, 1) * 32767).astype(np.int16) for name, x in levelled.items()}
    return stems, loudness, gain


def _write_track(job: tuple[Path, MiniConfig, int, str, int]) -> None:
    import soundfile
    import yaml

    root, config, seed, split, index = job
    piece = compose_track(config, seed=seed, split=split, index=index)
    stems, loudness, gain = master(render(piece, config), config)
    mix = np.sum(list(stems.values()), axis=0, dtype=np.int32)
    ids = {name: f"S{k:02d}" for k, name in enumerate(INSTRUMENTS)}
    with atomic(root / split / _name(split, index, config)) as folder:
        (folder / "stems").mkdir(parents=True)
        (folder / "MIDI").mkdir()
        soundfile.write(folder / "mix.flac", mix.astype(np.int16), config.sample_rate, subtype="PCM_16")
        for name, stem in stems.items():
            soundfile.write(folder / "stems" / f"{ids[name]}.flac", stem, config.sample_rate, subtype="PCM_16")
            _score(piece, [name]).dump_midi(folder / "MIDI" / f"{ids[name]}.mid")
        _score(piece, INSTRUMENTS).dump_midi(folder / "all_src.mid")
        metadata = {
            "UUID": f"mini-{seed}-{split}-{index}",
            "audio_dir": "stems",
            "midi_dir": "MIDI",
            "normalized": True,
            "normalization_factor": config.loudness,
            "target_peak": config.target_peak,
            "overall_gain": round(gain, 6),
            "tempo": piece.tempo,
            "key": piece.key,
            "sections": [list(active) for active in piece.sections],
            "stems": {
                ids[name]: {
                    "audio_rendered": True,
                    "inst_class": name,
                    "integrated_loudness": round(loudness[name], 4),
                    "is_drum": name == "Drums",
                    "midi_program_name": _program_name(name, piece.programs[name]),
                    "midi_saved": True,
                    "plugin_name": "TimGM6mb.sf2" if config.soundfont is None else Path(config.soundfont).name,
                    "program_num": 128 if name == "Drums" else piece.programs[name],
                    "preset": piece.programs[name],
                }
                for name in INSTRUMENTS
            },
        }
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False))


def _program_name(name: str, program: int) -> str:
    import pretty_midi

    return f"Drum kit {program}" if name == "Drums" else pretty_midi.program_to_instrument_name(program)


def _score(piece: Piece, names: Sequence[str]) -> symusic.Score:
    """A symusic score of these instruments."""
    import symusic

    score = symusic.Score(TICKS_PER_BEAT)
    score.tempos.append(symusic.Tempo(0, piece.tempo))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    for name in names:
        track = symusic.Track(name, piece.programs[name], name == "Drums")
        for note in piece.notes[name]:
            track.notes.append(symusic.Note(note.start, note.end - note.start, note.pitch, note.velocity))
        score.tracks.append(track)
    return score


def _name(split: str, index: int, config: MiniConfig) -> str:
    """The name of a track's folder; as in Slakh, numbers run through all splits."""
    before = sum(config.tracks.get(other, 0) for other in SPLITS[: SPLITS.index(split)])
    return f"Track{before + index + 1:05d}"


def _check(config: MiniConfig) -> None:
    unknown = set(config.tracks) - set(SPLITS)
    if unknown:
        raise UserError(f"data.mini.tracks: unknown split {sorted(unknown)[0]!r}; the splits are {', '.join(SPLITS)}")
    missing = [name for name in INSTRUMENTS if name != "Drums" and not config.programs.get(name)]
    if missing or not config.kits:
        raise UserError(f"data.mini: no program given for {', '.join(missing) or 'Drums (kits)'}")
    if len(config.sections) != 2 or not 1 <= config.sections[0] <= config.sections[1]:
        raise UserError(f"data.mini.sections: {list(config.sections)}; give the smallest and largest number, from 1")
    if not config.section_sizes or not all(1 <= int(size) <= len(INSTRUMENTS) for size in config.section_sizes):
        raise UserError(f"data.mini.section_sizes: the sizes are numbers of instruments, 1 to {len(INSTRUMENTS)}")
