"""Runs a peer and ours on the same input; each function returns how far apart they are."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from gmsdi.metrics.bss_eval import bss_eval_windows, museval_metrics
from gmsdi.metrics.clap import CLAP
from gmsdi.metrics.frechet import fad, frechet_distance
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.metrics.vggish import VGGish
from gmsdi.models.adapters.adp import convert
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.samplers import adpm2, dpmpp_2m, euler, heun
from gmsdi.sampling.schedules import churned, karras

MSDM: dict[str, Any] = {
    "in_channels": 1,
    "channels": 256,
    "patch_blocks": 1,
    "patch_factor": 16,
    "multipliers": [1, 2, 4, 4, 4, 4, 4],
    "factors": [4, 4, 4, 2, 2, 2],
    "num_blocks": [2, 2, 2, 2, 2, 2],
    "attentions": [False, False, False, True, True, True],
    "attention_heads": 8,
    "attention_features": 128,
    "attention_multiplier": 2,
    "resnet_groups": 8,
    "kernel_multiplier_downsample": 2,
    "kernel_sizes_init": [1, 3, 7],
    "use_nearest_upsample": False,
    "use_skip_scale": True,
    "use_attention_bottleneck": True,
    "use_context_time": True,
}
"""MSDM's network, as arguments of the published class."""

REDUCED = {**MSDM, "channels": 32, "attention_features": 16}
"""The same shape with fewer channels."""

SMALL: dict[str, Any] = {
    **MSDM,
    "channels": 16,
    "patch_factor": 4,
    "multipliers": [1, 2, 3],
    "factors": [3, 2],
    "num_blocks": [1, 2],
    "attentions": [False, True],
    "attention_heads": 2,
    "attention_features": 8,
    "resnet_groups": 4,
}


def scrambled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter a random number, drawn where it is; gains around 1: no branch silent, no two gains alike."""
    device = next(net.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in net.named_parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and not name.endswith(".g") else 0.2
        random = torch.randn(parameter.shape, generator=generator, device=device) * scale
        gain = name.endswith((".g", "norm.weight"))
        parameter.data.copy_(random + 1 if gain else random)
    return net.eval().requires_grad_(False)


def published(text: tuple[int, int] | None, **arguments: Any) -> nn.Module:
    """`UNet1d`, or with `text` = (tokens, features) `UNetConditional1d`, of audio-diffusion-pytorch."""
    from audio_diffusion_pytorch import UNet1d, UNetConditional1d

    if text is None:
        return UNet1d(**arguments)
    return UNetConditional1d(context_embedding_max_length=text[0], context_embedding_features=text[1], **arguments)


def unet_difference(text: tuple[int, int] | None, strides: int = 2, **arguments: Any) -> float:
    """Largest difference of the two networks' outputs, relative to the output's standard deviation."""
    peer = scrambled(published(text, **arguments))
    ours, unconditional = convert(peer.state_dict(), arguments)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, arguments["in_channels"], strides * ours.config.stride, generator=generator)
    time = torch.tensor([-1.3, 0.2])
    if text is None:
        expected, result = peer(x, time), ours(x, time)
    else:
        assert unconditional is not None
        tokens = torch.randn(2, *text, generator=generator)
        features = {"features": tokens.mean(dim=1)} if "context_features" in arguments else {}
        expected = peer(x, time, embedding=tokens, **features)
        result = ours(x, time, Conditioning.bank(tokens, torch.ones(2, text[0], dtype=torch.bool)))
    return ((result - expected).abs().max() / expected.std()).item()


def guided_difference(scale: float) -> float:
    """Largest difference of D* between ADP's diffusion (guidance and clamp) and ours, over several σ."""
    from audio_diffusion_pytorch import Diffusion, LogNormalDistribution

    tokens, features = 5, 12
    peer = scrambled(published((tokens, features), **SMALL))
    diffusion = Diffusion(peer, sigma_distribution=LogNormalDistribution(-3.0, 1.0), sigma_data=0.2)
    net, unconditional = convert(peer.state_dict(), SMALL)
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(tokens, features, generator=generator)
    x = torch.randn(3, 1, 2 * net.config.stride, generator=generator)

    def encode(texts: Sequence[str | None]) -> Conditioning:
        bank = torch.stack([unconditional if text is None else embedding for text in texts])
        return Conditioning.bank(bank, torch.ones(bank.shape[:2], dtype=torch.bool))

    model = guided(EDMDenoiser(net, 0.2), scale, convention="adp", encode=encode, clamp=1.0)
    worst = 0.0
    for sigma in (0.002, 0.1, 1.0, 20.0):
        batch = embedding.expand(3, -1, -1)
        expected = diffusion.denoise_fn(x * (1 + sigma), sigma=sigma, embedding=batch, embedding_scale=scale)
        worst = max(worst, (model(x * (1 + sigma), sigma, ["Bass"] * 3) - expected).abs().max().item())
    return worst


