"""How large the data of jobs are: read from files if they exist, otherwise estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmsdi.data.decoding import Unreadable
from gmsdi.data.multitracks import find_tracks
from gmsdi.data.slakh import list_tracks
from gmsdi.data.versions import VERSIONS
from gmsdi.errors import UserError
from gmsdi.study.cost.dag import Job
from gmsdi.study.data_kinds import SLAKH
from gmsdi.study.study import Study
from gmsdi.study.work import JAMENDO_COUNT, Cutting, EmbeddingWindows, Sizes, jamendo_tracks

LOOKED_AT, SONGS = 64, 16
"""Numbers of tracks to compose, and of songs to compose or read, as a sample of a dataset part that does not exist."""
SLAKH_SECONDS = 145 * 3600 / 2100
"""Mean length of Slakh2100's tracks, which last 145 hours in total (Manilow et al. 2019)."""
JAMENDO_SECONDS = 3777 * 3600 / JAMENDO_COUNT
"""Mean length of MTG-Jamendo's tracks, which last 3777 hours in total."""


def counted(found: Sequence[Job], sizes: Sizes) -> list[Job]:
    """Count the work of jobs.

    Raises:
        UserError: if it depends on data of unknown size.
    """
    return [replace(job, amount=job.work.count(sizes)) for job in found]


