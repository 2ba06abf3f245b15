"""Regenerate the numbers and the figure of docs/fidelity.md.

Run `python -m benchmarks.fidelity` in the repository's root, with the packages of `requirements-peers.lock`; it takes
less than a minute. Each table replaces the text between `<!-- name -->` and `<!-- end -->` in the page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

from gmsdi import inference
from gmsdi.io.files import atomic
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.samplers import adpm2, dpmpp_2m, euler, heun
from gmsdi.sampling.schedules import karras
from gmsdi.study.figures import save
from tests.helpers.closed_form import (
    Normal,
    World,
    errors_by_steps,
    euler_moments,
    heun_moments,
    order,
    posterior,
    probe,
)
from tests.peers import oracles

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "fidelity.md", DOCS / "figures" / "posterior_gap.svg"


def networks() -> list[str]:
    """Differences between the outputs of the published network and of ours with its weights."""
    rows = []
    for name, text, arguments in (
        ("unconditional", None, oracles.REDUCED),
        ("joint, 4 channels", None, {**oracles.REDUCED, "in_channels": 4, "channels": 64}),
        ("text, 6 tokens", (6, 24), oracles.REDUCED),
    ):
        rows.append([f"MSDM's network, fewer channels: {name}", tiny(oracles.unet_difference(text, **arguments))])
    rows.append(["D with guidance (`embedding_scale` 4) and clamp", tiny(oracles.guided_difference(4.0))])
    return table(["compared with audio-diffusion-pytorch 0.0.43", "largest difference"], rows)


def parameters() -> list[str]:
    """Numbers of parameters of MSDM's network and its text-conditional variants."""
    rows = []
    for name, arguments in (
        ("unconditional", {}),
        ("joint, 4 channels", {"in_channels": 4}),
        ("t5-small", {"text_features": 512}),
        (
            "t5-small, 128 channels, 64 features a head",
            {"text_features": 512, "channels": 128, "attention_features": 64},
        ),
        ("t5-small, 64 channels, 64 features a head", {"text_features": 512, "channels": 64, "attention_features": 64}),
        ("t5-small, 32 channels, 32 features a head", {"text_features": 512, "channels": 32, "attention_features": 32}),
    ):
        with torch.device("meta"):
            ours = UNet1d(UNetConfig(**arguments))
        text = (64, arguments.pop("text_features")) if "text_features" in arguments else None
        with torch.device("meta"):
            theirs = oracles.published(text, **{**oracles.MSDM, **arguments})
        count = sum(p.numel() for p in ours.parameters()) + (math.prod(text) if text else 0)
        rows.append([name, f"{count / 1e6:.1f} M", f"{sum(p.numel() for p in theirs.parameters()) / 1e6:.1f} M"])
    return table(["network", "ours, with z*", "published class"], rows)


def trajectories() -> list[str]:
    """Largest differences along whole trajectories."""
    rows = [
        ["`euler`", "diffusers `EDMEulerScheduler`", oracles.edm_euler(0.0)],
        ["`euler`, s_churn 3", "the same, network evaluated after the churn", oracles.edm_euler(3.0)],
        ["`euler`, s_churn 3", "the same as its users run it", oracles.edm_euler(3.0, evaluated_after_churn=False)],
        ["`heun`", "diffusers `HeunDiscreteScheduler`", oracles.second_order("heun")],
        ["`adpm2`, geometric", "diffusers `KDPM2AncestralDiscreteScheduler`", oracles.second_order("adpm2")],
        ["`adpm2`, ρ = 1", "the same", oracles.second_order("adpm2", "power")],
        ["`adpm2`, ρ = 1", "audio-diffusion-pytorch `ADPM2Sampler`", oracles.adp_sampler()],
        ["`dpmpp_2m`", "diffusers `EDMDPMSolverMultistepScheduler`", oracles.edm_multistep()],
    ]
    return table(["ours", "peer", "largest difference"], [[*names, tiny(value)] for *names, value in rows])


def orders() -> list[str]:
    """Slopes of the error against the number of steps, for the Extractor of three correlated Gaussian sources."""
    labels, steps = ["Bass", "Drums", "Guitar"], [24, 48, 96, 192]
    world = World.random(labels, 2)
    y, x0 = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 1, 2)))
    derivative = inference.extractor(guided(world.denoise, 0.0, encode=world.embed), y[:1], labels)
    rows = []
    for name, sampler, options, expected in (
        ("`euler`", euler, {}, 1),
        ("`heun`", heun, {}, 2),
        ("`adpm2`, ρ = 1, without noise", adpm2, {"eta": 0.0}, 2),
        ("`adpm2`, geometric, without noise", adpm2, {"eta": 0.0, "midpoint": "geometric"}, 2),
        ("`dpmpp_2m`", dpmpp_2m, {}, 2),
    ):
        errors = errors_by_steps(derivative, x0[None], sampler, steps, **options)
        rows.append([name, str(expected), f"{order(steps, errors):.2f}", tiny(errors[0]), tiny(errors[-1])])
    return table(["sampler", "order", "measured", f"error at {steps[0]} steps", f"at {steps[-1]}"], rows)


