"""A multi-track data set made from MIDI songs and SoundFonts, in the folder layout of Slakh2100.

There are two steps. `list_songs` examines every song once: unusable songs are reported with the reason, songs with the
same notes are found, and each song is assigned to a split. `render_split` plays the songs of a split, each in one or
more versions: with other programs of the same class, other SoundFonts, keys, tempi and levels, and with rests.

A track is a function of its song's notes, the settings and the seed, so that tracks can be rendered in any order, in
parallel and repeatedly with the same bytes. Songs are read and played in separate processes with a time limit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsdi.data.midi import (
    PEDAL,
    Part,
    Song,
    SongFile,
    Unplayable,
    digest_of,
    find_songs,
    group_songs,
    read_song,
    signature_of,
)
from gmsdi.data.settings import SPLITS, MidiConfig, Variety
from gmsdi.errors import UserError
from gmsdi.io.files import atomic

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # of the tracks' sound; raise it with every change, so that no folder mixes two versions
_TAIL = 1.5  # seconds of a track after its last note
_LEAD = 0.25  # seconds of a track before its first note
_GATE = 0.05  # seconds per frame of the loudness measure
_TICKS = 480  # per beat of the written MIDI files, at 120 beats per minute

_log = logging.getLogger(__name__)


def list_songs(
    sources: Sequence[str | Path],
    config: MidiConfig,
    *,
    seed: int,
    split: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Examine all songs of some folders.

    A source that consists of folders named train, validation and test keeps these as splits. The songs of other sources
    are shuffled by a keyed hash of their notes and divided among the splits; songs that have much in common go to the
    same split. Of songs with identical notes, all but the first are left out.

    Args:
        sources: folders of MIDI files or game archives, or such files.
        config: see `MidiConfig`.
        seed: seed of the division into splits.
        split: the split of all songs; None divides them among the splits.
        workers: number of processes.
        progress: called with (songs done, songs in all).

    Returns:
        One row per song: `path`, `member` (see `SongFile`), `split`, `digest`, `group`, `seconds`, `notes`, `classes`
        (those that it has), and `skipped`, the reason why it is left out, or "".

    Raises:
        UserError: if a source has no songs, or no song can be used.
    """
    import pandas as pd

    files: list[tuple[SongFile, str]] = []
    for source in sources:
        root = Path(source).expanduser()
        own = [name for name in SPLITS if (root / name).is_dir()]
        if own and split is None:
            files += [(file, name) for name in own for file in find_songs(root / name)]
        else:
            files += [(file, split or "") for file in find_songs(root)]
    rows: list[dict[str, Any]] = []
    signatures: list[np.ndarray] = []
    jobs = [(_look, (file, config)) for file, _ in files]
    for done, ((file, given), result) in enumerate(zip(files, _apart(jobs, config, workers), strict=True), 1):
        row: dict[str, Any] = {"path": str(file.path), "member": file.member, "split": given, "skipped": ""}
        if isinstance(result, Unplayable):
            row["skipped"] = str(result)
        else:
            described, signature = result
            row |= described
            row["signature"] = len(signatures)
            signatures.append(signature)
        rows.append(row)
        if progress:
            progress(done, len(files))
    usable = [row for row in rows if not row["skipped"]]
    for row, group in zip(usable, group_songs(signatures), strict=True):
        row["group"] = usable[group]["digest"]
    first: dict[str, str] = {}
    for row in usable:
        name = row["member"] or Path(row["path"]).name
        if row["digest"] in first:
            row["skipped"] = f"has the same notes as {first[row['digest']]}"
        else:
            first[row["digest"]] = name
    _share_out([row for row in usable if not row["skipped"]], config, seed)
    columns = ["path", "member", "split", "digest", "group", "seconds", "notes", "classes", "skipped"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    table["notes"] = table["notes"].fillna(0).astype(int)
    skipped = table[table["skipped"] != ""]
    for _, row in skipped.iterrows():
        _log.warning("%s is left out: %s", row["member"] or row["path"], row["skipped"])
    if len(skipped) == len(table):
        raise UserError(
            f"{', '.join(map(str, sources))}: none of {len(table)} songs can be used; the first is "
            f"{Path(rows[0]['path']).name}: {rows[0]['skipped']}"
        )
    return table.fillna({"digest": "", "group": "", "classes": "", "seconds": 0.0})


def render_split(
    songs: pd.DataFrame,
    split: str,
    out: str | Path,
    config: MidiConfig,
    *,
    seed: int,
    first: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the tracks of a split to `out`/`split`/Track00001 and so on.

    Tracks are kept in a hidden folder beside `out` until all are done; an interrupted run continues with those that are
    missing. Songs that cannot be played in time are logged and left out; `out`/skipped.json lists them by track.

    Args:
        songs: see `list_songs`.
        split: "train", "validation" or "test".
        out: the data set's folder.
        config: see `MidiConfig`.
        seed: the same songs, settings and seed give the same bytes.
        first: render only this many tracks, drawn from all sources.
        workers: number of processes.
        progress: called with (tracks done, tracks in all).

    Raises:
        UserError: if the split has no songs, a SoundFont is missing, `out` exists, or no track can be rendered.
    """
    from gmsdi.data.synthesizer import find_soundfont

    config = replace(config, soundfonts=[str(find_soundfont(name)) for name in config.soundfonts])
    if not config.soundfonts:
        raise UserError("data.midi.soundfonts: name at least one")
    # Sorted by digest, so that the first ones are drawn from all sources.
    wanted = songs[(songs["skipped"] == "") & (songs["split"] == split)].sort_values(["digest", "path", "member"])
    if wanted.empty:
        raise UserError(f"the split {split} has no songs; provide more songs, or change data.midi.split_shares")
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: already exists; delete it or choose another folder")
    versions = config.versions.get(split, 1)
    planned = [
        (SongFile(Path(row.path), row.member), row.digest, version)
        for version in range(versions)
        for row in wanted.itertuples()
    ][:first]
    told = {
        **asdict(config),
        "soundfonts": [Path(name).name for name in config.soundfonts],
        "songs": hashlib.sha256(json.dumps([entry[1:] for entry in planned]).encode()).hexdigest()[:16],
    }
    settings = json.dumps({"version": VERSION, "seed": seed, **told}, indent=1, sort_keys=True) + "\n"
    work = out.with_name(f".{out.name}.rendering")
    stamp = work / "midi.json"
    if work.exists() and not (stamp.exists() and stamp.read_text() == settings):
        shutil.rmtree(work)  # made with other settings
    if not stamp.exists():
        with atomic(stamp) as temporary:
            temporary.write_text(settings)
    jobs, missing = [], []
    for number, (file, digest, version) in enumerate(planned, 1):
        folder = work / split / f"Track{number:05d}"
        if not folder.is_dir():
            jobs.append((_write_track, (file, digest, version, split, folder, config, seed)))
            missing.append((folder.name, file, version))
    done = len(planned) - len(jobs)
    skipped: dict[str, dict[str, Any]] = {}
    if progress:
        progress(done, len(planned))
    for (track, file, version), result in zip(missing, _apart(jobs, config, workers), strict=True):
        if isinstance(result, Unplayable):
            skipped[track] = {"path": str(file.path), "member": file.member, "version": version, "reason": str(result)}
            _log.warning("%s is left out of %s as %s: %s", file.member or file.path, split, track, result)
        done += 1
        if progress:
            progress(done, len(planned))
    if skipped:
        _log.warning("%d of %d tracks of %s are rendered", len(planned) - len(skipped), len(planned), split)
    if len(skipped) == len(planned):
        example = next(iter(skipped.values()))
        raise UserError(
            f"none of the {len(planned)} tracks of {split} can be rendered; the first is "
            f"{example['member'] or example['path']}: {example['reason']}"
        )
    (work / "skipped.json").write_text(json.dumps(skipped, indent=1) + "\n")
    os.replace(work, out)


def vary(
    song: Song, config: MidiConfig, rng: np.random.Generator, *, varied: bool
) -> list[tuple[str, Part, str, float]]:
    """Draw one version of a song: (label, part, SoundFont, gain) for all parts that belong to a class.

    The first note of the song is moved to the start; pedals are left unchanged.
    """
    variety = config.variety if varied else Variety()
    programs = config.programs()
    shift = int(rng.integers(-variety.transpose, variety.transpose + 1))
    pace = 1 / rng.uniform(*variety.tempo)
    labelled = [(label, part) for part in song.parts if (label := config.label_of(part)) is not None]
    start = min(float(part.notes[0, 0]) for _, part in labelled)
    end = max(float(part.notes[:, 1].max()) for _, part in labelled)
    resting = _rests(variety, sorted({label for label, _ in labelled}), (end - start) * pace, rng)
    result = []
    for label, part in labelled:
        program, pool = part.program, config.kits if part.drums else programs[label]
        if rng.random() < variety.swap and len(pool):
            program = int(rng.choice(list(pool)))
        soundfont = str(rng.choice(list(config.soundfonts)))
        gain = float(10 ** (rng.uniform(-variety.level_db, variety.level_db) / 20))
        notes = part.notes.copy()
        notes[:, :2] = (notes[:, :2] - start) * pace + _LEAD
        if not part.drums:
            notes[:, 2] = _within_keys(notes[:, 2] + shift)
        notes = _rested(notes, resting[label])
        if not len(notes):
            continue
        controls = [(max(0.0, (at - start) * pace + _LEAD), number, value) for at, number, value in part.controls]
        bends = [(max(0.0, (at - start) * pace + _LEAD), value) for at, value in part.bends]
        result.append((label, Part(part.channel, program, part.drums, notes, controls, bends), soundfont, gain))
    return result


def _look(file: SongFile, config: MidiConfig) -> tuple[dict[str, Any], np.ndarray]:
    song = read_song(file.read(config.limits), config.limits)
    found = sorted({label for part in song.parts if (label := config.label_of(part)) is not None})
    if not found:
        raise Unplayable("has no instrument of any class")
    missing = [label for label in config.required if label not in found]
    if missing:
        raise Unplayable(f"has no {missing[0]}")
    if len(found) < config.least_classes:
        raise Unplayable(f"has only {', '.join(found)}, fewer than {config.least_classes} classes")
    described = {
        "digest": digest_of(song),
        "seconds": round(song.seconds, 2),
        "notes": sum(len(part.notes) for part in song.parts),
        "classes": ", ".join(label for label in config.classes if label in found),
    }
    return described, signature_of(song)


def _share_out(rows: Sequence[dict[str, Any]], config: MidiConfig, seed: int) -> None:
    """Assign songs without a split to one, and songs of a group to the same."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if not row["split"]:
            groups[row["group"]].append(row)
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).hexdigest())
    shares = {split: float(config.split_shares.get(split, 0)) for split in SPLITS}
    total = sum(shares.values())
    if not order:
        return
    if total <= 0:
        raise UserError("data.midi.split_shares: give at least one split a share above 0")
    # Every split with a share gets at least one song, if there are enough.
    counts = {split: max(int(share > 0), round(len(order) * share / total)) for split, share in shares.items()}
    largest = max(counts, key=lambda split: counts[split])
    counts[largest] += len(order) - sum(counts.values())
    at = 0
    for split in SPLITS:
        for group in order[at : at + max(0, counts[split])]:
            for row in groups[group]:
                row["split"] = split
        at += max(0, counts[split])
    for row in rows:
        row["split"] = row["split"] or largest


