"""What the workflow's jobs compute: which chunks, with which seeds, in which batches, scored how.

A job handles a share of the items (chunks or clips). An item's noise depends on its own seed alone, so that neither the
number of jobs nor the batch size changes a result by more than the rounding of its last bits; and with network calls of
one fixed size (`load_system`), not even by that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations, cycle, islice, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.metrics.embeddings import Embedding

Progress = Callable[[float], None]
"""Called with the number of items done so far, fractions included."""

CALL = 8
"""Signals of every call of a network in the workflow's jobs: one size, so that no result depends on how work is cut."""
SINGLE, TOTAL, PARTIAL = "single", "total", "partial"
HELD_OUT = "held-out test chunks"
NOISE = "white noise"
SHUFFLED = "shuffled stems"


def item_seed(*parts: object) -> int:
    """A seed from what identifies an item, such as (run's seed, task, track, offset); stable over machines."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:7], "big")


def share(items: Sequence[Any], shard: int, shards: int) -> Sequence[Any]:
    """The part of `items` that job `shard` (from 1) of `shards` handles; the parts in order are the whole."""
    bounds = [len(items) * k // shards for k in (shard - 1, shard)]
    return items[bounds[0] : bounds[1]]


def draw(table: pd.DataFrame, ids: Iterable[int], count: int | None, *purpose: object) -> list[int]:
    """Draw `count` of the chunks `ids`, spread evenly over their tracks: one of each before a second of any.

    Chunks of a track, and tracks among themselves, are in the order of a hash of `purpose` (which begins with the run's
    seed), track and offset. Hence fewer chunks are a part of more, and no part of the music (its beginning) is
    preferred.

    Args:
        table: `WindowSet.table`.
        ids: chunks to draw from.
        count: how many; None, or more than there are, takes all.
        *purpose: what the draw is for; other purposes, other chunks.

    Returns:
        Ids in the order of the draw.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for chunk in ids:
        track, offset = table.at[chunk, "track"], int(table.at[chunk, "offset"])
        places.setdefault(track, []).append((item_seed(*purpose, track, offset), chunk))
    ranked = [
        (rank, item_seed(*purpose, track), chunk)
        for track, found in places.items()
        for rank, (_, chunk) in enumerate(sorted(found))
    ]
    return [chunk for *_, chunk in sorted(ranked)][:count]


def select_chunks(table: pd.DataFrame, count: int | None, *, seed: int, least_active: int = 2) -> list[int]:
    """Ids, in order, of `count` chunks in which at least `least_active` stems are active, drawn evenly from the tracks.

    Args:
        table: `WindowSet.table`.
        count: None takes the whole split, whatever is active.
        seed: the run's seed, see `draw`.
        least_active: number of stems.

    Raises:
        UserError: if there are fewer such chunks.
    """
    if count is None:
        return table.index.tolist()
    number = table["active"].map(lambda active: len(active.split(", ")) if active else 0)
    eligible = table.index[number >= least_active]
    if len(eligible) < count:
        raise UserError(
            f"{count} chunks with at least {least_active} active stems are wanted, but the test split has "
            f"{len(eligible)}; ask for fewer or compose more tracks"
        )
    return sorted(draw(table, eligible, count, seed, "chunks"))


APART = 20
"""Tracks of a test split from which on what is generated from or compared is kept apart from the references' tracks."""


def split_tracks(table: pd.DataFrame, labels: Sequence[str], seed: int) -> tuple[set[str], set[str]]:
    """The tracks that references are drawn from, and those of given stems, held-out chunks and shuffled stems.

    A reference would otherwise be nearer to what was made of its own music. They are two halves of the tracks if at
    least `APART` of them have a chunk with all stems active, such chunks shared out evenly; else all tracks twice.

    Args:
        table: `WindowSet.table` of the test split.
        labels: the K labels.
        seed: the run's seed.
    """
    full = set(table.loc[table["active"] == ", ".join(labels), "track"])
    tracks = sorted(set(table["track"]), key=lambda track: (track not in full, item_seed(seed, "halves", track)))
    return (set(tracks), set(tracks)) if len(full) < APART else (set(tracks[::2]), set(tracks[1::2]))


def load_system(
    name: str, folders: Mapping[str, str | Path], *, labels: Sequence[str], clamp: float | None = None, **options: Any
) -> Any:
    """Load what runs a method of Table 2 or a task of Figures 2 and 3.

    Args:
        name: "msdm", "weak_msdm" or "demucs_gibbs"; anything else is the text-conditioned model.
        folders: model folders by target: one called "mixture" or "stems", or one per label ("weak_msdm").
        labels: the K labels of the data.
        clamp: of "msdm" and "weak_msdm" the limit of the denoised signal, see `baselines.msdm.JointMSDM`; the
            text-conditioned model has one in its guidance.
        options: `device`, `precision` and `fixed_batch`, see `pipeline.load`.

    Raises:
        UserError: if a folder holds no sound model of that kind, or one of other labels.
    """
    from gmsdi.pipeline import load

    if name == "weak_msdm":
        from gmsdi.systems.msdm import load_weak

        system: Any = load_weak(dict(folders), clamp=clamp, **options)
    elif name == "msdm":
        from gmsdi.systems.msdm import load_joint

        system = load_joint(folders["stems"], clamp=clamp, **options)
    elif name == "demucs_gibbs":
        from gmsdi.systems.gibbs import load_gibbs

        system = load_gibbs(folders["stems"], **options)
    else:
        system = load(folders["mixture"], **options)
    if name in ("msdm", "weak_msdm", "demucs_gibbs") and list(system.labels) != list(labels):
        raise UserError(
            f"the model of {name} has {', '.join(system.labels)}, the data {', '.join(labels)}; train it on them"
        )
    return system


