"""Pipelines of diffusers as models, against what the pipelines themselves compute. All are small and random."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

import gmsdi
from gmsdi import cli, tasks
from gmsdi.app import results, settings
from gmsdi.errors import UserError
from gmsdi.inference import Single
from gmsdi.io.audio import Audio
from gmsdi.models import registry
from gmsdi.models.adapters import parts, pipelines, priors
from gmsdi.models.adapters.parts import in_pieces
from gmsdi.models.codecs import Latent
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.samplers import euler
from gmsdi.sampling.session import Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.types import Prompt
from tests.helpers import tiny_pipelines

FAMILIES = ("stable_audio", "stable_audio_3", "ace_step", "dance_diffusion")
SECONDS = {"stable_audio_3": 0.3, "ace_step": 0.3}
"""Of a window, where the family takes any."""
PROMPT, NEGATIVE = "slow bass", "drums, loud"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """By family: the pipeline, its folder and the model of the folder."""
    found = {}

    def get(family):
        if family not in found:
            folder = tmp_path_factory.mktemp(family)
            pipeline = getattr(tiny_pipelines, family)(folder)
            model = gmsdi.load(folder, device="cpu", precision="float32", seconds=SECONDS.get(family))
            found[family] = SimpleNamespace(pipeline=pipeline, folder=folder, model=model)
        return found[family]

    return get


def recorded(pipeline, **call):
    """What a call of the pipeline hands to its scheduler at each step: guided prediction, t and state."""
    steps, step = [], pipeline.scheduler.step

    def spy(prediction, t, x, *args, **options):
        steps.append((prediction.clone(), float(t), x.clone()))
        return step(prediction, t, x, *args, **options)

    pipeline.scheduler.step = spy
    try:
        pipeline(**call)
    finally:
        pipeline.scheduler.step = step
    return steps


def call_of(family, model, negative):
    """Arguments of the pipeline's call, and w of the guidance that it applies."""
    noise = torch.Generator().manual_seed(0)
    seconds = model.window / model.sample_rate
    if family == "stable_audio":
        call = {"prompt": PROMPT, "negative_prompt": negative, "guidance_scale": 4.0, "num_inference_steps": 4}
        return {**call, "generator": noise, "output_type": "latent"}, 3.0
    if family == "stable_audio_3":
        call = {"prompt": PROMPT, "negative_prompt": negative, "guidance_scale": 4.0, "num_inference_steps": 4}
        return {**call, "duration": seconds, "generator": noise, "output_type": "latent"}, 3.0
    if family == "ace_step":  # whose own guidance is another
        call = {"prompt": PROMPT, "guidance_scale": 1.0, "num_inference_steps": 4, "audio_duration": seconds}
        return {**call, "generator": noise, "output_type": "latent"}, 0.0
    return {"num_inference_steps": 4, "generator": noise}, 0.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("negative", [None, NEGATIVE])
