"""Regenerate the tables of docs/pretrained.md: what pretrained models cost, by the sizes of their classes.

`python -m benchmarks.pretrained`, in the repository's root, takes a minute. It builds the networks and autoencoders of
diffusers at the sizes of the published models, without memory (torch's device meta), counts their operations and
parameters, and converts them to time at an assumed throughput, `--teraflops`. With `--measure cpu` it also times a part
of one on a core of this machine, into docs/pretrained_speed.csv, and with `--measure cuda` all of them on its GPU, into
docs/pretrained_speed_cuda.csv; the tables of measurements are made from these. Each table replaces the text between
`<!-- name -->` and the next `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.scaling import fill, number, table
from gmsdi.io.files import atomic
from gmsdi.models.adapters.parts import latents
from gmsdi.models.trainable import round_weights
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study

ROOT = Path(__file__).parents[1]
PAGE, CONFIG = ROOT / "docs" / "pretrained.md", ROOT / "config" / "pretrained.yaml"
SPEED = ROOT / "docs" / "pretrained_speed.csv"
"""What `--measure cpu` writes: operations and seconds of each part, at the sizes that it times."""
GPU_SPEED = ROOT / "docs" / "pretrained_speed_cuda.csv"
"""What `--measure cuda` writes: seconds of each part at the size of a window, and the peak of the GPU's memory."""
TERAFLOPS = 100.0
"""Assumed throughput of a GPU, in 10¹² operations per second."""
CHANNELS = 2


@dataclass(frozen=True)
class Parts:
    """A pretrained model at its real size, with random weights or none.

    Attributes:
        transformer: the network.
        vae: the autoencoder.
        denoise: denoises one signal.
        space: of one signal.
        samples: of its window.
        rate: in Hz.
    """

    transformer: torch.nn.Module
    vae: torch.nn.Module
    denoise: Callable[[], Any]
    space: Any
    samples: int
    rate: int


def stable_audio(device: str, layers: int = 24, length: int = 1024) -> Parts:
    """Stable Audio Open 1.0, whose prompts have 128 tokens and two of the duration."""
    from diffusers import AutoencoderOobleck, StableAudioDiTModel
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    with torch.device(device):
        net: Any = StableAudioDiTModel(num_layers=layers)
        vae: Any = AutoencoderOobleck()
        cos, sin = get_1d_rotary_pos_embed(
            net.config.attention_head_dim // 2, length + 1, use_real=True, repeat_interleave_real=False
        )
        given = (torch.zeros(1, net.config.in_channels, length), torch.zeros(1))
        attended, state = torch.zeros(1, 130, 768), torch.zeros(1, 1, 1536)
    hop = vae.hop_length

    def denoise() -> Any:
        return net(
            *given,
            encoder_hidden_states=attended,
            global_hidden_states=state,
            rotary_embedding=(cos.to(device), sin.to(device)),
        )

    space = latents(lambda audio: vae.encode(audio).latent_dist.mode(), lambda x: vae.decode(x).sample, 64, hop)
    return Parts(net, vae, denoise, space, hop * length, 44100)


def stable_audio_3(device: str, layers: int | None = None, length: int = 506) -> Parts:
    """Stable Audio 3 medium with the small SAME, 256 tokens of a prompt and one of the duration."""
    from diffusers import AutoencoderSAME, StableAudio3DiTModel

    own = {} if layers is None else {"depth": layers}
    with torch.device(device):
        net: Any = StableAudio3DiTModel(**own)
        vae: Any = AutoencoderSAME()
        given = (torch.zeros(1, net.config.io_channels, length), torch.zeros(1))
        attended, mask = torch.zeros(1, 257, net.config.cond_token_dim), torch.ones(1, 257, dtype=torch.bool)
        state = torch.zeros(1, net.config.global_cond_dim)

    def denoise() -> Any:
        return net(*given, encoder_hidden_states=attended, encoder_attention_mask=mask, global_hidden_states=state)

    hop, dim = vae.downsampling_ratio, vae.config.latent_dim
    space = latents(lambda audio: vae.encode(audio).latents, lambda x: vae.decode(x).sample, dim, hop)
    return Parts(net, vae, denoise, space, hop * length, 44100)