# --- Shards ----------------------------------------------------------------------------------------------------------


def open_audio(file: str | Path) -> np.ndarray:
    """A shard's audio, memory-mapped: it stays in the file until it is indexed.

    Raises:
        UserError: if the file is missing or no complete array.
    """
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: not a complete .npy array ({error}); remove it, and its job runs again") from error


class Shards:
    """The audio of shards end to end, [N, R, T], of which only the rows that are asked for are read.

    Args:
        files: `.npy` files [n, R, T], in order.

    Raises:
        UserError: if a file is missing or no complete array, or the shards do not fit together.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self._parts = [open_audio(file) for file in files]
        first = self._parts[0]
        for file, part in zip(files, self._parts, strict=True):
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                here, there = (f"{array.dtype} {array.shape[1:]}" for array in (part, first))
                raise UserError(
                    f"{file}: an item is {here}, but {there} in {files[0]}; they are of different runs, remove both"
                )
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows, numbered over all shards: [n, R, T]."""
        first = self._parts[0]
        copy = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            part = int(np.searchsorted(self._ends, row, side="right"))
            copy[place] = self._parts[part][row - int(self._ends[part])]  # counted from the part's end
        return copy


def join_shards(tables: Sequence[str | Path], audio: Sequence[str | Path]) -> tuple[pd.DataFrame, Shards]:
    """What the shards of a method or a task have made: the table of their items, and the audio of its rows.

    Args:
        tables: `.csv` files, one per shard.
        audio: `.npy` files [n, R, T], in the same order.

    Raises:
        UserError: see `Shards`; or if a shard has another number of items in its table than in its audio.
    """
    frames, shards = [pd.read_csv(file) for file in tables], Shards(audio)
    for table, frame, file in zip(tables, frames, audio, strict=True):
        if len(frame) != (items := len(open_audio(file))):
            raise UserError(
                f"{table}: {len(frame)} items, but {items} in {file}; remove both, and their job runs again"
            )
    return pd.concat(frames, ignore_index=True), shards


# --- Separation ------------------------------------------------------------------------------------------------------