def test_denoised_states_are_those_of_the_pipelines_own_call(opened, family, negative):
    """With its text, seconds, masks, guidance and negative prompt: at every step of the pipeline's own sampling."""
    pipeline, model = opened(family).pipeline, opened(family).model
    call, w = call_of(family, model, negative)
    d = guided(model.denoise, w, encode=model.embed)
    compared = 0
    for i, (prediction, t, x) in enumerate(recorded(pipeline, **call)):
        if family == "stable_audio":
            sigma = float(pipeline.scheduler.sigmas[i])
            assert t == pytest.approx(2 / math.pi * math.atan(sigma), abs=1e-6)
            expected = pipeline.scheduler.precondition_outputs(x, prediction, torch.tensor(sigma))
        elif family == "dance_diffusion":
            if t == 1:
                continue  # σ is infinite
            alpha, s = math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)
            sigma, expected = s / alpha, alpha * x - s * prediction
            x = x / alpha
        else:
            if t == 1:
                continue
            sigma, expected = t / (1 - t), x - t * prediction
            x = x / (1 - t)
            if family == "ace_step":
                x, expected = x.mT, expected.mT
        found = d(x, sigma, [Prompt(PROMPT, negative)])
        assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_stored_in_bf16_without_any_difference(opened, family, monkeypatch):
    """Autocast alone rounds those of float32 in every call, to the same values."""
    folder, seconds, placed = opened(family).folder, SECONDS.get(family), parts.Opening.placed
    networks, found = [], []
    monkeypatch.setattr(parts.Opening, "placed", lambda self, net: networks.append(net) or placed(self, net))
    for by_autocast in (False, True):
        if by_autocast:
            monkeypatch.setattr(parts, "round_weights", lambda net, dtype: None)
        model = gmsdi.load(folder, device="cpu", precision="bf16", seconds=seconds)
        x = torch.randn(2, *model.space.shape(model.window), generator=torch.Generator().manual_seed(0))
        embeddings = model.embed([None, None if family == "dance_diffusion" else PROMPT])
        found.append(model.denoise(x, torch.tensor([0.7, 2.0]), embeddings.select(torch.arange(2))))
    assert torch.equal(*found)
    shares = []
    for network in networks:
        weights = [(weight.numel(), weight.dtype == torch.bfloat16) for weight in network.parameters()]
        shares.append(sum(n for n, small in weights if small) / sum(n for n, _ in weights))
    assert shares[0] > 0.95
    assert shares[1] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_separates_as_the_cpu_does(opened, family, monkeypatch):
    """In float32 the same stems; in bf16 stems of the same mixture, near them."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder, seconds = opened(family).folder, SECONDS.get(family)
    samples = 0.1 * np.random.default_rng(0).standard_normal((2, 3000), dtype=np.float32)
    names = ["Piano", "Drums"]
    found = {}
    for device, precision in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bf16")):
        model = gmsdi.load(folder, device=device, precision=precision, seconds=seconds)
        if family == "dance_diffusion":
            model = priors(dict.fromkeys(names, model))
        w = 0.0 if family == "dance_diffusion" else 3.0
        solver = Solver(steps=4, sigma_max=1.0, sigma_min=0.1)
        stems = gmsdi.separate(
            model, Audio(samples, model.sample_rate), names, solver=solver, guidance=Guidance(w=w), projected=True
        )
        found[device, precision] = np.stack([stems.parts[name] for name in names])
    expected = found["cpu", "float32"]
    peak = np.abs(expected).max()
    assert np.abs(found["cuda", "float32"] - expected).max() < 1e-3 * peak
    assert np.abs(found["cuda", "bf16"] - expected).max() < 0.2 * peak
    for stems in found.values():
        assert np.abs(stems.sum(axis=0) - samples).max() < 1e-4


def test_prompts_of_several_lengths_share_a_batch(opened):
    for family in FAMILIES[:3]:
        model = opened(family).model
        texts = ["a", "a longer text", None, "b"]
        x = torch.randn(4, *model.space.shape(model.window), generator=torch.Generator().manual_seed(0))
        sigma = torch.tensor([3.0, 1.0, 0.5, 2.0])
        together = model.denoise(x, sigma, model.embed(texts).select(torch.arange(4)))
        for i, text in enumerate(texts):
            alone = model.denoise(x[i : i + 1], sigma[i : i + 1], model.embed([text]).select(torch.tensor([0])))
            assert torch.allclose(together[i : i + 1], alone, atol=1e-5)


def test_no_prompt_of_ace_step_is_its_learned_vector_at_every_place(opened):
    pipeline, model = opened("ace_step").pipeline, opened("ace_step").model
    x = torch.randn(1, *model.space.shape(model.window), generator=torch.Generator().manual_seed(0))
    found = model.denoise(x, torch.tensor([1.0]), model.embed([None]).select(torch.tensor([0])))
    silence = pipeline.condition_encoder.silence_latent[:, : x.shape[-1]]
    t = torch.tensor([0.5])
    with torch.no_grad():
        v = pipeline.transformer(
            (x / 2).mT,
            t,
            t,
            encoder_hidden_states=pipeline.condition_encoder.null_condition_emb.expand(1, 40, -1),
            context_latents=torch.cat([silence, torch.ones_like(silence)], dim=-1),
        ).sample
    assert torch.allclose(found, x / 2 - 0.5 * v.mT, atol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_stable_audio_generates_what_its_pipeline_generates(opened, sampler):
    """From the same noise, with schedulers of diffusers that are our samplers, at Stable Audio's t of σ."""
    from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

    pipeline, model = opened("stable_audio").pipeline, opened("stable_audio").model
    base = EDMEulerScheduler if sampler == "euler" else EDMDPMSolverMultistepScheduler

    class Scheduler(base):
        def precondition_noise(self, sigma):
            return torch.as_tensor(sigma).atan() / math.pi * 2

    given = {"sigma_min": 0.3, "sigma_max": 50.0}
    scheduler = Scheduler(sigma_data=1.0, prediction_type="v_prediction", **given)
    noise = SeededNoise([5])(torch.empty(1, 1, *model.space.shape(model.window)))[0]
    own, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        expected = pipeline(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=6,
            guidance_scale=4.0,
            latents=noise * given["sigma_max"] / scheduler.init_noise_sigma,
        ).audios
    finally:
        pipeline.scheduler = own
    session = Session(model, Solver(sampler, steps=6, **given), Guidance(w=3.0))
    found = tasks.sample(session, [Prompt(PROMPT, NEGATIVE)], seeds=[5])
    assert found.shape == expected.shape == (1, 2, model.window)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("family", ["stable_audio_3", "ace_step"])