def metrics() -> list[str]:
    """Differences of scores from those of other libraries."""

    def span(values: Any) -> str:
        return f"{np.min(values):.2f} to {np.max(values):.2f}"

    rows = [
        ["SI-SDR", "torchmetrics, `zero_mean=False`", f"{tiny(oracles.torchmetrics_si_sdr())} dB"],
        ["SI-SDR", "torchmetrics, `zero_mean=True`", f"{span(oracles.torchmetrics_si_sdr(True))} dB"],
        ["SI-SDR", "museval's SDR, filters of 1 tap", f"{tiny(oracles.museval_sdr(1))} dB"],
        ["SI-SDR", "museval's SDR, filters of 512 taps", f"{span(oracles.museval_sdr(512))} dB"],
        ["SIR and SAR, filters of 32 taps", "fast_bss_eval", f"{tiny(oracles.fast_bss_eval_difference())} dB"],
        ["Fréchet distance", "torchmetrics' FID formula", f"{tiny(oracles.torchmetrics_fad())} (relative)"],
        ["FAD of frames", "frechet-audio-distance", f"{tiny(oracles.fad_library_difference())} (relative)"],
    ]
    for name, peer, oracle in (
        ("VGGish's frames", "torchvggish, without its last ReLU", oracles.vggish_difference),
        ("CLAP's frames", "laion-clap on transformers' mel spectrogram", oracles.clap_difference),
    ):
        with TemporaryDirectory() as folder:
            rows.append([name, peer, f"{tiny(oracle(Path(folder)))} (relative)"])
    return table(["ours", "peer", "ours minus peer"], rows)


SHARES = {"Bass": 0.25, "Drums": 0.6, "Guitar": 0.1, "Piano": 0.05}
"""Shares of the mixture's power, for the table of the posterior."""

POWER = 0.2**2
"""Power of the mixture: MSDM's σ_data, squared."""


@dataclass(frozen=True)
class Run:
    """A way of sampling: `fraction` is s_churn / steps, which Karras et al. cap at √2 − 1."""

    name: str
    fraction: float
    resamples: int = 1

    def __call__(self, at: Any, rows: int, steps: int) -> Normal:
        """The end state of an affine derivative; without churn by Heun's method, which needs fewer steps."""
        sigmas = karras(steps, 1e-4, 1.0, 7)
        start = Normal.isotropic(rows, sigmas[0])
        if self.fraction == 0:
            return heun_moments(at, start, sigmas)
        return euler_moments(at, start, sigmas, s_churn=self.fraction * steps, resamples=self.resamples)


RUNS = (
    Run("no churn", 0.0),
    Run("s_churn 20 (paper)", 20 / 150),
    Run("s_churn 20, 2 resamples (MSDM)", 20 / 150, resamples=2),
    Run("s_churn 40, 2 resamples (weak MSDM)", 40 / 150, resamples=2),
)