def _apart(
    jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], config: MidiConfig, workers: int
) -> Iterator[Any]:
    """Run jobs in separate processes with a time limit; yields their results, or `Unplayable` for a failed job."""
    from pebble import ProcessPool

    # "spawn", because the caller may have torch threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(workers, len(jobs)))
    pending: deque[Any] = deque()
    with ProcessPool(max_workers=workers, context=context) as pool:
        try:
            for position, (work, arguments) in enumerate(jobs):
                pending.append(pool.schedule(work, args=arguments, timeout=config.time_limit))
                if len(pending) > 4 * workers:
                    yield _outcome(pending.popleft(), jobs[position - len(pending)], config)
            while pending:
                yield _outcome(pending.popleft(), jobs[len(jobs) - 1 - len(pending)], config)
        finally:
            for future in pending:
                future.cancel()


def _outcome(future: Any, job: tuple[Callable[..., Any], tuple[Any, ...]], config: MidiConfig) -> Any:
    from pebble import ProcessExpired, ProcessPool

    try:
        try:
            return future.result()
        except ProcessExpired:
            # Not necessarily this job's fault: a process that dies may take the result of the job before with it.
            with ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn")) as pool:
                return pool.schedule(job[0], args=job[1], timeout=config.time_limit).result()
    except Unplayable as error:
        return error
    except FutureTimeoutError:
        return Unplayable(f"took longer than {config.time_limit:g} s")
    except MemoryError:
        return Unplayable("needs too much memory")
    except ProcessExpired:
        return Unplayable("crashed the process that played it")