def separate(
    system: Any,
    windows: WindowSet,
    ids: Sequence[int],
    method: Mapping[str, Any],
    *,
    guidance: Mapping[str, Any],
    seed: int,
    batch: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Estimates of the stems of the chunks `ids`, float32 [N, K, T].

    A chunk has the level of its track (see `gmsdi.level`), and a passage that is softer than the rest remains so.

    Args:
        system: what `load_system` gives for the method's name.
        windows: the test split.
        ids: chunks.
        method: `name`, and what the method has of `solver` (settings of `pipeline.Solver`), `w`, `negatives`,
            `samples` (default 1), `inverted`, `consistent` and `by_power` (Extractor; the options of
            `wiener.share_out`), `constrained`, `projected` (Separator), `wiener` (of these two; the filter's options),
            `gaussian` (MSDM), and `steps`, `block` and `noise` (Demucs + Gibbs).
        guidance: settings of `pipeline.Guidance` apart from w, for the Extractor and the Separator.
        seed: the run's seed. A chunk's noise is the same for every method and every w.
        batch: chunks that are sampled together.
        progress: see `Progress`.
    """
    import torch

    from gmsdi.level import track_levels
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.wiener import share_out, wiener

    name, samples = method["name"], int(method.get("samples", 1))
    settings: dict[str, Any] = {"solver": Solver(**method["solver"])} if "solver" in method else {}
    run: Callable[..., Any] = system.separate_windows
    if name in ("extractor", "separator"):
        settings["guidance"] = Guidance(w=method["w"], **guidance)
        settings |= {"stems": windows.labels, "negatives": method.get("negatives") or None, "samples": samples}
        settings["inverted"] = method.get("inverted", False)
    if name == "extractor":
        run, settings["consistent"] = system.extract_windows, method.get("consistent", False)
        if settings["consistent"] and "by_power" in method:
            settings["consistent"] = partial(share_out, sample_rate=windows.sample_rate, **method["by_power"])
    elif name == "demucs_gibbs":
        settings |= {key: method[key] for key in ("steps", "block", "noise")}
    elif method.get("gaussian"):
        run = system.separate_gaussian_windows
    else:
        settings["constrained"] = None if method.get("projected") else method["constrained"]
    estimates = []
    pieces = track_levels(windows, windows.table.loc[list(ids), "track"]) if system.level is not None else {}
    for part, callback in _batches(ids, max(1, batch // samples), progress):
        rows = windows.table.loc[part]
        seeds = [
            item_seed(seed, "separation", t, o) for t, o in zip(rows["track"], rows["offset"].tolist(), strict=True)
        ]
        mixture = torch.from_numpy(windows.mixture(part))
        levels = [pieces[track] for track in rows["track"]] if pieces else None
        estimate = run(mixture, seeds=seeds, levels=levels, callback=callback, **settings)
        if "wiener" in method:
            estimate = wiener(estimate, mixture, sample_rate=windows.sample_rate, **method["wiener"])
        estimates.append(estimate[:, :, 0].numpy())
    return np.concatenate(estimates)


def score_separation(windows: WindowSet, ids: Sequence[int], estimates: np.ndarray | Shards) -> pd.DataFrame:
    """SI-SDR improvements of `estimates` [N, K, T] of the chunks `ids`, a row per sub-window and stem.

    Chunks that follow one another in a track are joined before they are cut into sub-windows, as in MSDM's protocol. Of
    `Shards` no more is in memory than one such run.

    Returns:
        DataFrame with the columns of `si_sdri_windows`, and before them `track` and `offset` (samples) of the first
        chunk of the joined ones.
    """
    from gmsdi.metrics.si_sdr import si_sdri_windows

    def score(estimate: np.ndarray, target: np.ndarray) -> pd.DataFrame:
        return si_sdri_windows(estimate, target, None, windows.sample_rate, labels=windows.labels)

    return _score_joined(score, windows, ids, estimates)


def score_bss_eval(
    windows: WindowSet, ids: Sequence[int], estimates: np.ndarray | Shards, *, progress: Progress | None = None
) -> pd.DataFrame:
    """SDR, SIR and SAR of `estimates` [N, K, T] of the chunks `ids`, a row per frame of one second and stem.

    Chunks that follow one another in a track are joined, as in `score_separation`; filters are fitted to each such run.

    Returns:
        DataFrame with the columns of `bss_eval_windows`, and before them `track` and `offset` (samples) of the first
        chunk of the joined ones.
    """
    from gmsdi.metrics.bss_eval import bss_eval_windows

    def score(estimate: np.ndarray, target: np.ndarray) -> pd.DataFrame:
        return bss_eval_windows(estimate, target, windows.sample_rate, labels=windows.labels)

    return _score_joined(score, windows, ids, estimates, progress)


def _score_joined(
    score: Callable[[np.ndarray, np.ndarray], pd.DataFrame],
    windows: WindowSet,
    ids: Sequence[int],
    estimates: np.ndarray | Shards,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Rows of `score(estimate [K, T'], target [K, T'])` for every run of consecutive chunks, and where it lies."""
    rows: list[pd.DataFrame] = []
    done = 0
    position = {chunk: place for place, chunk in enumerate(ids)}
    for group in consecutive(windows.table, ids, windows.window):
        # One after the other, so that of only one of them there are two copies at a time.
        estimate = np.concatenate(list(estimates[[position[chunk] for chunk in group]]), axis=-1)
        target = np.concatenate(list(windows.stems(group)[:, :, 0]), axis=-1)
        scores = score(estimate, target)
        first = windows.table.loc[group[0]]
        scores.insert(0, "offset", first["offset"])
        scores.insert(0, "track", first["track"])
        rows.append(scores)
        done += len(group)
        if progress is not None:
            progress(done)
    return pd.concat(rows, ignore_index=True)


def consecutive(table: pd.DataFrame, ids: Sequence[int], window: int) -> list[list[int]]:
    """Split chunks into runs that follow one another within a track."""
    runs: list[list[int]] = []
    for chunk in sorted(ids):
        track, offset = table.at[chunk, "track"], table.at[chunk, "offset"]
        last = runs[-1][-1] if runs else None
        if last is not None and table.at[last, "track"] == track and table.at[last, "offset"] + window == offset:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return runs


def choose_settings(
    grids: Mapping[str, Sequence[pd.DataFrame]], methods: Mapping[str, Mapping[str, Any]], *, by: str
) -> dict[str, dict[str, Any]]:
    """Settle what the methods of Table 2 leave open: w, and the Separator's constrained stem.

    Args:
        grids: for "test" (Table 1) and "validation" the rows of `score_separation` with the columns model, constrained
            and w; those of a split may be left out if no method needs it.
        methods: for each method its settings, see `separate`; None is to be chosen, on the split `chosen_on`.
        by: "active" or "protocol", see `metrics.si_sdr.summarize`.

    Returns:
        The methods with nothing open, and `chosen_by`, how.

    Raises:
        UserError: if no value of the grid fits what is given.
    """
    tables = {split: _overall(scores, by) for split, scores in grids.items()}
    result = {}
    for method, settings in methods.items():
        keys = [key for key in ("w", "constrained") if key in settings]
        fixed = {key: settings[key] for key in keys if settings[key] is not None}
        rest = {key: value for key, value in settings.items() if key != "chosen_on"}
        if len(fixed) == len(keys):
            result[method] = rest | {"chosen_by": "configuration"}
            continue
        split = settings["chosen_on"]
        own = tables[split][tables[split]["model"] == settings["name"]].dropna(subset="score")
        for key, value in fixed.items():
            own = own[own[key] == value]
        if own.empty:
            raise UserError(f"config: separation.{method} pins {fixed}, of which Table 1 has no value; extend grid.w")
        best = own.loc[own["score"].idxmax()]
        where = "Table 1" if split == "test" else "the same grid on validation chunks"
        result[method] = rest | {key: best[key] for key in keys} | {"chosen_by": f"best {by} score of {where}"}
    return result


def _overall(scores: Sequence[pd.DataFrame], by: str) -> pd.DataFrame:
    """The score of All of every cell of a grid: model, constrained, w, score."""
    from gmsdi.metrics.si_sdr import summarize

    rows = [
        (model, constrained, float(w), summarize(group).set_index("stem").at["All", by])
        for (model, constrained, w), group in pd.concat(scores).groupby(["model", "constrained", "w"])
    ]
    return pd.DataFrame(rows, columns=["model", "constrained", "w", "score"])


# --- Generation ------------------------------------------------------------------------------------------------------


def plan(
    task: str, labels: Sequence[str], clips: int, windows: WindowSet | None = None, *, seed: int = 0
) -> pd.DataFrame:
    """All clips of a generation task, clip by clip, so that every share of it holds some of every bar.

    Args:
        task: SINGLE has a bar for each label, TOTAL the bar "All", PARTIAL one for each non-empty proper subset of
            given stems.
        labels: the K labels.
        clips: clips of each bar.
        windows: PARTIAL: the test split, whose chunks with all stems active give the given stems. Every bar uses the
            same chunks; with fewer chunks than clips they are used again, with other noise.
        seed: the run's seed: PARTIAL: of the draw of chunks.

    Returns:
        DataFrame with the columns bar, clip, and for PARTIAL chunk and its track.
    """
    if task == SINGLE:
        bars = list(labels)
    elif task == TOTAL:
        bars = ["All"]
    else:
        bars = [", ".join(given) for size in range(1, len(labels)) for given in combinations(labels, size)]
    table = pd.DataFrame([(bar, clip) for clip in range(clips) for bar in bars], columns=["bar", "clip"])
    if task == PARTIAL:
        assert windows is not None
        full = windows.table["active"] == ", ".join(labels)
        if not full.any():
            raise UserError(f"{windows.folder}: no chunk with all of {', '.join(labels)} active; compose more tracks")
        _, tracks = split_tracks(windows.table, labels, seed)
        eligible = windows.table.index[full & windows.table["track"].isin(tracks)]
        chunks = sorted(draw(windows.table, eligible, clips, seed, "given"))
        table["chunk"] = [chunks[clip % len(chunks)] for clip in table["clip"]]
        table["track"] = windows.table.loc[table["chunk"], "track"].to_numpy()
    return table


def generate(
    system: Any,
    clips: pd.DataFrame,
    labels: Sequence[str],
    settings: Mapping[str, Any],
    *,
    seed: int,
    batch: int,
    windows: WindowSet | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Sample the clips of a plan, as loud as the model's training mixtures.

    What goes with given stems is as loud as the mixture of their track was to them (see `gmsdi.level`).

    Args:
        system: what `load_system` gives for `settings["system"]`.
        clips: rows of a `plan`.
        labels: the K labels.
        settings: `system`, `task` and `solver`; for the text-conditioned model `guidance` with w, `negatives` and
            `likelihood` (gamma_x, gamma_y, for TOTAL noise and consistent, for PARTIAL alpha, beta; or beyond the paper
            share); of TOTAL maybe `groups` of labels, or `way`, "sequential" (with `order`, labels or None) or
            "extracted" (with `extraction`, settings of `separate` with `guidance`); for "msdm" `best_of`.
        seed: the run's seed. Clips that differ only in their negative prompts share their noise.
        batch: clips that are sampled together.
        windows: PARTIAL: the test split.
        progress: see `Progress`.

    Returns:
        SINGLE: float32 [N, 1, T]. TOTAL and PARTIAL: [N, K + 1, T], the K stems (or groups), those given unchanged, and
        the model's mixture row y; the baselines have none, there it is the sum of the stems.
    """
    import torch

    from gmsdi.inference import gamma_from_config
    from gmsdi.level import track_levels
    from gmsdi.sampling.guidance import Prompt
    from gmsdi.sampling.solver import Guidance, Solver

    task, name = settings["task"], settings["system"]
    negatives: Mapping[str, str] = settings.get("negatives") or {}
    common: dict[str, Any] = {"solver": Solver(**settings["solver"])}
    if name == "gmsdi":
        common["guidance"] = Guidance(**settings["guidance"])
    for key, value in settings.get("likelihood", {}).items():
        common[key] = gamma_from_config(value) if key.startswith("gamma") else value
    rows = 1 if task == SINGLE else len(settings.get("groups") or labels) + 1
    audio = np.zeros((len(clips), rows, system.window), np.float32)
    done = 0
    pieces: dict[str, float] = {}
    if task == PARTIAL and system.level is not None:
        assert windows is not None
        pieces = track_levels(windows, windows.table.loc[clips["chunk"].tolist(), "track"])
    # A batch of PARTIAL shares its given stems; the other tasks mix bars freely.
    for bar, group in clips.groupby("bar", sort=False) if task == PARTIAL else [("", clips)]:
        places = clips.index.get_indexer(group.index)
        for part, callback in _batches(places.tolist(), batch, progress, done):
            chosen = clips.iloc[part]
            seeds = [item_seed(seed, task, b, c) for b, c in zip(chosen["bar"], chosen["clip"].tolist(), strict=True)]
            levels = None
            if pieces:
                assert windows is not None
                levels = [pieces[track] for track in windows.table.loc[chosen["chunk"].tolist(), "track"]]
            if name == "weak_msdm":
                audio[part] = system.sample_windows(
                    chosen["bar"].tolist(), seeds=seeds, callback=callback, **common
                ).numpy()
            elif name == "msdm":
                if task == TOTAL:
                    stems = system.generate_windows(seeds=seeds, callback=callback, **common)
                else:
                    assert windows is not None
                    known = bar.split(", ")
                    original = windows.stems(chosen["chunk"].tolist())[
                        :, [i for i, x in enumerate(labels) if x in known]
                    ]
                    stems = system.accompany_windows(
                        torch.from_numpy(original), known, seeds=seeds, levels=levels, callback=callback,
                        best_of=settings["best_of"], **common,
                    )  # fmt: skip
                audio[part] = torch.cat([stems, stems.sum(dim=1, keepdim=True)], dim=1)[:, :, 0].numpy()
            elif task == SINGLE:
                prompts = [Prompt(label, negatives.get(label)) for label in chosen["bar"]]
                audio[part] = system.sample_windows(prompts, seeds=seeds, callback=callback, **common).numpy()
            elif task == TOTAL:
                made, options = _total(system, labels, settings)
                stems, mixture = made(
                    list(labels), seeds=seeds, negatives=negatives or None, callback=callback, **options, **common
                )
                audio[part] = torch.cat([stems, mixture[:, None]], dim=1)[:, :, 0].numpy()
            else:
                assert windows is not None
                known = bar.split(", ")
                given, wanted = [i for i, x in enumerate(labels) if x in known], [x for x in labels if x not in known]
                original = windows.stems(chosen["chunk"].tolist())[:, given]
                beyond = "share" in common
                accompany = system.accompany_conditioned_windows if beyond else system.accompany_windows
                stems, mixture = accompany(
                    torch.from_numpy(original), known, wanted, seeds=seeds, negatives=negatives or None, levels=levels,
                    callback=callback, **common,
                )  # fmt: skip
                for place, row in enumerate(part):
                    audio[row, given] = original[place, :, 0]
                    audio[row, [labels.index(x) for x in wanted]] = stems[place, :, 0].numpy()
                    audio[row, -1] = mixture[place, 0].numpy()
        done += len(group)
    return audio


def _total(
    system: Any, labels: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What generates the clips of TOTAL with the text-conditioned model, and the options that it has of its own."""
    from gmsdi.pipeline import indices_of
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.wiener import share_out

    way = settings.get("way")
    if way == "sequential":
        order = settings["order"]
        return system.generate_sequential_windows, {"order": order and [labels.index(label) for label in order]}
    if way == "extracted":
        own = settings["extraction"]
        options = {
            "separation_solver": Solver(**own["solver"]),
            "separation_guidance": Guidance(w=own["w"], **own["guidance"]),
            "samples": own["samples"],
        }
        if own["by_power"]:
            options["consistent"] = partial(share_out, sample_rate=system.sample_rate, **own["by_power"])
        return system.generate_extracted_windows, options
    groups = settings.get("groups")
    return system.generate_windows, {"groups": groups and indices_of(groups, labels)}


def mixdown(audio: np.ndarray) -> np.ndarray:
    """What a clip sounds like, [N, T]: the stem itself, or the sum of the stems without the mixture row."""
    return audio[:, 0] if audio.shape[1] == 1 else audio[:, :-1].sum(axis=1)


# --- Frechet audio distance -------------------------------------------------------------------------------------------


def embed(embedding: Embedding, clips: Iterable[np.ndarray], sample_rate: int) -> np.ndarray:
    """Embedding frames of clips, clip by clip: float32 [N, F, D].

    Only the clips that the embedding's network takes at once are in memory together, and the frames are the same to the
    last bit as those of all clips together.

    Args:
        embedding: see `metrics.embeddings.get_embedding`.
        clips: N >= 1 clips [T], all of one length.
        sample_rate: of the clips, in Hz.
    """
    left = iter(clips)
    first = next(left)
    left, size = chain([first], left), embedding.clips_at_once(len(first), sample_rate)
    found = []
    while block := list(islice(left, size)):
        frames = np.asarray(embedding.frames(np.stack(block), sample_rate), np.float32)
        found.append(frames.reshape(len(block), -1, frames.shape[-1]))
    return np.concatenate(found)


@dataclass(frozen=True)
class Reference:
    """A set of clips that generated ones are compared with.

    Attributes:
        name: of the set.
        tracks: for each clip the track that it comes from; "" for one that comes from none, or from several.
        clips: the clips [T], read or made one by one when they are asked for.
    """

    name: str
    tracks: list[str]
    clips: Iterator[np.ndarray]


def reference_audio(
    windows: WindowSet,
    *,
    clips: int,
    limit: int | None,
    mixtures: str,
    seed: int,
    groups: Sequence[Sequence[str]] | None = None,
) -> Iterator[Reference]:
    """Everything that generated clips are compared with.

    For each label: `stem/<label>`, test chunks in which it is active; `held-out/<label>`, more of them from other
    tracks; and `noise/<label>`, white noise at the loudness (root mean square) of the former. In the same way
    `mixture`, `held-out/mixture` and `noise/mixture`; and `shuffled`, sums of stems from different tracks.

    Where the split has few tracks (see `split_tracks`), the references take chunks of all tracks, and the held-out
    chunks are those of half of them: leave these tracks out of the reference that they are compared with.

    Args:
        windows: the test split.
        clips: number of noise clips and of shuffled mixtures, and greatest number of held-out chunks.
        limit: greatest number of chunks of a reference, at random; None takes all.
        mixtures: which chunks are reference mixtures, those with "all" stems active or "any".
        seed: the run's seed.
        groups: labels whose sum is a reference, too, `stem/<label>, <label>`: chunks in which all of them are active.

    Raises:
        UserError: if a reference has fewer than eight chunks, or if all of them are of one track.
    """
    table, K = windows.table, len(windows.labels)
    active = table["active"].map(lambda text: set(text.split(", ")))
    every = set(windows.labels)
    ours, others = split_tracks(table, windows.labels, seed)

    def pick(name: str, sounding: pd.Series) -> tuple[list[int], list[int]]:
        """Chunks of the reference, and held-out ones."""
        ids = table.index[sounding & table["track"].isin(ours)]
        chosen = sorted(draw(table, ids, limit, seed, "reference", name))
        if len(chosen) < 8:
            raise UserError(
                f"{windows.folder}: {name} has {len(chosen)} chunks, too few for a distance; compose more test tracks"
            )
        apart = others
        if ours == others:
            tracks = sorted(set(table.loc[chosen, "track"]), key=lambda track: item_seed(seed, "held out", name, track))
            if len(tracks) < 2:
                raise UserError(f"{windows.folder}: {name} is in one track alone; compose more test tracks")
            apart = set(tracks[: len(tracks) // 2])
        ids = table.index[sounding & table["track"].isin(apart)]
        return chosen, sorted(draw(table, ids, clips, seed, "held out", name))

    def of(chunks: Sequence[int]) -> list[str]:
        return table.loc[list(chunks), "track"].tolist()

    def stem(k: int, chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (windows.stems([chunk])[0, k, 0] for chunk in chunks)

    def together(members: Sequence[int], chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (windows.stems([chunk])[0, members, 0].sum(axis=0) for chunk in chunks)

    def mixture(chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (windows.mixture([chunk])[0, 0] for chunk in chunks)

    def noise(name: str, like: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(item_seed(seed, "noise", name))
        for signal in like:
            level = np.sqrt(np.mean(signal**2, axis=-1, keepdims=True))
            yield (level * rng.standard_normal(signal.shape)).astype(np.float32)

    def shuffled(chunks: Sequence[int]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(item_seed(seed, "shuffled"))
        for _ in range(clips):
            # The first chunks of a random order that lie in different tracks; few tracks may have to serve twice.
            first: dict[str, int] = {}
            for chunk in rng.permutation(chunks).tolist():
                first.setdefault(table.at[chunk, "track"], chunk)
                if len(first) == K:
                    break
            clip = np.zeros(windows.window, np.float32)
            for k, chunk in zip(range(K), cycle(first.values()), strict=False):
                clip += windows.stems([chunk])[0, k, 0]
            yield clip

    def sets(name: str, audio: Callable[[Iterable[int]], Iterator[np.ndarray]], sounding: pd.Series) -> Iterator[Any]:
        chosen, held_out = pick(name, sounding)
        short = name.removeprefix("stem/")
        yield Reference(name, of(chosen), audio(chosen))
        yield Reference(f"held-out/{short}", of(held_out), audio(held_out))
        yield Reference(f"noise/{short}", [""] * clips, noise(short, audio(islice(cycle(chosen), clips))))

    for k, label in enumerate(windows.labels):
        yield from sets(f"stem/{label}", partial(stem, k), active.map(lambda s, x=label: x in s))
    for group in groups or []:
        members = [windows.labels.index(label) for label in group]
        if len(group) > 1:
            sounding = active.map(lambda s, x=set(group): x <= s)
            yield from sets(f"stem/{', '.join(group)}", partial(together, members), sounding)
    full = active.map(lambda s: s == every if mixtures == "all" else len(s & every) > 0)
    yield from sets("mixture", mixture, full)
    yield Reference("shuffled", [""] * clips, shuffled(table.index[full & table["track"].isin(others)].tolist()))


SINGLES = {"single": "without negative prompts", "single_negative": "with negative prompts"}
SERIES = {"total": "GMSDI", "partial": "GMSDI", "partial_conditioned": "GMSDI, conditioned",
          "total_sequential": "GMSDI, one by one", "total_extracted": "GMSDI, extracted",
          "total_groups": "GMSDI, groups", "total_msdm": "MSDM", "partial_msdm": "MSDM"}  # fmt: skip
"""What Figure 3 and its table call the tasks."""
REAL, OTHER = "real stems of the chunk", "real stems of another chunk"
STEMS_OF = {"single": "GMSDI, single stems", "single_negative": "GMSDI, single stems, negative prompts",
            "single_weak_msdm": "weakly supervised MSDM, single stems"}  # fmt: skip
"""What the table of the stems of mixtures calls the tasks of single stems; for the others `SERIES`."""


def coherences(
    labels: Sequence[str], made: Mapping[str, tuple[pd.DataFrame, Shards]], windows: WindowSet
) -> pd.DataFrame:
    """How well the accompaniments of Figure 3 go with the given stems (`metrics.coherence`).

    Args:
        labels: the K labels.
        made: for each task of PARTIAL its clips and their audio [N, K + 1, T], see `join_shards`.
        windows: the test split.

    Returns:
        The columns series, bar (the given stems), given (their number), harmony, onsets, copied, clips; a row per
        series and bar, also for the scale: the given stems with the others of their own chunk, and with those of
        another.
    """
    from gmsdi.metrics.coherence import coherence

    rows = []
    for number, (task, (clips, audio)) in enumerate(made.items()):
        for bar, group in clips.groupby("bar", sort=False):
            given = [i for i, label in enumerate(labels) if label in bar.split(", ")]
            others = [i for i in range(len(labels)) if i not in given]
            # Neighbours are mostly of one track; clips far apart are not.
            chunks = group["chunk"].to_numpy()
            strange = np.roll(chunks, len(chunks) // 2)
            found: dict[str, list[tuple[np.ndarray, ...]]] = {}
            for start in range(0, len(group), CALL):  # a few clips in memory
                part = slice(start, start + CALL)
                stems = audio[group.index[part].tolist()]
                compared = {SERIES[task]: stems[:, others]}
                if number == 0:
                    compared[REAL] = windows.stems(chunks[part].tolist())[:, others, 0]
                    compared[OTHER] = windows.stems(strange[part].tolist())[:, others, 0]
                for series, accompaniment in compared.items():
                    pair = stems[:, given].sum(axis=1), accompaniment.sum(axis=1)
                    found.setdefault(series, []).append(coherence(*pair, windows.sample_rate))
            for series, parts in found.items():
                means = (np.concatenate(values).mean() for values in zip(*parts, strict=True))
                numbers = dict(zip(("harmony", "onsets", "copied"), means, strict=True))
                rows.append({"series": series, "bar": bar, "given": len(given), **numbers, "clips": len(group)})
    return pd.DataFrame(rows)


def made_stems(
    clips: pd.DataFrame, audio: Shards, rows: Sequence[str], *, count: int
) -> tuple[dict[str, list[int]], pd.DataFrame]:
    """Which clips the stems of a task are judged by, and how alike the waveforms of a clip's stems are.

    Args:
        clips: of TOTAL or PARTIAL, see `join_shards`.
        audio: [N, R + 1, T], the R stems and the mixture row.
        rows: what the R stems are called: the labels, or joint ones.
        count: clips of each stem. A stem that several bars generate takes its clips from all of them in turn, so that
            it has no more than in total generation: the distance depends on their number.

    Returns:
        For each of the `rows` the numbers of its clips. And for each ordered pair of them the columns stem, other,
        cosine (the mean over clips of ⟨x, x'⟩/(‖x‖·‖x'‖), where neither is silent), and absolute (the mean of its
        absolute value), over all clips in which `stem` is generated.
    """
    given = [set() if bar == "All" else set(bar.split(", ")) for bar in clips["bar"]]
    chosen: dict[str, list[int]] = {}
    for row in rows:
        bars = [group.index for bar, group in clips.groupby("bar", sort=False) if row not in bar.split(", ")]
        # The k-th clip, of another bar than its neighbours.
        chosen[row] = [int(bars[k % len(bars)][k]) for k in range(min(count, *map(len, bars)))]
    found: dict[tuple[str, str], list[float]] = {}
    for start in range(0, len(clips), CALL):
        numbers = list(range(start, min(start + CALL, len(clips))))
        for number, stems in zip(numbers, audio[numbers][:, :-1], strict=True):
            products = stems.astype(np.float64) @ stems.T.astype(np.float64)
            norms = np.sqrt(np.diag(products))
            for (i, stem), (j, other) in permutations(enumerate(rows), 2):
                if stem not in given[number] and norms[i] > 0 and norms[j] > 0:
                    found.setdefault((stem, other), []).append(products[i, j] / (norms[i] * norms[j]))
    pairs = [(*pair, np.mean(values), np.mean(np.abs(values))) for pair, values in found.items()]
    return chosen, pd.DataFrame(pairs, columns=["stem", "other", "cosine", "absolute"])


def real_cosines(windows: WindowSet, *, clips: int, seed: int) -> pd.DataFrame:
    """The cosines of `made_stems` of real stems, in at most `clips` chunks of the test split where all are active."""
    full = windows.table.index[windows.table["active"] == ", ".join(windows.labels)]
    chunks = sorted(draw(windows.table, full, clips, seed, "cosines"))
    table = pd.DataFrame({"bar": ["All"] * len(chunks)})

    class Real:
        def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
            stems = windows.stems([chunks[row] for row in rows])[:, :, 0]
            return np.concatenate([stems, stems.sum(axis=1, keepdims=True)], axis=1)

    return made_stems(table, Real(), windows.labels, count=clips)[1]  # type: ignore[arg-type]


def stems_of_mixtures(
    generated: Mapping[str, Mapping[str, np.ndarray]],
    cosines: Mapping[str, pd.DataFrame],
    references: Mapping[str, np.ndarray],
    *,
    seed: int,
    tracks: Mapping[str, Sequence[str]],
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Whether the stems of total and partial generation are the stems that they are called.

    The distance of a clip's sum from real mixtures does not say so: stems that are fractions of one mixture sum to it.

    Args:
        generated: for each task and stem frames [N, F, D]; also of single stems, for the scale.
        cosines: for each task the pairs of `made_stems`, and those of `real_cosines` as HELD_OUT.
        references: frames of `reference_audio`, by name.
        seed: the run's seed.
        tracks: for each of the references the tracks of its clips.
        confidence: coverage of the intervals.

    Returns:
        A row per series, stem and reference, with the columns series, stem, reference, own (whether it is the stem's),
        nearest (whether none is nearer, among those of single labels and its own), fad; for its own also fad_low and
        fad_high (`metrics.frechet.fad_ci`), and for the others the cosines of `made_stems` with the stem that the
        reference is of; clips, frames and reference_clips. Held-out chunks are compared as in `distances`.
    """
    from gmsdi.metrics.frechet import fad, fad_ci

    stems = [name.removeprefix("stem/") for name in references if name.startswith("stem/")]
    held_out = {stem: references[f"held-out/{stem}"] for stem in stems}
    rows = []
    for task, made in [*generated.items(), (HELD_OUT, held_out)]:
        mixed = f"{SERIES[task]}, {task.split('_')[0]} generation" if task in SERIES else task
        series = STEMS_OF.get(task, mixed)
        pairs = cosines[task].set_index(["stem", "other"]) if task in cosines else None
        for stem, frames in made.items():
            found: list[dict[str, Any]] = []
            own_tracks = np.asarray(tracks[f"held-out/{stem}"] if task == HELD_OUT else [""] * len(frames), dtype=str)
            clusters = [track or f"clip {number}" for number, track in enumerate(own_tracks)]
            for other in stems:
                if ", " in other and not (", " in stem and other in made):
                    continue  # joint references are for groups
                compared, compared_tracks = references[f"stem/{other}"], np.asarray(tracks[f"stem/{other}"], dtype=str)
                if task == HELD_OUT:
                    apart = ~np.isin(compared_tracks, own_tracks)
                    compared, compared_tracks = compared[apart], compared_tracks[apart]
                row: dict[str, Any] = {"series": series, "stem": stem, "reference": other, "own": other == stem}
                row["fad"] = fad(compared.reshape(-1, compared.shape[-1]), frames.reshape(-1, frames.shape[-1]))
                if other == stem:
                    row["fad_low"], row["fad_high"] = fad_ci(
                        compared, frames, compared_tracks.tolist(), clusters, confidence=confidence,
                        seed=item_seed(seed, "stems", series, stem),
                    )  # fmt: skip
                elif pairs is not None and (stem, other) in pairs.index:
                    row |= pairs.loc[(stem, other), ["cosine", "absolute"]].to_dict()
                row |= {"clips": len(frames), "frames": frames.shape[0] * frames.shape[1]}
                found.append({**row, "reference_clips": len(compared)})
            least = min(row["fad"] for row in found)
            rows += [{**row, "nearest": row["fad"] == least} for row in found]
    order = ["series", "stem", "reference", "own", "nearest", "fad", "fad_low", "fad_high", "cosine", "absolute"]
    return pd.DataFrame(rows).reindex(columns=[*order, "clips", "frames", "reference_clips"])


def distances(
    labels: Sequence[str],
    generated: Mapping[str, Mapping[str, np.ndarray]],
    references: Mapping[str, np.ndarray],
    *,
    seed: int,
    tracks: Mapping[str, Sequence[str]],
    singles: Mapping[str, str] = SINGLES,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frechet audio distances of Figure 2 and Figure 3.

    Args:
        labels: the K labels.
        generated: for each task (those of `singles`, "total", "partial", "partial_conditioned", and of the baselines
            "single_weak_msdm", "total_msdm", "partial_msdm") and bar, frames [N, F, D].
        references: frames of `reference_audio`, by name.
        seed: the run's seed.
        tracks: for each of the references the tracks of its clips, and for each task whose clips are made of test
            chunks their tracks, clip by clip; "" and what is left out are of no track.
        singles: what Figure 2 calls the tasks of single stems of the text-conditioned model.
        confidence: coverage of the intervals.

    Returns:
        Two tables with the columns bar, series, kind ("model", "line", or "other stem"), fad, fad_low, fad_high (see
        `metrics.frechet.fad_ci`), fad_inf, clips, tracks (0: of none), frames, reference_clips, reference_tracks,
        reference_frames, and shared_tracks, which are on both sides. Lines are computed from as many clips as bars
        where there are as many, as the distance depends on it; the held-out one never shares a track.
    """

    def row(
        bar: str, series: str, kind: str, frames: np.ndarray, reference: str, of: Sequence[str] | None = None
    ) -> dict[str, Any]:
        from gmsdi.metrics.frechet import fad, fad_ci, fad_inf

        compared, compared_tracks = references[reference], np.asarray(tracks[reference], dtype=str)
        own = np.asarray([""] * len(frames) if of is None else of, dtype=str)
        if series == HELD_OUT:
            apart = ~np.isin(compared_tracks, own)
            compared, compared_tracks = compared[apart], compared_tracks[apart]
        # A clip of no track is a cluster by itself.
        clusters = [track or f"clip {number}" for number, track in enumerate(own)]
        a, b = frames.reshape(-1, frames.shape[-1]), compared.reshape(-1, compared.shape[-1])
        seeded = {"seed": item_seed(seed, bar, series)}
        low, high = fad_ci(compared, frames, compared_tracks.tolist(), clusters, confidence=confidence, **seeded)
        return {
            "bar": bar,
            "series": series,
            "kind": kind,
            "fad": fad(b, a),
            "fad_low": low,
            "fad_high": high,
            "fad_inf": fad_inf(b, a, frames_per_clip=frames.shape[1], **seeded),
            "clips": len(frames),
            "tracks": len(set(own) - {""}),
            "frames": len(a),
            "reference_clips": len(compared),
            "reference_tracks": len(set(compared_tracks)),
            "reference_frames": len(b),
            "shared_tracks": len(set(own) & set(compared_tracks)),
        }

    def line(bar: str, series: str, kind: str, name: str, reference: str) -> dict[str, Any]:
        return row(bar, series, kind, references[name], reference, tracks[name])

    stems = []
    for label in labels:
        reference = f"stem/{label}"
        for task, series in {**singles, "single_weak_msdm": "weakly supervised MSDM"}.items():
            if task in generated:
                stems.append(row(label, series, "model", generated[task][label], reference))
        stems.append(line(label, HELD_OUT, "line", f"held-out/{label}", reference))
        stems.append(line(label, NOISE, "line", f"noise/{label}", reference))
        for other in labels:
            if other != label:
                stems.append(line(label, other, "other stem", f"held-out/{other}", reference))
    mixtures = [
        row(bar, series, "model", frames, "mixture", tracks.get(task))
        for task, series in SERIES.items()
        for bar, frames in generated.get(task, {}).items()
    ]
    mixtures.append(line("", HELD_OUT, "line", "held-out/mixture", "mixture"))
    mixtures.append(line("", SHUFFLED, "line", "shuffled", "mixture"))
    mixtures.append(line("", NOISE, "line", "noise/mixture", "mixture"))
    return pd.DataFrame(stems), pd.DataFrame(mixtures)


def _batches(
    items: Sequence[int], size: int, progress: Progress | None, done: int = 0
) -> Iterator[tuple[list[int], Callable[[int, int], None]]]:
    """Batches of items, each with a sampler's callback that reports to `progress`."""
    for start in range(0, len(items), size):
        part = list(items[start : start + size])

        def callback(step: int, steps: int, before: int = done + start, length: int = len(part)) -> None:
            if progress is not None:
                progress(before + length * step / steps)

        yield part, callback
        if progress is not None:
            progress(done + start + len(part))
