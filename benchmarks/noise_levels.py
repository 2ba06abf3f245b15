"""At which noise levels generated mixtures lose their likeness to real ones.

    python -m benchmarks.noise_levels                                  # docs/noise_levels.md and docs/noise_levels.csv
    python -m benchmarks.noise_levels --clips 16 --references 40 --steps 8

Real mixtures are noised to a level σ₀ and sampled back. A small σ₀ leaves notes, chords and rhythm as they are, so
that the model makes only the fine structure of the waveform; from the largest one it makes everything. The Fréchet
audio distance of the results, to mixtures of other pieces, then says how much each range of noise levels costs. Beside
it stand the model's MSE/σ² at these levels, that of a Wiener filter that knows the true powers, and the distances of
sums of stems from different pieces and of plain generated mixtures.

All pieces are by the package's own composer, from the test split's branch of its seeds: some are the reference, others
are noised.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

import gmsdi
from gmsdi import inference
from gmsdi.data.mini import MiniConfig, compose_dataset
from gmsdi.data.windows import WindowSet, build_windows
from gmsdi.metrics.denoising import oracle_wiener
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.metrics.frechet import fad, fad_ci
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.session import Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.study.channels import heard
from gmsdi.study.config import load, validate
from gmsdi.study.embedding import embed
from gmsdi.study.sheets import Cell, Sheet, markdown

DOCS = Path(__file__).parents[1] / "docs"
LEVELS = (0.03, 0.1, 0.3, 1.0)
SEED = 0
BATCH = 8


def pieces(folder: Path, tracks: int, model: Any) -> WindowSet:
    """The windows of so many pieces of the test split, with stems."""
    settings = {**validate(load())["data"]["mini"], "tracks": {"test": tracks}}
    config = MiniConfig(sample_rate=model.sample_rate, **settings)
    compose_dataset(folder / "pieces", config, seed=SEED)
    classes = {label: [label] for label in model.labels}
    build_windows(
        folder / "pieces",
        "test",
        folder / "windows",
        sample_rate=model.sample_rate,
        window=model.window,
        classes=classes,
        stems=True,
    )
    return WindowSet(folder / "windows")


def chosen(windows: WindowSet, clips: int, references: int) -> tuple[list[int], list[int]]:
    """Chunks with all stems active: one of each of `clips` tracks, and up to two of each of the other tracks."""
    rng = np.random.default_rng(SEED)
    full = windows.table[windows.table["active"] == ", ".join(windows.labels)]
    by_track = [rng.permutation(group.index).tolist() for _, group in full.groupby("track", sort=True)]
    apart = [chunk for ids in by_track[clips:] for chunk in ids[:2]]
    return [ids[0] for ids in by_track[:clips]], apart[:references]


def sampled(session: Session, mixtures: Tensor | None, sigma: float, clips: int, steps: int) -> np.ndarray:
    """Mixtures `[N, T]`, sampled from σ: from noised ones, or from noise alone."""
    session = session.using(replace(session.solver, sigma_max=sigma, steps=steps))
    derivative = inference.Single(session, [", ".join(session.labels)])
    found = []
    for first in tqdm(range(0, clips, BATCH), desc=f"sampling from {sigma:g}", leave=False):
        seeds = range(first, min(first + BATCH, clips))
        noise = SeededNoise(list(seeds))
        start = torch.zeros(len(seeds), 1, *session.shape()) if mixtures is None else mixtures[first : first + BATCH]
        with torch.no_grad():
            x = start + sigma * noise(start)
            found.append(session.solver.sample(derivative, x, noise=noise)[:, 0, 0].numpy())
    return np.concatenate(found)


def errors(session: Session, mixtures: Tensor, sigma: float) -> tuple[float, float]:
    """MSE/σ² of the model, without guidance, and of the Wiener filter."""
    plain = session.using(guidance=Guidance(w=0.0))
    prompts = [", ".join(session.labels)] * len(mixtures)
    noise = SeededNoise(list(range(len(mixtures))))(mixtures)[:, 0]
    clean = mixtures[:, 0]
    with torch.no_grad():
        denoised = plain(clean + sigma * noise, sigma, prompts)
    error = (denoised - clean).square().mean() / sigma**2
    return float(error), float(oracle_wiener(clean, sigma, noise).mean())


def main() -> None:
    """Compose the pieces, sample, embed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--references", type=int, default=240)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--w", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=DOCS)
    told = parser.parse_args()
    model = gmsdi.load(told.model, device="cpu")
    solver = Solver("dpmpp_2m", steps=told.steps, sigma_min=0.01, sigma_max=8.0)
    session = Session(model, solver, Guidance(w=told.w, interval=(0.1, float("inf"))))
    embedding = get_embedding("musicnn-MTT-penultimate200")
    with tempfile.TemporaryDirectory() as folder:
        windows = pieces(Path(folder), told.clips + told.references // 2, model)
        ids, apart = chosen(windows, told.clips, told.references)
        real, reference, stems = (
            heard(audio) for audio in (windows.mixture(ids), windows.mixture(apart), windows.stems(ids))
        )
        tracks = windows.table.loc[ids, "track"].tolist()
        others = windows.table.loc[apart, "track"].tolist()
    shuffled = np.sum([np.roll(stems[:, k], k, axis=0) for k in range(stems.shape[1])], axis=0)
    frames = embed(embedding, iter(reference), model.sample_rate)

    def row(what: str, audio: np.ndarray, clusters: list[str], sigma: float | None = None) -> dict[str, Any]:
        found = embed(embedding, iter(audio), model.sample_rate)
        low, high = fad_ci(frames, found, others, clusters)
        distance = fad(frames.reshape(-1, frames.shape[-1]), found.reshape(-1, found.shape[-1]))
        return {"what": what, "sigma_0": sigma, "fad": distance, "low": low, "high": high}

    rows = [
        row("real mixtures of other pieces", real, tracks),
        row("stems of different pieces, summed", shuffled, tracks),
    ]
    mixtures = torch.from_numpy(real)[:, None, None]
    for sigma in LEVELS:
        again = sampled(session, mixtures, sigma, len(ids), told.steps)
        mse, wiener = errors(session, mixtures, sigma)
        rows.append({**row("noised and sampled back", again, tracks, sigma), "mse": mse, "wiener": wiener})
    new = sampled(session, None, solver.sigma_max, told.clips, told.steps)
    rows.append(row("generated from noise", new, [str(seed) for seed in range(told.clips)], solver.sigma_max))
    table = pd.DataFrame(rows)
    told.out.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(told.out / "noise_levels.csv", index=False)
    (told.out / "noise_levels.md").write_text(page(table, told, len(apart), len(set(others))))
    print(table.to_string(index=False))


def page(table: pd.DataFrame, told: argparse.Namespace, chunks: int, tracks: int) -> str:
    """The page of the documentation."""

    def number(value: float, digits: str) -> str:
        return "" if pd.isna(value) else format(value, digits)

    header = ["Mixtures", "σ₀", "FAD", "MSE/σ² at σ₀", "of a Wiener filter"]
    cells = [
        [
            line.what,
            number(line.sigma_0, "g"),
            Cell(f"{line.fad:.1f}", (f"{line.low:.1f}", f"{line.high:.1f}")),
            number(line.mse, ".3f"),
            number(line.wiener, ".3f"),
        ]
        for line in table.itertuples()
    ]
    title = f"Fréchet audio distance (musicnn) to {chunks} mixtures of {tracks} other pieces, 95% intervals over pieces"
    return (
        "# Where generated mixtures lose their likeness to real ones\n\n"
        f"{told.clips} mixtures of four stems, each of another piece by our composer, are noised to σ₀ and sampled\n"
        f"back in {told.steps} steps (w = {told.w:g}). At a small σ₀ the notes are given, so what the distance grows\n"
        "by is lost in the fine structure of the waveform. The Wiener filter knows the true power of every cell of\n"
        "the spectrogram.\n\n"
        f"{markdown([Sheet(title, header, cells)])}\n"
        f"Model {told.model}; written by `python -m benchmarks.noise_levels`.\n"
    )


if __name__ == "__main__":
    main()