class Separation:
    """A procedure on scalar sources that sum to y = 1, such as one frequency bin of stationary sources.

    Args:
        variances: label to variance of the source.
        build: `build(model, y [n, 1, 1], labels)`, the derivative.
    """

    def __init__(self, variances: dict[str, float], build: Callable[..., Any]) -> None:
        self.variances = np.array(list(variances.values()))
        world = World({label: np.array([[variance]]) for label, variance in variances.items()})
        model, labels = guided(world.denoise, 0.0, encode=world.embed), list(variances)
        self.build = lambda n: build(model, torch.ones(n, 1, 1, dtype=torch.float64), labels)
        self.rows = self.build(1).rows
        self.exact = posterior(world, labels, np.ones(1))
        self.at = lru_cache(maxsize=None)(self._at)

    def _at(self, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        A, b = probe(self.build, 1, self.rows, 1, sigma)
        return A[0], b[0]

    def end(self, run: Run, steps: int) -> Normal:
        """Mean and covariance of the stems at the end of a run."""
        end = run(self.at, self.rows, steps)
        # `stems` is affine too, so it is determined by its values at zero and at the unit vectors.
        units = torch.cat([torch.zeros(1, self.rows), torch.eye(self.rows)]).double()[..., None, None]
        stems = self.build(1 + self.rows).stems(units)[..., 0, 0].numpy()
        return end.affine((stems[1:] - stems[0]).T, stems[0])

    def compare(self, end: Normal) -> tuple[float, float, float]:
        """Compare an end state with the posterior, averaged over mixtures, in units of the posterior's variance.

        Returns:
            The end state's variance; its squared Wasserstein distance from the posterior (summed over the sources); and
            the mean squared error of a sample, which is 1 for the posterior's mean and 2 for a sample of the posterior.
        """
        variance, exact = np.diag(end.covariance).clip(0), np.diag(self.exact.covariance)
        bias = (end.mean - self.exact.mean) ** 2 * self.variances.sum()
        distance = bias + (np.sqrt(variance) - np.sqrt(exact)) ** 2
        parts = np.array([variance.sum(), distance.sum(), (bias + variance + exact).sum()])
        spread, gap, error = (parts / exact.sum()).tolist()
        return spread, gap, error


METHODS: dict[str, Callable[..., Any]] = {
    "Extractor": inference.extractor,
    "Extractor, consistent": partial(inference.extractor, consistent=True),
    "Separator (Drums)": lambda model, y, labels: inference.separator(model, y, labels, "Drums"),
}


def posterior_gap() -> list[str]:
    """The end state after 150 steps, compared with p(x | y)."""
    labels = list(SHARES)
    variances = {label: SHARES[label] * POWER for label in labels}
    rows = []
    for method, build in METHODS.items():
        separation = Separation(variances, build)
        for run in RUNS:
            end = separation.end(run, 150)
            spread, gap, error = separation.compare(end)
            rows.append([method, run.name, *(f"{mean:.3f}" for mean in end.mean), *numbers(spread, gap, error)])
    shares = [f"{SHARES[label]:.3f}" for label in labels]
    rows.append(["posterior", "one sample", *shares, *numbers(1, 0, 2)])
    rows.append(["posterior", "its mean", *shares, *numbers(0, 1, 1)])
    return table(["", "", *labels, "variance", "distance", "error"], rows)


def numbers(*values: float) -> list[str]:
    """Format numbers with two decimals."""
    return [f"{value:.2f}" for value in values]


def tiny(value: Any) -> str:
    """Format the largest difference of an array by its order of magnitude."""
    largest = float(np.abs(value).max())
    return f"{largest:.0e}" if largest else "0"


def draw(path: Path) -> None:
    """Draw how two sources share the mixture (left), and distances from the posterior against evaluations (right)."""
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    colours = ["#8c2f39", "#b07d2b", "#33658a", "#3f7d4e"]
    with mpl.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8), layout="constrained")
        levels = np.linspace(-30, 10, 21)
        shares = 10 ** (levels / 10) / (1 + 10 ** (levels / 10))
        left.plot(levels, shares, color="black", lw=2.2, label="posterior mean")
        for run, colour in zip(RUNS, colours, strict=True):
            means = []
            for share in shares:
                pair = Separation({"a": share * POWER, "b": (1 - share) * POWER}, inference.extractor)
                means.append(pair.end(run, 150).mean[0])
            left.plot(levels, means, color=colour, label=run.name)
        left.set(
            yscale="log", xlabel="level of the source relative to the rest (dB)", ylabel="share of the mixture (mean)"
        )
        left.legend(frameon=False)
        left.set_title("What a source gets of the mixture", loc="left", fontsize=9)
        variances = {label: share * POWER for label, share in SHARES.items()}
        for (method, build), line in zip(METHODS.items(), ("-", ":", "--"), strict=True):
            separation = Separation(variances, build)
            for run, colour in zip(RUNS, colours, strict=True):
                points = []
                for steps in (15, 25, 50, 100, 150, 300, 600):
                    evaluations = 2 * steps - 1 if run.fraction == 0 else steps * run.resamples
                    points.append((evaluations, separation.compare(separation.end(run, steps))[1]))
                right.plot(
                    *zip(*points, strict=True), line, color=colour, label=method if colour == colours[0] else None
                )
        right.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="squared distance / posterior's variance")
        right.set_title("Distance of the end state from p(x | y), four sources", loc="left", fontsize=9)
        handles = [mpl.lines.Line2D([], [], color="black", linestyle=line) for line in ("-", ":", "--")]
        right.legend(handles, METHODS, frameon=False)
        save(figure, path)
        plt.close(figure)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def main() -> None:
    """Rewrite the page and the figure."""
    page = PAGE.read_text()
    for part in (networks, parameters, trajectories, orders, metrics, posterior_gap):
        lines = "\n".join(part())
        page, found = re.subn(
            rf"(<!-- {part.__name__} -->\n).*?(<!-- end -->)",
            lambda m, text=lines: f"{m[1]}{text}\n{m[2]}",
            page,
            flags=re.S,
        )
        if found != 1:
            raise SystemExit(f"{PAGE}: no <!-- {part.__name__} --> to fill")
    draw(FIGURE)
    with atomic(PAGE) as temporary:
        temporary.write_text(page)


if __name__ == "__main__":
    main()