def sizes_of(
    study: Study, found: Sequence[Job], *, chunks: int | None = None, results: str | Path = "results"
) -> tuple[Sizes, list[str]]:
    """How large the data of jobs are, with notes on how that was determined.

    Args:
        study: the configuration's rows, tasks and data.
        found: the jobs.
        chunks: number of chunks in the test split; None counts or estimates them.
        results: folder of results; data sets in it are counted.
    """
    window = study.config["data"]["window"]
    parts = [job.work.dataset for job in found if isinstance(job.work, Cutting | EmbeddingWindows)]
    order = ("train", "test", "validation")
    frames, whole, longest, notes = {}, {}, {}, []
    for part in sorted(set(parts), key=lambda part: (part in study.jamendo_parts(), order.index(part.split("-")[0]))):
        lengths, source = track_frames(study, part, Path(results))
        notes.append(source)
        if lengths is None:
            continue
        frames[part] = sum(lengths)
        whole[part] = sum(length // window for length in lengths)
        longest[part] = max((length // window for length in lengths), default=0)
    if chunks is not None:
        whole[study.part("test")] = chunks
        notes.append(f"chunks of the whole test split: {chunks}, as given")
    return Sizes(window, whole, frames, longest, study.config["data"]["channels"]), notes


def track_frames(study: Study, part: str, results: Path) -> tuple[list[int] | None, str]:
    """Lengths in samples of a dataset part's tracks, or None if unknown, and how they were determined.

    If the windows exist, lengths are read from them. Otherwise, tracks of mini are composed, but not rendered, with the
    first `LOOKED_AT` of a dataset part as a sample; MIDI songs are read, or composed as a sample; for Slakh and
    multi-tracks, headers of files are read. All tracks of MTG-Jamendo are assumed to have the mean length.
    """
    data, shards = study.config["data"], study.jamendo_parts().get(part)
    dataset = study.dataset_id() if shards is None else study.jamendo_id()
    built = [results / "data" / dataset / part / name for name in ("windows", "windows_with_stems")]
    for folder in built:
        if (folder / "tracks.csv").is_file() and (folder / "info.json").is_file():
            rows = (folder / "tracks.csv").read_text(encoding="utf-8").splitlines()[1:]
            return [int(row.rsplit(",", 1)[1]) for row in rows], f"{part}: the windows in {folder}"
    if shards is not None:
        number, length = len(shards) * jamendo_tracks(study.config["training_data"]["tracks"]), JAMENDO_SECONDS
        source = f"{part}: assumed, {number:.0f} tracks of {length:.0f} s as in MTG-Jamendo"
        return [round(length * data["sample_rate"])] * round(number), source
    split, count = part.split("-")
    if data["kind"] == "mini":
        from gmsdi.data.mini import MiniConfig, compose_track

        mini = MiniConfig(**{key: value for key, value in data["mini"].items() if key != "tracks"})
        looked = []
        for index in range(min(int(count), LOOKED_AT)):
            piece = compose_track(mini, seed=data["seed"], split=split, index=index)
            looked.append(round((piece.seconds(piece.ticks) + 0.5) * data["sample_rate"]))
        return [looked[index % len(looked)] for index in range(int(count))], f"{part}: a sample was composed"
    if data["kind"] == "stems" and data["root"]:
        return _multitrack_frames(data, split), f"{part}: the tracks in {data['root']}"
    if data["kind"] == "midi":
        return _song_frames(study, split, results)
    if data["kind"] != "slakh":
        return None, f"{part}: unknown"
    version, first = VERSIONS[data["source"]], data["tracks"][split]
    root = Path(SLAKH.folder(data))
    try:
        tracks = list_tracks(root, split, version=data["source"], first=first)
    except UserError:
        number, length = min(version.tracks[split], first or math.inf), round(SLAKH_SECONDS * data["sample_rate"])
        return [length] * int(number), f"{part}: assumed, {number} tracks of {SLAKH_SECONDS:.0f} s as in Slakh2100"
    import soundfile

    infos = [soundfile.info(file) for track in tracks for file in sorted(track.glob("mix.*"))[:1]]
    return [round(x.frames * data["sample_rate"] / x.samplerate) for x in infos], f"{part}: the tracks in {root}"


def _multitrack_frames(data: Mapping[str, Any], split: str) -> list[int]:
    """Lengths of the tracks of a split that are readable and at least one window long."""
    lengths = []
    for track in find_tracks(data, [split])[split]:
        try:
            length = track.length(data["sample_rate"])
        except Unreadable:
            continue
        lengths += [length] if length >= data["window"] else []
    return lengths


def _song_frames(study: Study, split: str, results: Path) -> tuple[list[int] | None, str]:
    """Lengths of the tracks made from MIDI songs, at their written tempo.

    Taken from the tables of songs if they exist. Otherwise a sample of songs is read or composed, and a split gets its
    share of the songs in files.
    """
    from gmsdi.data.midi import Limits, Unplayable, find_songs, read_song
    from gmsdi.data.songs import make_song
    from gmsdi.data.songs.score import TICKS_PER_BEAT

    data = study.config["data"]
    midi, folder = data["midi"], results / "data" / study.dataset_id() / "songs"
    tables = [name for name in ("files.csv", f"composed-{split}.csv") if (folder / name).is_file()]
    seconds: list[float] = []
    if tables:
        import pandas as pd

        for name in tables:
            table = pd.read_csv(folder / name, keep_default_na=False)
            seconds += table.loc[(table["skipped"] == "") & (table["split"] == split), "seconds"].tolist()
        source = f"the songs in {', '.join(str(folder / name) for name in tables)}"
    else:
        for source in midi["songs"]:
            looked = []
            if source["kind"] == "files":
                songs = find_songs(source["root"])
                number = round(len(songs) * midi["split_shares"][split])
                for song in songs[:: math.ceil(len(songs) / SONGS)]:
                    try:
                        looked.append(read_song(song.read(Limits())).seconds)
                    except Unplayable:
                        number -= math.ceil(len(songs) / SONGS * midi["split_shares"][split])
            else:
                number = source["tracks"].get(split, 0)
                try:
                    for index in range(min(number, SONGS)):
                        made = make_song(source["kind"], split, index, seed=data["seed"])
                        end = max(note.end for part in made.parts for note in part.notes)
                        looked.append(end / TICKS_PER_BEAT * 60 / made.tempos[0][1])
                except UserError:  # MMA is missing
                    return None, f"{split}: unknown, songs of kind {source['kind']} cannot be made here"
            seconds += [looked[index % len(looked)] for index in range(max(0, number))] if looked else []
        source = "a sample of songs was looked at"
    lengths = [round(one * data["sample_rate"]) for one in seconds * midi["versions"].get(split, 1)]
    return lengths[: data["tracks"][split]], f"{split}: {source}"