def ace_step(device: str, layers: int = 24, length: int = 1500) -> Parts:
    """ACE-Step 1.5, base model: 256 tokens of a prompt, one of the timbre, and a dozen for empty lyrics.

    The autoencoder's sizes are those of `vae/config.json` in ACE-Step/Ace-Step1.5 on the Hugging Face Hub; the class
    defaults are Stable Audio Open's.
    """
    from diffusers import AceStepTransformer1DModel, AutoencoderOobleck

    with torch.device(device):
        net: Any = AceStepTransformer1DModel(num_hidden_layers=layers)
        vae: Any = AutoencoderOobleck(downsampling_ratios=[2, 4, 4, 6, 10], sampling_rate=48000)
        dim = net.config.audio_acoustic_hidden_dim
        state, t = torch.zeros(1, length, dim), torch.zeros(1)
        attended, context = torch.zeros(1, 269, net.config.hidden_size), torch.zeros(1, length, 2 * dim)

    def denoise() -> Any:
        return net(state, t, t, encoder_hidden_states=attended, context_latents=context)

    hop = vae.hop_length
    space = latents(lambda audio: vae.encode(audio).latent_dist.mode(), lambda x: vae.decode(x).sample, dim, hop)
    return Parts(net, vae, denoise, space, hop * length, 48000)


MODELS: dict[str, Callable[..., Parts]] = {
    "Stable Audio Open 1.0": stable_audio,
    "Stable Audio 3 medium base, with the small autoencoder": stable_audio_3,
    "ACE-Step 1.5 base": ace_step,
}


@dataclass(frozen=True)
class Counted:
    """Operations of one signal of a window; a multiplication and an addition count as two."""

    denoising: int
    encoding: int
    decoding: int
    transformer: int
    vae: int
    seconds: float


PARTS = ("denoise", "encode", "decode")
"""What `works` returns, in its order."""


def works(parts: Parts, audio: torch.Tensor) -> list[Callable[[], Any]]:
    """What is counted and timed of a model: a signal denoised, and audio `[1, C, T]` encoded and decoded."""
    with torch.no_grad():
        state = parts.space.encode(audio)
    return [parts.denoise, lambda: parts.space.encode(audio), lambda: parts.space.decode(state)]