def test_flows_generate_what_their_pipelines_generate(opened, family):
    """Their scheduler is Euler's method, which is the same in x_t over t and in x over σ."""
    pipeline, model = opened(family).pipeline, opened(family).model
    call, w = call_of(family, model, NEGATIVE)
    shape = (1, *model.space.shape(model.window))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    expected = pipeline(**{**call, "latents": noise.mT if family == "ace_step" else noise}).audios
    times = [min(float(t), 1 - 1e-4) for t in pipeline.scheduler.sigmas]  # at t = 1, σ is infinite
    sigmas = [t / (1 - t) for t in times]
    session = Session(model, Solver("euler"), Guidance(w=w))
    with torch.no_grad():
        found = euler(Single(session, [Prompt(PROMPT, NEGATIVE)]), sigmas[0] * noise[:, None], sigmas)[:, 0]
    expected = expected.mT if family == "ace_step" else expected
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_autoencoders_are_the_pipelines_own_in_pieces_too(opened, family):
    vae, model = opened(family).pipeline.vae, opened(family).model
    hop = model.window // model.space.shape(model.window)[-1]
    audio = torch.randn(2, 2, 150 * hop - 5, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.pad(audio, (0, 5))
    with torch.no_grad():
        z = vae.encode(whole).latents if family == "stable_audio_3" else vae.encode(whole).latent_dist.mean
        assert model.space.shape(audio.shape[-1]) == z.shape[1:]
        assert torch.allclose(model.space.encode(audio), z, atol=1e-5)
        expected = vae.decode(z).sample
        assert torch.allclose(model.space.decode(z), expected, atol=1e-5)
        pieces = in_pieces(lambda x: vae.decode(x).sample, z, 1, hop, piece=40)
    assert pieces.shape == expected.shape
    assert torch.allclose(pieces, expected, atol=1e-5)


def test_bf16_is_close_and_leaves_states_as_they_are(opened):
    for family in FAMILIES:
        exact = opened(family).model
        coarse = gmsdi.load(opened(family).folder, device="cpu", precision="bf16", seconds=SECONDS.get(family))
        x = torch.randn(1, *exact.space.shape(exact.window), generator=torch.Generator().manual_seed(0))
        found = [m.denoise(x, torch.ones(1), m.embed(["a"]).select(torch.tensor([0]))) for m in (exact, coarse)]
        assert found[1].dtype == torch.float32
        assert 0 < (found[0] - found[1]).abs().max() < 0.05 * found[0].abs().max()


def song(tmp_path, seconds=0.31, rate=8000):
    samples = 0.1 * np.random.default_rng(0).normal(size=(round(seconds * rate), 2))
    soundfile.write(tmp_path / "clip.wav", samples, rate, subtype="FLOAT")
    return tmp_path / "clip.wav", samples.T.astype(np.float32)


def test_tasks_on_files(opened, tmp_path):
    """Rates, lengths and channels; and stems that sum to the mixture when the codec has no error.

    Any pipeline's own codec has an error, and a random one hardly anything else, so an exact one takes its place:
    blocks of samples as latents, in a space that is not said to be additive.
    """
    path, samples = song(tmp_path)
    exact = Latent(
        lambda audio: audio.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(1, 2),
        lambda x: x.unflatten(1, (2, 2)).transpose(-1, -2).flatten(2, 3),
        lambda length: (4, -(-length // 2)),
    )
    model = replace(opened("stable_audio").model, space=exact, window=1024, sample_rate=8000)
    solver, guidance = Solver("euler", steps=3, sigma_max=2.0, sigma_min=0.1), Guidance(w=1.0)
    options = {"solver": solver, "guidance": guidance}
    for found in (
        gmsdi.separate(model, path, ["bass", "drums"], **options),
        gmsdi.separate(model, path, ["bass", "drums", "keys"], projected=True, **options),
        gmsdi.extract(model, path, ["bass", "drums"], consistent=True, **options),
    ):
        assert found.sample_rate == 8000
        assert all(part.shape == samples.shape for part in found.parts.values())
        assert np.abs(found.residual).max() < 1e-4
    found = gmsdi.accompany(model, {"bass": path}, ["drums", "keys"], **options)
    assert list(found.parts) == ["drums", "keys"]
    assert found.mixture.shape == samples.shape


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_tasks_in_the_pipelines_own_latents(opened, family, tmp_path):
    _, samples = song(tmp_path, seconds=0.6)
    model = opened(family).model
    options = {"solver": Solver("euler", steps=2, sigma_max=2.0, sigma_min=0.5), "guidance": Guidance(w=0.5)}
    found = gmsdi.separate(model, Audio(samples, 8000), ["bass", "drums"], projected=True, **options)
    assert found.sample_rate == 8000
    assert all(part.shape == samples.shape and np.isfinite(part).all() for part in found.parts.values())
    made = gmsdi.generate(model, ["bass", "drums"], seconds=0.25, **options)
    assert made.sample_rate == model.sample_rate
    assert made.mixture.shape == (2, round(0.25 * model.sample_rate))


def test_the_page_separates_as_the_library_does(opened, tmp_path):
    """With what the page's controls say after a preset has filled them in, and descriptions as stems."""
    path, _ = song(tmp_path, seconds=0.6)
    model, stems = opened("stable_audio").model, ["solo electric bass", "drum kit"]
    presets = settings.presets(model)
    assert presets["best"]["sigma_max"] == pytest.approx(10 * settings.presets(gmsdi.load("mini"))["best"]["sigma_max"])
    own = {"seed": 3, "batch": 4, "block": 20, "files": "FLAC, 24 bits", "negatives": "drum kit: bass"}
    values = presets["best"] | own | {"steps": 8}
    found = settings.separate(model, str(path), settings.spelled(stems, model), [], values, lambda step, steps: None)
    expected = gmsdi.separate(model, path, stems, steps=8, seed=3, negatives={"drum kit": "bass"})
    assert list(found.parts) == stems
    for label in stems:
        np.testing.assert_allclose(found.parts[label], expected.parts[label], atol=1e-5)
    page = results.publish(tmp_path / "results", "song", found, rest="Rest", format="flac", bits="24")
    assert all(f"{label}&quot;, &quot;kind&quot;: &quot;stem" in page for label in stems)


def test_command_line(opened, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    song(tmp_path)
    folder = str(opened("stable_audio").folder)
    options = ["--model", folder, "--device", "cpu", "--steps", "6", "--w", "0", "--format", "wav"]
    assert cli.main(["separate", "clip.wav", "--projected", "--stems", "electric bass", "drums", *options]) == 0
    assert "non-standard module" not in capfd.readouterr().err  # in which diffusers prints every layer
    for name in ("electric_bass", "drums"):
        info = soundfile.info(tmp_path / "clip" / f"{name}.wav")
        assert (info.samplerate, info.channels, info.frames) == (8000, 2, 2480)
    assert cli.main(["generate", "--stems", "bass", "drums", "--seconds", "0.2", *options]) == 0
    info = soundfile.info(tmp_path / "generated" / "mixture.wav")
    assert (info.samplerate, info.channels, info.frames) == (4410, 2, 882)
    extracting = ["--stems", "bass", "--rest", "drums", "--out", "extracted"]
    assert cli.main(["extract", "clip.wav", *extracting, *options]) == 0
    assert cli.main(["accompany", "--given", "bass=clip.wav", "--stems", "drums", *options]) == 0
    for file in (tmp_path / "extracted" / "clip" / "bass.wav", tmp_path / "accompaniment" / "drums.wav"):
        info = soundfile.info(file)
        assert (info.samplerate, info.channels, info.frames) == (8000, 2, 2480)


def test_priors_separate_with_eq_4(opened, tmp_path):
    """x_K is the rest: the derivative of the others is Eq. 4's, of each stem's own network."""
    path, samples = song(tmp_path)
    one = opened("dance_diffusion").model
    other = replace(one, denoiser=lambda x, sigma, embeddings: 0.5 * x)
    model = priors({"Piano": one, "Drums": other})
    x, sigma = torch.randn(2, 2, one.window), torch.tensor([1.0, 2.0])
    found = model.denoise(x, sigma, model.embed(["Drums", "Piano"]).select(torch.tensor([0, 1])))
    assert torch.equal(found[0], 0.5 * x[0])
    assert torch.allclose(found[1:], one.denoise(x[1:], sigma[1:], None), atol=1e-6)
    options = {"solver": Solver("euler", steps=6), "guidance": Guidance(w=0.0)}
    stems = gmsdi.separate(model, Audio(samples, model.sample_rate), **options)
    assert list(stems.parts) == ["Piano", "Drums"]
    assert np.abs(stems.residual).max() < 1e-5
    with pytest.raises(UserError, match="set w to 0"):
        gmsdi.separate(model, path, solver=Solver("euler", steps=6))
    with pytest.raises(UserError, match=r"no model of 'Bass', only of Piano, Drums"):
        gmsdi.separate(model, path, ["Piano", "Bass"], **options)
    with pytest.raises(UserError, match=r"knows one kind of sound .* combine one such model per stem"):
        gmsdi.separate(one, path, ["Piano", "Drums"], **options)
    with pytest.raises(UserError, match="knows one kind of sound"):
        gmsdi.separate(opened("dance_diffusion").folder, path, ["Piano", "Drums"], **options)
    with pytest.raises(UserError, match="takes any text and has no stems of its own; name the stems"):
        gmsdi.separate(one, path, **options)
    with pytest.raises(UserError, match="window is 512 and 256"):
        priors({"Piano": one, "Drums": replace(one, window=512)})


def test_mel_spectrograms_know_no_polarity():
    """Why AudioLDM2 and MusicLDM are refused: with their real classes, y and −y become one and the same signal."""
    from diffusers import AutoencoderKL
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(0)
    vae = AutoencoderKL(in_channels=1, out_channels=1, block_out_channels=(4,), latent_channels=2, norm_num_groups=2)
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=16, upsample_initial_channel=8, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4]
        )
    )

    def through(y):
        magnitudes = torch.stft(y, 128, 32, window=torch.hann_window(128), return_complex=True).abs()
        mel = torch.nn.functional.adaptive_avg_pool1d(magnitudes.mT, 16).clamp_min(1e-5).log()  # any filters will do
        z = vae.encode(mel[:, None]).latent_dist.mode()
        return vocoder(vae.decode(z).sample[:, 0])

    y = torch.randn(1, 2048)
    with torch.no_grad():
        assert torch.equal(through(y), through(-y))


def edited(source, target, **changes):
    """A copy of a pipeline's folder with other values in its index."""
    shutil.copytree(source, target)
    rewritten(target / "model_index.json", **changes)
    return target


def rewritten(file, **changes):
    """Write a JSON file again with other values."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_cannot_be_a_model_says_why(opened, tmp_path):
    tiny_pipelines.stable_audio_3(tmp_path / "distilled", distilled=True)
    with pytest.raises(UserError, match=r"a distilled model.*stable-audio-3-medium-base"):
        gmsdi.load(tmp_path / "distilled")
    tiny_pipelines.ace_step(tmp_path / "turbo", turbo=True)
    with pytest.raises(UserError, match=r"a distilled model \(turbo\).*use the base model"):
        gmsdi.load(tmp_path / "turbo")
    whole = opened("stable_audio").folder
    with pytest.raises(UserError, match=r"AudioLDM2Pipeline works on mel spectrograms, which have no phase"):
        gmsdi.load(edited(whole, tmp_path / "mel", _class_name="AudioLDM2Pipeline"))
    with pytest.raises(UserError, match=r"its pipeline is FluxPipeline; models can be made of StableAudioPipeline, "):
        gmsdi.load(edited(whole, tmp_path / "image", _class_name="FluxPipeline"))
    with pytest.raises(UserError, match=r"seconds is 2000; it can be up to 0\.23"):
        gmsdi.load(whole, seconds=2000)
    with pytest.raises(UserError, match=r"windows of 0\.00.* s are too short .* seconds must be at least"):
        gmsdi.load(opened("dance_diffusion").folder, seconds=0.002)
    flow = edited(whole, tmp_path / "flow")
    (flow / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')
    with pytest.raises(UserError, match="its scheduler, FlowMatchEulerDiscreteScheduler, is not that of Stable Audio"):
        gmsdi.load(flow)


def weights_of(folder, part):
    return next((folder / part).glob("*.safetensors"))


def changed(file, change):
    """Write a file of weights again, after a change of its dictionary of tensors."""
    tensors = load_file(file)
    change(tensors, max(tensors))
    save_file(tensors, file, metadata={"format": "pt"})


DAMAGES = {
    "weights in another format alone": (
        lambda folder: weights_of(folder, "vae").rename(folder / "vae" / "diffusion_pytorch_model.bin"),
        r"not a complete pipeline that can be read \(.*diffusion_pytorch_model.safetensors",
    ),
    "half a file": (
        lambda folder: os.truncate(file := weights_of(folder, "text_encoder"), file.stat().st_size // 2),
        r"not a complete pipeline that can be read \(.*deserializing",
    ),
    "no weights for a layer of the network": (
        lambda folder: changed(weights_of(folder, "transformer"), lambda tensors, name: tensors.pop(name)),
        r"weight .* of transformer is missing; the file belongs to another configuration, or is incomplete",
    ),
    "no weights for a layer of the text encoder": (
        lambda folder: changed(weights_of(folder, "text_encoder"), lambda tensors, name: tensors.pop(name)),
        r"weight .* of text_encoder is missing",
    ),
    "weights that are not finite": (
        lambda folder: changed(weights_of(folder, "vae"), lambda tensors, name: tensors[name].fill_(math.nan)),
        r"weight .* of vae holds NaN or infinite numbers",
    ),
    "no configuration": (
        lambda folder: (folder / "text_encoder" / "config.json").unlink(),
        r"text_encoder/config.json is missing or cannot be read",
    ),
    "half a configuration": (
        lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text('{"sigma_data": '),
        r"scheduler/scheduler_config.json is missing or cannot be read",
    ),
    "odd numbers": (
        lambda folder: rewritten(folder / "vae" / "config.json", sampling_rate=0),
        r"vae/config.json: sampling_rate is 0, but must be a whole number of at least 1000",
    ),
    "no list of strides": (
        lambda folder: rewritten(folder / "vae" / "config.json", downsampling_ratios=None),
        r"vae/config.json: downsampling_ratios is None, but must be a list",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pipeline_is_refused_in_one_line(opened, tmp_path, damage):
    """Above all with weights that are missing, in whose place the libraries put random ones."""
    folder = shutil.copytree(opened("stable_audio").folder, tmp_path / "damaged")
    damaged, words = DAMAGES[damage]
    damaged(folder)
    with pytest.raises(UserError, match=rf"damaged: {words}.*; fetch it again$") as refused:
        gmsdi.load(folder, device="cpu", precision="float32")
    assert "\n" not in str(refused.value)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_of_a_pickle_is_run(opened, tmp_path):
    folder = edited(opened("dance_diffusion").folder, tmp_path / "trap")
    assert not list(folder.glob("unet/*.safetensors"))
    torch.save({"weight": Trap(tmp_path / "run")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="not a complete pipeline that can be read"):
        gmsdi.load(folder)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts a folder into a Hugging Face cache, without which there is no connection."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(name, folder):
        repository = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / ("0" * 40), copy_function=os.link)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)

    return put


def test_repositories_come_from_the_cache_when_offline(opened, cached):
    with pytest.raises(
        UserError,
        match=r"stabilityai/stable-audio-open-1.0: no such folder, and not in the Hugging Face cache \(its licence: "
        r"Stability AI Community License\), and HF_HUB_OFFLINE is set; .*it may be gated",
    ):
        gmsdi.load("stabilityai/stable-audio-open-1.0")
    cached("someone/tiny", opened("stable_audio").folder)
    model = gmsdi.load("someone/tiny", device="cpu", precision="float32")
    assert model.window == opened("stable_audio").model.window


def test_the_workflow_takes_one_commit_of_a_repository(opened, cached, capsys):
    from gmsdi.study import pretrained

    cached("someone/tiny", opened("stable_audio").folder)
    found = pretrained.find("model.folder", "someone/tiny")
    assert (found.opened, found.digest) == (f"someone/tiny@{'0' * 40}", "0" * 40)
    model = gmsdi.load(found.opened, device="cpu", precision="float32", seconds=512 / 4410)
    assert model.window == 512
    assert cli.main(["models", "someone/tiny"]) == 0
    said = capsys.readouterr().out
    assert "StableAudioPipeline, 4410 Hz, channels 2" in said
    assert "up to 0.2322 s, in multiples of 32 samples; 4 latents" in said
    count = sum(weight.numel() for weight in opened("stable_audio").pipeline.transformer.parameters())
    assert f"transformer {count / 1e6:.4g} M" in said


@pytest.mark.parametrize("family", ["stable_audio", "stable_audio_3", "ace_step", "dance_diffusion"])
def test_pipelines_say_of_themselves_what_they_are_when_opened(opened, family):
    from gmsdi.models.described import describe

    told, model = describe(opened(family).folder), opened(family).model
    assert (told.sample_rate, told.channels) == (model.sample_rate, model.channels)
    assert model.window % told.hop == 0
    assert told.latent is None or model.space.shape(told.hop) == (told.latent, 1)
    fresh = gmsdi.load(opened(family).folder, device="cpu")
    assert fresh.window == told.usual


def test_own_model_folders_are_repositories_too(cached, tmp_path):
    folder = shutil.copytree(registry.BUNDLED / "mini", tmp_path / "mini")
    cached("someone/ours", folder)
    assert gmsdi.load("someone/ours", device="cpu").labels == gmsdi.load("mini", device="cpu").labels
    (folder / "config.json").unlink()
    (folder / "config.json").write_text('{"architectures": ["T5"]}')
    cached("someone/other", folder)
    with pytest.raises(UserError, match=r"someone/other: neither a pipeline of diffusers .* nor a model folder"):
        gmsdi.load("someone/other")


def test_only_what_is_used_is_downloaded(opened, monkeypatch):
    """Of the files that Stable Audio Open's and Dance Diffusion's repositories hold, or might."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    wanted = {}

    def chosen(family, files):
        folder = opened(family).folder
        monkeypatch.setattr(
            huggingface_hub, "snapshot_download", lambda *args, **options: wanted.update(options) or folder
        )
        pipelines.fetch("a/b")
        del wanted["revision"], wanted["token"]
        return list(filter_repo_objects(files, **wanted))

    used = ["model_index.json", "vae/config.json", "transformer/diffusion_pytorch_model.safetensors"]
    used += ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json", "text_encoder/model.safetensors"]
    unused = ["model.ckpt", "model.safetensors", "README.md", "vae/diffusion_pytorch_model.fp16.safetensors"]
    assert chosen("stable_audio", [*used, *unused, "vae/diffusion_pytorch_model.bin"]) == used
    used = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"]
    assert chosen("dance_diffusion", [*used, "model.ckpt"]) == used


def test_gated_and_unknown_repositories(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    def refuse(kind):
        def download(*args, **options):
            raise kind("no", response=SimpleNamespace(headers={}, request=None))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    refuse(GatedRepoError)
    with pytest.raises(
        UserError, match=r"1.0: gated \(its licence: Stability AI.*accept its terms at https.*hf auth login"
    ):
        gmsdi.load("stabilityai/stable-audio-open-1.0")
    refuse(RepositoryNotFoundError)
    with pytest.raises(UserError, match=r"no such folder, and no such repository"):
        gmsdi.load("some/model")