STEPS, SIGMA_DATA, SHAPE = 12, 0.5, (2, 1, 40)


def denoise(x: Tensor, sigma: float) -> Tensor:
    """A denoiser that is not linear: the posterior mean where every sample of the signal is 1/2 or -1/2."""
    return 0.5 * torch.tanh(0.5 * x / sigma**2)


def derivative(x: Tensor, sigma: float) -> Tensor:
    return (x - denoise(x, sigma)) / sigma


def raw_output(x: Tensor, sigma: float) -> Tensor:
    """What an EDM network has to say at x for D to be `denoise`."""
    total = math.hypot(sigma, SIGMA_DATA)
    return (denoise(x, sigma) - (SIGMA_DATA / total) ** 2 * x) * total / (sigma * SIGMA_DATA)


def trajectory(
    sampler: Callable[..., Tensor], sigmas: Sequence[float], **options: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """Every state at which our sampler evaluates the derivative, and the last; and the noise that it was given."""
    generator = torch.Generator().manual_seed(4)
    states: list[Tensor] = []
    draws: list[Tensor] = []

    def noise(x: Tensor) -> Tensor:
        draws.append(torch.randn(x.shape, generator=generator).to(x))
        return draws[-1]

    def recording(x: Tensor, sigma: float) -> Tensor:
        states.append(x)
        return derivative(x, sigma)

    last = sampler(recording, start(sigmas[0]), sigmas, noise=noise, **options)
    return [*states, last], draws


def start(sigma: float) -> Tensor:
    return sigma * torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest one along two trajectories."""
    assert len(ours) == len(theirs)
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@contextmanager
def replayed(scheduler: Any, draws: Sequence[Tensor]) -> Iterator[None]:
    """Within this, a scheduler draws the given noise, in order."""
    module, queue = sys.modules[type(scheduler).__module__], iter(draws)
    original = module.randn_tensor  # type: ignore[attr-defined]
    module.randn_tensor = lambda *args, **kwargs: next(queue)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.randn_tensor = original  # type: ignore[attr-defined]


def edm_euler(s_churn: float, *, evaluated_after_churn: bool = True) -> float:
    """Against diffusers' `EDMEulerScheduler`.

    diffusers adds the churn's noise after the network has been evaluated, which therefore sees x at σ, not x̂ at σ̂ as
    in Karras et al. 2022, Algorithm 2. With `evaluated_after_churn` its scheduler gets the network's output for x̂.
    """
    from diffusers import EDMEulerScheduler

    sigmas = karras(STEPS, 0.01, 5.0, 7)
    ours, draws = trajectory(euler, sigmas, s_churn=s_churn)
    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=5.0, sigma_data=SIGMA_DATA, rho=7.0)
    scheduler.set_timesteps(STEPS)
    x, theirs = start(sigmas[0]), []
    with replayed(scheduler, draws):
        for i, timestep in enumerate(scheduler.timesteps):
            sigma, sigma_hat = sigmas[i], churned(sigmas[i], s_churn, STEPS)
            churned_x = x + math.sqrt(sigma_hat**2 - sigma**2) * draws[i] if s_churn else x
            output = raw_output(churned_x, sigma_hat) if evaluated_after_churn else raw_output(x, sigma)
            theirs.append(churned_x)
            scheduler.scale_model_input(x, timestep)
            x = scheduler.step(output, timestep, x, s_churn=s_churn).prev_sample
    return difference(ours, [*theirs, x])


def second_order(name: str, midpoint: str = "geometric") -> float:
    """Against diffusers' `HeunDiscreteScheduler` ("heun") or `KDPM2AncestralDiscreteScheduler` ("adpm2")."""
    from diffusers import HeunDiscreteScheduler, KDPM2AncestralDiscreteScheduler

    scheduler = {"heun": HeunDiscreteScheduler, "adpm2": KDPM2AncestralDiscreteScheduler}[name](use_karras_sigmas=True)
    scheduler.set_timesteps(STEPS)
    sigmas = [scheduler.sigmas[0].item(), *scheduler.sigmas[1 : 2 * STEPS : 2].tolist()]
    # Their float32 arithmetic allows no more; below, ours uses their values.
    np.testing.assert_allclose(sigmas, karras(STEPS, sigmas[-2], sigmas[0], 7), rtol=1e-5)
    if name == "heun":
        ours, draws = trajectory(heun, sigmas)
    else:
        ours, draws = trajectory(adpm2, sigmas, midpoint=midpoint)
    x, theirs = start(sigmas[0]), []
    with replayed(scheduler, draws) if draws else nullcontext():
        for timestep in scheduler.timesteps:
            scheduler.scale_model_input(x, timestep)
            level = scheduler.sigmas[scheduler.step_index]
            if name == "adpm2" and not scheduler.state_in_first_order:
                level = scheduler.sigmas_interpol[scheduler.step_index - 1]
            theirs.append(x)
            x = scheduler.step(derivative(x, level.item()), timestep, x).prev_sample  # ε is the derivative
    return difference(ours, [*theirs, x])


def edm_multistep() -> float:
    """`dpmpp_2m` against diffusers' `EDMDPMSolverMultistepScheduler`."""
    from diffusers import EDMDPMSolverMultistepScheduler

    # From 15 steps on, it takes the second-to-last step like the others.
    steps = 16
    sigmas = karras(steps, 0.01, 5.0, 7)
    ours, _ = trajectory(dpmpp_2m, sigmas)
    scheduler = EDMDPMSolverMultistepScheduler(sigma_min=0.01, sigma_max=5.0, sigma_data=SIGMA_DATA, rho=7.0)
    scheduler.set_timesteps(steps)
    x, theirs = start(sigmas[0]), []
    for sigma, timestep in zip(sigmas, scheduler.timesteps, strict=False):
        scheduler.scale_model_input(x, timestep)
        theirs.append(x)
        x = scheduler.step(raw_output(x, sigma), timestep, x).prev_sample
    return difference(ours, [*theirs, x])


def adp_sampler() -> float:
    """`adpm2` with ρ = 1 against ADP's `ADPM2Sampler` and `KarrasSchedule`, which leave out the step to 0."""
    from audio_diffusion_pytorch import ADPM2Sampler, KarrasSchedule
    from audio_diffusion_pytorch import diffusion as module

    sigmas = karras(STEPS, 0.01, 3.0, 9)
    ours, draws = trajectory(adpm2, sigmas[:-1])
    theirs: list[Tensor] = []

    def fn(x: Tensor, sigma: Tensor) -> Tensor:
        theirs.append(x)
        return denoise(x, sigma.item())

    schedule = KarrasSchedule(sigma_min=0.01, sigma_max=3.0, rho=9.0)(STEPS, "cpu")
    with mock.patch.object(module.torch, "randn_like", side_effect=draws):
        last = ADPM2Sampler(rho=1.0)(start(1.0), fn=fn, sigmas=schedule, num_steps=STEPS)
    return difference(ours, [*theirs, last])


def signals() -> tuple[np.ndarray, np.ndarray]:
    """Three noisy sources `[3, 4000]`, estimates with leakage and noise, in float64."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((3, 4000)) + rng.standard_normal((3, 1))
    mixing = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
    return targets, mixing @ targets + 0.2 * rng.standard_normal((3, 4000))


def torchmetrics_si_sdr(zero_mean: bool = False) -> np.ndarray:
    """Our SI-SDR minus torchmetrics', in dB, per signal."""
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    targets, estimates = signals()
    theirs = scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimates), torch.from_numpy(targets), zero_mean=zero_mean
    )
    return si_sdr(estimates, targets, eps=np.finfo(np.float64).eps) - theirs.numpy()