def _operations(run: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as flops, torch.no_grad():
        run()
    return int(flops.get_total_flops())


@cache
def counted(name: str) -> Counted:
    """The operations and parameters of a model, from shapes alone."""
    parts = MODELS[name]("meta")
    found = [_operations(run) for run in works(parts, torch.zeros(1, CHANNELS, parts.samples, device="meta"))]
    network, vae = (sum(one.numel() for one in part.parameters()) for part in (parts.transformer, parts.vae))
    denoising, encoding, decoding = found
    return Counted(denoising, encoding, decoding, network, vae, parts.samples / parts.rate)


def operations() -> list[str]:
    """The table of operations."""
    head = ["", "window", "denoise", "encode", "decode", "weights on the device, float32"]
    rows = []
    for name in MODELS:
        one = counted(name)
        amounts = [f"{value / 1e12:.2f} T" for value in (one.denoising, one.encoding, one.decoding)]
        rows.append([name, f"{one.seconds:.2f} s", *amounts, f"{4 * (one.transformer + one.vae) / 1e9:.1f} GB"])
    return table(head, rows)


def hours(teraflops: float = TERAFLOPS) -> list[str]:
    """What the rows and tasks of config/pretrained.yaml take for one chunk or clip."""
    one = counted("Stable Audio Open 1.0")
    study = Study(validate(load(CONFIG)))
    batch = study.config["jobs"]["batch"]
    runs = {row.title: (row.taken(batch, batch, coded=True), batch) for row in study.rows.values()}
    for name in ("single", "total", "partial"):
        task = study.tasks[name]
        bars = task.bars()[:1] * batch
        runs[f"Figure {3 if task.mixed else 2}, {name}"] = (task.taken(bars, batch, coded=True), batch)
    rows = []
    for title, (own, items) in runs.items():
        work = own.evaluations * one.denoising + own.encoded * one.encoding + own.decoded * one.decoding
        counts = [number(count / items) for count in (own.evaluations, own.encoded, own.decoded)]
        rows.append([title, *counts, f"{work / items / 1e15:.2f} P", f"{work / items / teraflops / 1e12:.0f} s"])
    return table(["for one window", "denoised", "encoded", "decoded", "operations", f"at {teraflops:g} T/s"], rows)


def measure_cpu(repetitions: int = 3) -> None:
    """Time two layers of the network and the autoencoder on 1.5 s of audio, on one core, into `SPEED`.

    Args:
        repetitions: runs of each part; the median of their processor times counts.
    """
    name = next(iter(MODELS))
    parts = MODELS[name]("cpu", layers=2, length=1024)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for part, run in zip(PARTS, works(parts, torch.randn(1, CHANNELS, parts.samples // 32)), strict=True):
        spent = []
        for _ in range(repetitions):
            start = time.process_time()
            with torch.no_grad():
                run()
            spent.append(time.process_time() - start)
        rows.append([name, part, _operations(run), f"{statistics.median(spent):.3f}"])
    torch.set_num_threads(before)
    with atomic(SPEED) as path, path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["model", "part", "operations", "seconds"], *rows])


def measure_gpu(repetitions: int = 3) -> None:
    """Time each model at its full size on the GPU, into `GPU_SPEED`, one window at a time.

    As in `gmsdi.models.adapters`, the network runs in float32 or in bfloat16, the autoencoder in float32.

    Args:
        repetitions: runs of each part after one that warms up; the median of their times counts.
    """
    gpu, rows = torch.cuda.get_device_name(), []
    for name, build in MODELS.items():
        parts = build("cuda")
        given = works(parts, torch.randn(1, CHANNELS, parts.samples, device="cuda"))
        runs = [(part, None, run) for part, run in zip(PARTS, given, strict=True)]
        for part, dtype, run in [*runs, (PARTS[0], torch.bfloat16, given[0])]:  # bf16 last: rounding cannot be undone
            round_weights(parts.transformer, dtype)
            torch.cuda.reset_peak_memory_stats()
            spent = []
            for _ in range(repetitions + 1):
                torch.cuda.synchronize()
                start = time.perf_counter()
                with torch.no_grad(), torch.autocast("cuda", dtype, enabled=dtype is not None):
                    run()
                torch.cuda.synchronize()
                spent.append(time.perf_counter() - start)
            peak = torch.cuda.max_memory_allocated() / 1e9
            precision = "float32" if dtype is None else "bf16"
            rows.append([gpu, name, part, precision, f"{statistics.median(spent[1:]):.5f}", f"{peak:.2f}"])
        del parts, given, runs, run
        torch.cuda.empty_cache()
    with atomic(GPU_SPEED) as path, path.open("w", newline="", encoding="utf-8") as file:
        head = ["gpu", "model", "part", "precision", "seconds", "gigabytes"]
        csv.writer(file, lineterminator="\n").writerows([head, *rows])


def measured() -> list[str]:
    """The table of measurements on a CPU: operations per second, and what a whole window would take at that speed."""
    with SPEED.open(newline="", encoding="utf-8") as file:
        found = {(row["model"], row["part"]): row for row in csv.DictReader(file)}
    rows = []
    for name in sorted({model for model, _ in found}):
        one = counted(name)
        speeds = [int(found[name, part]["operations"]) / float(found[name, part]["seconds"]) for part in PARTS]
        whole = zip((one.denoising, one.encoding, one.decoding), speeds, strict=True)
        rows += [
            [f"{name}: operations per second", *(f"{speed / 1e9:.0f} G" for speed in speeds)],
            [f"a window of {one.seconds:.2f} s at that speed", *(f"{work / speed:.0f} s" for work, speed in whole)],
        ]
    return table(["", *PARTS], rows)


def measured_gpu() -> list[str]:
    """The table of measurements on a GPU: times of each part in the order of the file, and the peak of memory."""
    with GPU_SPEED.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[str, str]] = {}
    peaks: dict[str, float] = {}
    for row in rows:
        times = found.setdefault(row["model"], {})
        times[f"{row['part']}, {row['precision']}"] = f"{1e3 * float(row['seconds']):.0f} ms"
        peaks[row["model"]] = max(peaks.get(row["model"], 0.0), float(row["gigabytes"]))
    timed = list(next(iter(found.values())))
    cells = [[name, *(times[part] for part in timed), f"{peaks[name]:.1f} GB"] for name, times in found.items()]
    return table([rows[0]["gpu"], *timed, "peak of memory"], cells)


def main() -> None:
    """Update the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teraflops", type=float, default=TERAFLOPS, help="throughput of a GPU (default: %(default)s)")
    parser.add_argument(
        "--measure", choices=["cpu", "cuda"], help="also time parts of a model on a core, or all on a GPU"
    )
    given = parser.parse_args()
    fill("operations", operations(), PAGE)
    if given.measure == "cpu":
        measure_cpu()
    if given.measure == "cuda":
        measure_gpu()
    fill("hours", hours(given.teraflops), PAGE)
    fill("measured", measured(), PAGE)
    fill("measured_gpu", measured_gpu(), PAGE)


if __name__ == "__main__":
    main()
