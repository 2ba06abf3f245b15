"""How fast this package is beside others that compute the same: ratios of time, in one run.

    make bench
    OMP_NUM_THREADS=1 python -m benchmarks.speed --channels 128 --steps 10    # a larger network
    OMP_NUM_THREADS=1 python -m benchmarks.speed --device cuda                # sampling on a GPU

- audio-diffusion-pytorch's sampling loop: the same network, weights, states, batch and steps (ADPM2), in float32 and in
  bf16. *joint*: MSDM's network of all stems at once, without text; *conditional*: one stem, with text; *guided*: with
  text and guidance. Its loop gets bf16 as `torch.autocast`, ours as `gmsdi.load(precision="bf16")` does it.
- MSDM's evaluator: the SI-SDRi of a track, see `benchmarks.scoring`.
- frechet-audio-distance: the distance between two sets of embeddings, and VGGish's embeddings of clips.

All weights are random. Both sides use the same threads and the same memory allocator, `gmsdi.io.allocator`, and
alternate. What counts is processor time, which other programs influence less than wall-clock time does. Each pair is
also compared: a difference of results is shown beside the ratio. The table replaces the one in docs/speed.md.

On a GPU only sampling is compared, for a short and a long signal, by wall-clock time until the device is done. Their
loop runs as it is, ours plainly, from CUDA graphs (`gmsdi.load(cuda_graphs=True)`), and if asked for after
`torch.compile` (`gmsdi.load(compile=True)`), which takes minutes. The table is in docs/speed_cuda.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401  # before `bare` imports what needs it, since `bare` forgets modules
import torch
from torch import Tensor, nn

from benchmarks.scaling import fill, number, table
from benchmarks.scoring import compare, seconds_of
from gmsdi.io.allocator import tune_allocator
from gmsdi.metrics.frechet import fad
from gmsdi.metrics.vggish import VGGish
from gmsdi.models.adapters.adp import convert
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.models.edm.graphs import Graphs
from gmsdi.models.trainable import round_weights
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.samplers import adpm2
from gmsdi.sampling.schedules import karras
from tests.peers.engines import clips
from tests.peers.oracles import MSDM, bare, published, saved, scrambled

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CUDA_PAGE = DOCS / "speed.md", DOCS / "speed_cuda.md"
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = 0.2, 1e-4, 3.0, 7.0
TEXT = (64, 512)
"""Tokens of a prompt and features of each, as in the paper."""
PRECISIONS = ["float32", "bf16"]
TASKS = ["joint", "conditional", "guided"]
WAYS = {"plain": "", "graphs": ", CUDA graphs", "compiled": ", compiled"}
"""How our network runs, and what the table says of it."""
SCALE = 4.0
"""Of guidance, as audio-diffusion-pytorch counts it."""
HEAD = ["what both compute", "beside", "theirs, s", "ours, s", "times as fast", "smallest to largest", "difference"]


@dataclass(frozen=True)
class Pair:
    """What was measured of one task.

    Attributes:
        task: what both compute.
        peer: whose.
        ours: seconds of each round.
        theirs: the same.
        difference: between the results, in words.
    """

    task: str
    peer: str
    ours: list[float]
    theirs: list[float]
    difference: str

    def cells(self) -> list[str]:
        """A row of the table: median seconds, and median, smallest and largest ratio of a round."""
        ratios = [theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]
        medians = (number(statistics.median(seconds)) for seconds in (self.theirs, self.ours))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return [self.task, self.peer, *medians, f"{statistics.median(ratios):.2f}", spread, self.difference]


@dataclass(frozen=True)
class Size:
    """What is sampled.

    Attributes:
        channels: of the network's first level; MSDM's has 256.
        batch: signals at a time.
        strides: length of a signal, in samples of the network's deepest level.
        steps: of ADPM2, each with two evaluations.
    """

    channels: int = 64
    batch: int = 1
    strides: int = 2
    steps: int = 3

    def __str__(self) -> str:
        signals = f"{self.batch} x {8192 * self.strides} samples"
        return f"MSDM's network with {self.channels} channels, batches of {signals}, {self.steps} steps"


CUDA_SIZES = [Size(256, batch=1, strides=2, steps=10), Size(256, batch=1, strides=32, steps=10)]
"""MSDM's network, with a short signal and with MSDM's window."""


def loops(
    task: str, size: Size, precision: str, device: str = "cpu", way: str = "plain"
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Our sampling loop and audio-diffusion-pytorch's, of the same network and start.

    Each draws its noise from a generator that it seeds, so that in float32 the results agree.

    Args:
        task: "joint", "conditional" or "guided".
        size: of the network and of what it samples.
        precision: "float32" or "bf16".
        device: where both run.
        way: how our network runs, one of `WAYS`.
    """
    from audio_diffusion_pytorch import (
        ADPM2Sampler,
        Diffusion,
        DiffusionSampler,
        KarrasSchedule,
        LogNormalDistribution,
    )

    joint, scale = task == "joint", SCALE if task == "guided" else 1.0
    dtype = torch.bfloat16 if precision == "bf16" else None
    peer, arguments = _network(joint, size.channels, device)
    net, unconditional = convert(peer.state_dict(), arguments)
    generator = torch.Generator().manual_seed(1)
    shape = (size.batch, arguments["in_channels"], size.strides * net.config.stride)
    start = torch.randn(shape, generator=generator).to(device)
    embedding = torch.randn(TEXT, generator=generator).to(device)

    sampler = DiffusionSampler(
        Diffusion(peer, sigma_distribution=LogNormalDistribution(-3.0, 1.0), sigma_data=SIGMA_DATA),
        sampler=ADPM2Sampler(rho=1.0),
        sigma_schedule=KarrasSchedule(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=RHO),
        num_steps=size.steps + 1,
    )
    text: dict[str, Any] = {"embedding": embedding.expand(size.batch, -1, -1), "embedding_scale": scale}

    def theirs() -> Tensor:
        torch.manual_seed(2)
        with nullcontext() if dtype is None else torch.autocast(device, dtype):
            sampled: Tensor = sampler(start, **({} if joint else text))
        return sampled

    round_weights(net, dtype)
    if way == "graphs":
        net.forward = Graphs(net.forward)  # type: ignore[method-assign]
    elif way == "compiled":
        net.compile()
    denoiser = EDMDenoiser(net, SIGMA_DATA, dtype).requires_grad_(False)
    sigmas = karras(size.steps + 1, SIGMA_MIN, SIGMA_MAX, RHO)[:-1]  # theirs leaves out the step to 0

    def encode(texts: Any) -> Conditioning:
        bank = torch.stack([unconditional if text is None else embedding for text in texts])
        return Conditioning.bank(bank, torch.ones(bank.shape[:2], dtype=torch.bool, device=device))

    def ours() -> Tensor:
        torch.manual_seed(2)
        model = guided(denoiser, scale, convention="adp", encode=encode, clamp=1.0)

        def derivative(x: Tensor, sigma: float) -> Tensor:
            if joint:
                denoised = denoiser(x, x.new_full((size.batch,), sigma)).clamp(-1, 1)
            else:
                denoised = model(x, sigma, ["Bass"] * size.batch)
            return (x - denoised) / sigma

        with torch.no_grad():
            return adpm2(derivative, sigmas[0] * start, sigmas, noise=torch.randn_like).clamp(-1, 1)

    return ours, theirs