def _write_track(
    file: SongFile, digest: str, version: int, split: str, folder: Path, config: MidiConfig, seed: int
) -> None:
    import soundfile
    import soxr
    import yaml

    from gmsdi.data.synthesizer import play, render_rate

    song = read_song(file.read(config.limits), config.limits)
    rng = np.random.default_rng([seed, int(digest, 16), version])
    parts = vary(song, config, rng, varied=split in config.varied)
    if not parts:
        raise Unplayable("no instrument of any class plays")
    seconds = max(float(part.notes[:, 1].max()) for _, part, _, _ in parts) + _TAIL
    rate = render_rate(config.sample_rate)
    length = round(seconds * config.sample_rate)
    audio = np.zeros((len(parts), config.channels, length), np.float32)
    for row, (_, part, soundfont, gain) in zip(audio, parts, strict=True):
        played = play(part, soundfont, seconds, rate)
        if config.channels == 1:
            played = played.mean(axis=0, keepdims=True)
        resampled = soxr.resample(played.T, rate, config.sample_rate).T[:, :length]
        row[:, : resampled.shape[1]] = gain * resampled
    mix = audio.sum(axis=0)
    factor = _gain(mix, config)
    if factor == 0:
        raise Unplayable("is silent")
    stems = np.round(np.clip(audio * factor, -1, 1) * 32767).astype(np.int16)
    summed = np.clip(stems.sum(axis=0, dtype=np.int32), -32768, 32767).astype(np.int16)
    ids = [f"S{number:02d}" for number in range(len(parts))]
    with atomic(folder) as temporary:
        (temporary / "stems").mkdir(parents=True)
        (temporary / "MIDI").mkdir()
        soundfile.write(temporary / "mix.flac", summed.T, config.sample_rate, subtype="PCM_16")
        for name, stem, (_, part, _, _) in zip(ids, stems, parts, strict=True):
            soundfile.write(temporary / "stems" / f"{name}.flac", stem.T, config.sample_rate, subtype="PCM_16")
            _save_midi(temporary / "MIDI" / f"{name}.mid", [part])
        _save_midi(temporary / "all_src.mid", [part for _, part, _, _ in parts])
        metadata = {
            "UUID": f"{digest}-{version}",
            "song": file.member or file.path.name,
            "version": version,
            "audio_dir": "stems",
            "midi_dir": "MIDI",
            "overall_gain": round(float(factor), 6),
            "stems": {
                name: {
                    "audio_rendered": True,
                    "inst_class": label,
                    "is_drum": part.drums,
                    "midi_saved": True,
                    "plugin_name": Path(soundfont).name,
                    "program_num": 128 if part.drums else part.program,
                    "preset": part.program,
                    "gain_db": round(20 * float(np.log10(gain)), 2),
                }
                for name, (label, part, soundfont, gain) in zip(ids, parts, strict=True)
            },
        }
        (temporary / "metadata.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False))


def _gain(mix: np.ndarray, config: MidiConfig) -> float:
    """The factor that brings a mix `[C, T]` to its level, the mean power of the frames within 40 dB of the loudest."""
    frame = max(1, round(_GATE * config.sample_rate))
    power = np.square(mix.mean(axis=0, dtype=np.float64))
    power = power[: len(power) // frame * frame].reshape(-1, frame).mean(axis=1)
    if not len(power) or power.max() <= 1e-12:
        return 0.0
    level = np.sqrt(power[power > 1e-4 * power.max()].mean())
    peak = float(np.abs(mix).max())
    return float(min(10 ** (config.rms_db / 20) / level, 10 ** (config.target_peak / 20) / peak))


def _rests(
    variety: Variety, labels: Sequence[str], seconds: float, rng: np.random.Generator
) -> dict[str, list[tuple[float, float]]]:
    """Draw the spans in which each label rests. A rest that lasts for two sections is two spans."""
    resting: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    if variety.sections is None or not labels:
        return resting
    sizes = [min(int(size), len(labels)) for size in variety.section_sizes]
    weights = np.array(list(variety.section_sizes.values()), float)
    at = 0.0
    while at < seconds:
        length = rng.uniform(*variety.sections)
        size = int(rng.choice(sizes, p=weights / weights.sum()))
        playing = set(rng.choice(len(labels), size, replace=False).tolist())
        for number, label in enumerate(labels):
            if number not in playing:
                resting[label].append((at + _LEAD, at + length + _LEAD))
        at += length
    return resting


def _rested(notes: np.ndarray, rests: Sequence[tuple[float, float]]) -> np.ndarray:
    """Remove notes that begin in a rest, and end notes that reach into one where it starts."""
    notes = notes.copy()
    keep = np.ones(len(notes), bool)
    for start, end in rests:
        keep &= ~((notes[:, 0] >= start - 1e-6) & (notes[:, 0] < end - 1e-6))
        reaching = (notes[:, 0] < start) & (notes[:, 1] > start)
        notes[reaching, 1] = np.maximum(start, notes[reaching, 0] + 0.02)
    return notes[keep]


def _within_keys(pitches: np.ndarray) -> np.ndarray:
    """Move pitches by octaves into the range 0 to 127."""
    pitches = np.where(pitches > 127, pitches - 12 * np.ceil((pitches - 127) / 12), pitches)
    return np.where(pitches < 0, pitches + 12 * np.ceil(-pitches / 12), pitches)


def _save_midi(path: Path, parts: Sequence[Part]) -> None:
    """Save notes as they are heard, for activity labels: notes held by the pedal last until its release."""
    import symusic

    score = symusic.Score(_TICKS)
    for part in parts:
        track = symusic.Track("", part.program, part.drums)
        for onset, end, pitch, velocity in _held(part).tolist():
            start, stop = round(onset * 2 * _TICKS), round(end * 2 * _TICKS)
            track.notes.append(symusic.Note(start, max(1, stop - start), int(pitch), int(velocity)))
        score.tracks.append(track)
    score.dump_midi(path)


def _held(part: Part) -> np.ndarray:
    """The notes, extended until the sustain pedal is released or the same key is struck again."""
    notes = part.notes.copy()
    spans, down = [], None
    for when, control, value in part.controls:
        if control == PEDAL and value >= 64 and down is None:
            down = when
        elif control == PEDAL and value < 64 and down is not None:
            spans.append((down, when))
            down = None
    if down is not None:
        spans.append((down, float(notes[:, 1].max())))
    for start, end in spans:
        held = (notes[:, 1] >= start) & (notes[:, 1] < end)
        notes[held, 1] = end
    for pitch in np.unique(notes[:, 2]) if spans else []:
        same = np.flatnonzero(notes[:, 2] == pitch)
        notes[same[:-1], 1] = np.maximum(notes[same[:-1], 0], np.minimum(notes[same[:-1], 1], notes[same[1:], 0]))
    return notes