def museval_sdr(taps: int) -> np.ndarray:
    """Our SI-SDR minus museval's SDR (BSS Eval, sources version) with distortion filters of `taps`, in dB."""
    targets, estimates = signals()
    theirs, *_ = museval_metrics().bss_eval(
        targets[..., None],
        estimates[..., None],
        window=np.inf,
        hop=np.inf,
        filters_len=taps,
        bsseval_sources_version=True,
    )
    return si_sdr(estimates, targets) - theirs[:, 0]


def separated(seconds: float, rate: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and targets of a track `[4, T]` in float32: stems that rest at times, with leakage and noise."""
    rng = np.random.default_rng(seed)
    targets = np.float32(0.1) * rng.standard_normal((4, round(seconds * rate)), dtype=np.float32)
    for start in range(0, targets.shape[1], 5 * rate):
        targets[rng.random(4) < 0.4, start : start + 5 * rate] = 0
    mixing = np.eye(4, dtype=np.float32) + np.float32(0.05) * rng.standard_normal((4, 4), dtype=np.float32)
    noise = np.float32(0.01) * rng.standard_normal(targets.shape, dtype=np.float32)
    return mixing @ targets + noise, targets


def msdm_scores(estimates: np.ndarray, targets: np.ndarray, rate: int) -> np.ndarray:
    """SI-SDRi of every scored sub-window and stem, `[W, K]`, by the steps of MSDM's evaluator in PyTorch and float32.

    Its steps: the mixture is the sum of the stems; for each 4 s every 2 s the active stems are counted, and with two
    or more each stem's ratio is computed for the estimate and again for the mixture, ε = 1e-8.
    """
    eps, long, overlap = 1e-8, 4 * rate, 2 * rate
    sources, found = [[torch.from_numpy(row)[None] for row in rows] for rows in (targets, estimates)]
    mixture = torch.stack(sources).sum(dim=0)

    def ratio(guess: Tensor, truth: Tensor) -> Tensor:
        gain = ((guess * truth).sum(dim=-1, keepdim=True) + eps) / (truth.square().sum(dim=-1, keepdim=True) + eps)
        wanted = gain * truth
        rest = (wanted - guess).square().sum(dim=-1) + eps
        return 10 * torch.log10((wanted.square().sum(dim=-1) + eps) / rest)

    rows = []
    for number in range(math.ceil((mixture.shape[-1] - overlap) / (long - overlap))):
        cut = slice(number * (long - overlap), number * (long - overlap) + long)
        active = sum(bool(torch.linalg.norm(x[:, cut]) / x[:, cut].shape[-1] >= 1.5e-5) for x in sources)
        if active > 1:
            pairs = zip(found, sources, strict=True)
            rows.append([(ratio(e[:, cut], t[:, cut]) - ratio(mixture[:, cut], t[:, cut])).item() for e, t in pairs])
    return np.array(rows)


def torchmetrics_fad() -> float:
    """Our Fréchet distance against torchmetrics' FID formula on random Gaussians, relative."""
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(1)
    mu1, mu2 = rng.standard_normal((2, 20))
    root1, root2 = rng.standard_normal((2, 20, 30))
    moments = mu1, root1 @ root1.T / 30, mu2, root2 @ root2.T / 30
    theirs = _compute_fid(*(torch.from_numpy(moment) for moment in moments)).item()
    return abs(frechet_distance(*moments) / theirs - 1)


def fast_bss_eval_difference() -> np.ndarray:
    """Our SIR and SAR over the whole signal minus those of fast_bss_eval, in dB, `[stems, 2]`."""
    from fast_bss_eval import bss_eval_sources

    targets, estimates = signals()
    table = bss_eval_windows(estimates, targets, 4000, labels=list("abc"), taps=32)
    # Its NumPy half does not know NumPy 2.
    pair = torch.from_numpy(targets), torch.from_numpy(estimates)
    _, sir, sar = bss_eval_sources(*pair, filter_length=32, compute_permutation=False)
    return table[["sir", "sar"]].to_numpy() - torch.stack([sir, sar], dim=1).numpy()


def bare(module: str, *unused: str) -> ModuleType:
    """Import one module of a peer without the rest of its package, and with dummies for imports it makes no use of."""
    stand_ins: dict[str, Any] = {name: mock.MagicMock() for name in unused}
    top = importlib.util.find_spec(module.split(".")[0])
    assert top is not None
    assert top.submodule_search_locations
    folder = Path(top.submodule_search_locations[0]).parent
    for package in accumulate(module.split(".")[:-1], "{}.{}".format):
        stand_ins[package] = ModuleType(package)
        stand_ins[package].__path__ = [str(folder.joinpath(*package.split(".")))]
    with mock.patch.dict(sys.modules, stand_ins):
        return importlib.import_module(module)


def fad_library_difference() -> float:
    """Our FAD of two sets of random frames against the package frechet-audio-distance, relative."""
    unused = ("resampy", "laion_clap", "encodec", "frechet_audio_distance.models.pann", "frechet_audio_distance.utils")
    library = bare("frechet_audio_distance.fad", *unused).FrechetAudioDistance
    rng = np.random.default_rng(2)
    sets = [rng.standard_normal((n, 20)) @ rng.standard_normal((20, 20)) + rng.standard_normal(20) for n in (150, 90)]
    moments = [moment for frames in sets for moment in library.calculate_embd_statistics(None, frames)]
    return abs(fad(*sets) / library.calculate_frechet_distance(None, *moments).item() - 1)


def noises(seconds: float, rate: int) -> np.ndarray:
    """White noise that swells, and brown noise that fades, `[2, T]`."""
    noise = np.random.default_rng(3).standard_normal((2, round(seconds * rate)))
    noise[1] = 0.02 * noise[1].cumsum()
    noise *= np.linspace(0.01, 1, noise.shape[1])
    return np.stack([0.3 * noise[0], noise[1, ::-1].clip(-1, 1)]).astype(np.float32)


def saved(content: Any, folder: Path) -> dict[str, Any]:
    """Write a checkpoint; return the arguments that make an embedding load it."""
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    with path.open("rb") as stream:
        return {"checkpoint": path, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def vggish_difference(folder: Path) -> float:
    """Largest difference of our VGGish from torchvggish without its last ReLU, relative to the standard deviation."""
    peer = scrambled(bare("torchvggish.torchvggish")._vgg())
    ours = VGGish(**saved(peer.state_dict(), folder))
    peer.embeddings = peer.embeddings[:-1]
    front_end = bare("torchvggish.vggish_input", "resampy").waveform_to_examples
    clips = noises(2.5, 16000)
    with torch.inference_mode():
        expected = torch.cat([peer(front_end(clip.astype(np.float64), 16000).detach()) for clip in clips]).numpy()
    frames = ours.frames(clips, 16000)
    assert frames.shape == expected.shape
    return float(np.abs(frames - expected).max() / expected.std())


def clap_difference(folder: Path) -> float:
    """Our CLAP from LAION's network on transformers' mel spectrogram, relative to how far two clips are apart."""
    from transformers import ClapFeatureExtractor

    unused = ("torchlibrosa.stft", "torchlibrosa.augmentation", "torchvision.ops.misc", "h5py")
    config = SimpleNamespace(
        model_name="base", class_num=527, mel_bins=64, sample_rate=48000, window_size=1024, hop_size=480, fmin=50,
        fmax=14000,
    )  # fmt: skip
    peer = nn.ModuleDict(
        {
            "audio_branch": bare("laion_clap.clap_module.htsat", *unused).create_htsat_model(config),
            "audio_projection": nn.Sequential(nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 512)),
        }
    )
    scrambled(peer)
    norm = peer["audio_branch"].bn0
    norm.running_mean.fill_(-40)
    norm.running_var.fill_(300)
    ours = CLAP(**saved({"state_dict": {f"module.{key}": x for key, x in peer.state_dict().items()}}, folder))
    clips = noises(10, 48000)
    extractor = ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50)
    mel = extractor(list(clips), sampling_rate=48000, return_tensors="pt").input_features.float()
    peer["audio_branch"].spectrogram_extractor = peer["audio_branch"].logmel_extractor = lambda x: x
    with torch.inference_mode():
        embedded = peer["audio_projection"](peer["audio_branch"]({"waveform": mel})["embedding"])
    expected = nn.functional.normalize(embedded, dim=-1).numpy()
    return float(np.abs(ours.frames(clips, 48000) - expected).max() / np.abs(expected[0] - expected[1]).max())