@lru_cache(maxsize=2)
def _network(joint: bool, channels: int, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Their network with random weights, and its arguments."""
    arguments = {**MSDM, "in_channels": 4 if joint else 1, "channels": channels}
    arguments["attention_features"] = max(8, channels // 2)
    with torch.device(device):
        return scrambled(published(None if joint else TEXT, **arguments)), arguments


def distance() -> tuple[Callable[[], float], Callable[[], float]]:
    """Our Fréchet distance of two sets of 128-dimensional embeddings, and that of frechet-audio-distance."""
    library = _fad_library()
    rng = np.random.default_rng(3)
    sets = [rng.standard_normal((count, 128)) @ rng.standard_normal((128, 128)) for count in (2000, 1500)]

    def theirs() -> float:
        moments = [moment for frames in sets for moment in library.calculate_embd_statistics(None, frames)]
        return float(library.calculate_frechet_distance(None, *moments))

    return lambda: fad(*sets), theirs


def embeddings(folder: Path, seconds: float = 5.0, count: int = 4) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """VGGish's embeddings of the same clips: ours, and by frechet-audio-distance with the package torchvggish.

    Args:
        folder: where the random weights are written.
        seconds: length of a clip.
        count: number of clips.
    """
    vggish = bare("torchvggish.torchvggish")
    front_end = bare("torchvggish.vggish_input", "resampy").waveform_to_examples
    network = scrambled(vggish._vgg())
    ours = VGGish(**saved(network.state_dict(), folder))
    network.embeddings = network.embeddings[:-1]  # as the library does
    library = _fad_library()
    taken = library.__new__(library)  # without the constructor, which downloads the weights
    taken.verbose, taken.model_name = False, "vggish"
    taken.model = torch.nn.Module()
    taken.model.forward = lambda clip, rate: network(front_end(clip, rate))  # what the hub's class does
    audio = clips(seconds, VGGish.sample_rate, count)
    double = audio.astype(np.float64)
    return (
        lambda: ours.frames(audio, VGGish.sample_rate),
        lambda: taken.get_embeddings(list(double), VGGish.sample_rate),
    )


@cache
def _fad_library() -> Any:
    unused = ("resampy", "laion_clap", "encodec", "frechet_audio_distance.models.pann", "frechet_audio_distance.utils")
    return bare("frechet_audio_distance.fad", *unused).FrechetAudioDistance


def alternated(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rounds: int,
    timed: Callable[[Callable[[], Any]], tuple[float, Any]] = seconds_of,
) -> tuple[list[float], list[float], str]:
    """The seconds of every round, ours and theirs, after one to warm up, and the relative difference of the results."""
    mine, peers = [], []
    for _ in range(rounds + 1):
        spent, result = timed(ours)
        mine.append(spent)
        spent, expected = timed(theirs)
        peers.append(spent)
    return mine[1:], peers[1:], difference(result, expected)


def seconds_on_cuda(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """The wall-clock time of a call until the device has nothing left to do, and its result, on the CPU."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result.cpu()


def difference(result: Any, expected: Any) -> str:
    """The root mean square of the difference of two results, relative to that of the second."""
    a, b = (np.asarray(each, dtype=np.float64) for each in (result, expected))
    return f"{np.sqrt(np.square(a - b).mean() / np.square(b).mean()):.0e}"


def pairs(size: Size, rounds: int, track: float, precisions: Sequence[str]) -> Iterator[Pair]:
    """Measure everything, one pair after the other."""
    ours, theirs, decibels = compare(track, 22050, rounds)
    yield Pair(f"SI-SDRi of {track:g} s, four stems", "MSDM's evaluator", ours, theirs, f"{decibels:.0e} dB")
    yield Pair("Fréchet distance, 128 features", "frechet-audio-distance", *alternated(*distance(), rounds))
    with tempfile.TemporaryDirectory() as folder:
        measured = alternated(*embeddings(Path(folder)), rounds)
    yield Pair("VGGish of four clips of 5 s", "frechet-audio-distance", *measured)
    for precision in precisions:
        for task in TASKS:
            measured = alternated(*loops(task, size, precision), rounds)
            yield Pair(f"sampling, {task}, {precision}", "audio-diffusion-pytorch", *measured)


def pairs_on_cuda(sizes: Sequence[Size], rounds: int, choices: argparse.Namespace) -> Iterator[Pair]:
    """Measure sampling on a GPU."""
    for size in sizes:
        for precision in choices.precisions:
            for task in choices.tasks:
                for way in choices.ways:
                    measured = alternated(*loops(task, size, precision, "cuda", way), rounds, seconds_on_cuda)
                    said = f"{task}, {precision}{WAYS[way]}, {size.batch} x {8192 * size.strides} samples"
                    yield Pair(said, "audio-diffusion-pytorch", *measured)


def machine_on_cuda(sizes: Sequence[Size], rounds: int) -> str:
    """What the numbers of a GPU hold for."""
    sampled = "; ".join(map(str, sizes))
    return (
        f"One {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}. {sampled}. "
        f"Medians of {rounds} rounds."
    )


def machine(size: Size | None, rounds: int) -> str:
    """What the numbers hold for, in a sentence or two."""
    cpu = torch.cpu.get_capabilities()
    kind = cpu.get("cpu_name") or torch.backends.cpu.get_cpu_capability()
    native = "with" if any(cpu.get(name) for name in ("amx_bf16", "avx512_bf16")) else "without"
    sampled = "" if size is None else f" {size}."
    return (
        f"One thread of {platform.machine()}, {kind}, {native} instructions for bf16, torch "
        f"{torch.__version__}."
        f"{sampled} Medians of {rounds} rounds."
    )


def main() -> None:
    """Measure, print the table and write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: only sampling")
    parser.add_argument("--channels", type=int, help="of the network, a multiple of 64 (MSDM has 256)")
    parser.add_argument("--batch", type=int, help="signals at a time")
    parser.add_argument("--strides", type=int, help="length of a signal, in 8192 samples")
    parser.add_argument("--steps", type=int, help="of the sampler")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument("--track", type=float, default=60.0, help="length of the scored track in seconds")
    parser.add_argument(
        "--precisions", nargs="*", default=PRECISIONS, help="of the networks that sample; nothing: no sampling"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="with --device cuda, what is sampled")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=["plain", "graphs"], help="with --device cuda, how our network runs"
    )
    parser.add_argument("--page", type=Path, help="with <!-- speed --> and <!-- machine -->")
    given = parser.parse_args()
    cuda = given.device == "cuda"
    if os.environ.get("OMP_NUM_THREADS") != "1":  # too late to set it here, since NumPy has already read it
        parser.error("both sides are timed on one thread; set OMP_NUM_THREADS=1 in the environment")
    if cuda and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    torch.set_num_threads(1)
    tune_allocator()
    changes = {key: getattr(given, key) for key in Size.__annotations__ if getattr(given, key) is not None}
    sizes = list(dict.fromkeys(replace(size, **changes) for size in (CUDA_SIZES if cuda else [Size()])))
    if cuda:
        found, described = pairs_on_cuda(sizes, given.rounds, given), machine_on_cuda(sizes, given.rounds)
    else:
        found = pairs(*sizes, given.rounds, given.track, given.precisions)
        described = machine(sizes[0] if given.precisions else None, given.rounds)
    rows = []
    for pair in found:
        rows.append(pair.cells())
        print(", ".join(rows[-1]), file=sys.stderr, flush=True)  # as a sign of life
    lines = table(HEAD, rows)
    print("\n".join([*lines, "", described]))
    page = given.page or (CUDA_PAGE if cuda else PAGE)
    fill("speed", lines, page)
    fill("machine", [described], page)


if __name__ == "__main__":
    main()
