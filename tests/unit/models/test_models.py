"""Denoisers, text conditioning and models on disk."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.profiler import ProfilerActivity, profile

import gmsdi
from gmsdi.errors import UserError
from gmsdi.io.device import resolve_precision
from gmsdi.models import families, registry
from gmsdi.models.adapters import from_eps, from_v
from gmsdi.models.adapters.adp import import_msdm
from gmsdi.models.checkpoint import build_model, load_model, save_model
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.models.edm.text import prompt_of, unique_bank
from gmsdi.study.config.files import model_folder
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train

CONFIG = {
    "unet": {
        "channels": 16,
        "patch": "conv",
        "patch_factor": 4,
        "multipliers": [1, 1, 2],
        "factors": [1, 2],
        "num_blocks": [1, 1],
        "attentions": [False, True],
        "attention_heads": 2,
        "attention_features": 8,
        "resnet_groups": 4,
        "text_modulation": True,
    },
    "text": {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 32},
    "sigma_data": 0.2,
    "sample_rate": 8000,
    "window": 64,
    "labels": ["Bass", "Drums"],
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_model(CONFIG).eval().requires_grad_(False)
    for parameter in model.parameters():  # fresh networks start silent: give every branch a voice
        parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


def gaussian(x, sigma, scale):
    """The exact denoiser of N(0, scale²), the expectation E[x₀ | x₀ + σε]."""
    return x * scale**2 / (sigma.reshape(-1, 1, 1) ** 2 + scale**2)


def test_preconditioning_of_the_ideal_network_is_the_exact_gaussian_denoiser():
    """For data N(0, s²) the network that EDM asks for is linear; put it in and D must be the posterior mean."""
    sigma_data, s = 0.2, 0.35

    class Ideal(nn.Module):
        def forward(self, x, c_noise, cond):
            sigma = (4 * c_noise).exp().reshape(-1, 1, 1)
            total = (sigma**2 + sigma_data**2).sqrt()
            wanted = s**2 / (sigma**2 + s**2) - sigma_data**2 / total**2  # (D − c_skip·x) as a factor of x
            return wanted * (x * total) / (sigma * sigma_data / total)

    x = torch.randn(5, 2, 32, dtype=torch.float64)
    sigma = torch.tensor([1e-3, 0.05, 0.2, 1.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(EDMDenoiser(Ideal(), sigma_data)(x, sigma), gaussian(x, sigma, s))


def test_loss_is_the_networks_own_error():
    """λ(σ)·‖D − x₀‖² equals ‖F − target‖² with the target of Karras et al. 2022, Eq. 8."""
    torch.manual_seed(0)
    net = nn.Conv1d(1, 1, 5, padding=2).double()

    class Net(nn.Module):
        def forward(self, x, c_noise, cond):
            return net(x)

    clean, noise = torch.randn(2, 4, 1, 32, dtype=torch.float64)
    sigma = torch.tensor([0.01, 0.1, 0.5, 3.0], dtype=torch.float64)
    s, sd = sigma.reshape(-1, 1, 1), 0.2
    noisy = clean + s * noise
    target = (clean - sd**2 / (s**2 + sd**2) * noisy) / (s * sd / (s**2 + sd**2).sqrt())
    expected = (net(noisy / (s**2 + sd**2).sqrt()) - target).square().mean(dim=(1, 2))
    torch.testing.assert_close(EDMDenoiser(Net(), sd).loss(clean, noise, sigma), expected)


def test_epsilon_and_v_networks_give_the_exact_denoiser():
    s = 0.35
    x = torch.randn(4, 1, 16, dtype=torch.float64)
    sigma = torch.tensor([0.01, 0.3, 1.0, 8.0], dtype=torch.float64)

    def eps(scaled, t, cond):  # E[ε | x] for data N(0, s²)
        level = (t * math.pi / 2).tan().reshape(-1, 1, 1)
        return scaled * (1 + level**2).sqrt() * level / (level**2 + s**2)

    def v(scaled, t, cond):  # E[α·ε − sin·x₀ | x]
        level = (t * math.pi / 2).tan().reshape(-1, 1, 1)
        alpha, sin = (1 + level**2).rsqrt(), level * (1 + level**2).rsqrt()
        noisy = scaled / alpha
        return alpha * noisy * level / (level**2 + s**2) - sin * noisy * s**2 / (level**2 + s**2)

    expected = gaussian(x, sigma, s)
    torch.testing.assert_close(from_v(v)(x, sigma, None), expected)
    torch.testing.assert_close(from_eps(eps, lambda level: level.atan() * 2 / math.pi)(x, sigma, None), expected)


def test_keys_and_values_are_computed_once_and_change_nothing(model):
    x, sigma = torch.randn(3, 1, 64), torch.full((3,), 0.3)
    with torch.enable_grad():
        reference = model(x, sigma, model.embed(["Bass", "Drums"]).select(torch.tensor([1, 0, 1])))
    with torch.no_grad():
        bank = model.embed(["Bass", "Drums"])
        first = model(x, sigma, bank.select(torch.tensor([1, 0, 1])))
        kept = dict(bank.cache)
        second = model(x, sigma, bank.select(torch.tensor([1, 0, 1])))
    assert kept
    assert all(bank.cache[key] is value for key, value in kept.items())
    torch.testing.assert_close(first, reference)
    assert torch.equal(first, second)


def test_text_padding_is_not_attended_to_and_prompts_differ(model):
    x, sigma = torch.randn(1, 1, 64).expand(3, -1, -1), torch.full((3,), 0.3)
    denoised = model(x, sigma, unique_bank(model.text, ["Bass", None, "Bass"]))
    torch.testing.assert_close(denoised[0], denoised[2])
    assert not torch.allclose(denoised[0], denoised[1])
    bank = model.embed(["Bass"])
    changed = bank.tokens.clone()
    changed[~bank.mask] = 1e3
    again = model(x[:1], sigma[:1], type(bank).bank(changed, bank.mask))
    torch.testing.assert_close(again, model(x[:1], sigma[:1], bank))


def test_a_prompt_that_is_too_long_is_refused_by_name(model):
    with pytest.raises(UserError, match=r"'Bass, Bass.* longer than 32 tokens"):
        model.embed([prompt_of(["Bass"] * 10)])


def test_saved_and_loaded_models_are_equal(model, tmp_path):
    save_model(tmp_path / "model", model, {"provenance.json": "{}\n"})
    loaded = load_model(tmp_path / "model")
    x, sigma = torch.randn(2, 1, 64), torch.tensor([0.1, 1.0])
    assert torch.equal(loaded(x, sigma, loaded.embed(["Bass", None])), model(x, sigma, model.embed(["Bass", None])))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "provenance.json",
    ]


def test_a_model_replaces_a_model_and_nothing_else(model, tmp_path, monkeypatch):
    place = tmp_path / "place"
    (place / "songs").mkdir(parents=True)
    (place / "songs" / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    monkeypatch.chdir(place)
    inside = "the current folder, or one around it"
    places = {".": inside, "..": inside, "songs/..": inside, "songs": "holds mine.txt", "../file": "is a file"}
    for where, says in places.items():
        for write in (
            partial(save_model, where, model),
            partial(import_msdm, "gone.ckpt", where),
            partial(train, {}, TrainingConfig(steps=1), "gone", "gone", where, seed=0, work="gone"),
        ):
            with pytest.raises(UserError, match=says):
                write()
    assert (place / "songs" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    for _ in range(2):
        save_model("model", model, {"notes.txt": "x"})
    assert sorted(os.listdir("model")) == ["config.json", "model.safetensors", "notes.txt"]
    with pytest.raises(UserError, match="is a file, but"):
        import_msdm("gone.ckpt", tmp_path / "file" / "out")
    with pytest.raises(UserError, match="sample_rate is 5"):
        import_msdm("gone.ckpt", "out", sample_rate=5)


def _another_shape(folder):
    weights = load_file(folder / "model.safetensors")
    weights["net.patch.conv.weight"] = torch.zeros(16, 8, 3)
    save_file(weights, folder / "model.safetensors")


def _missing_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["net.patch.conv.weight"]
    save_file(weights, folder / "model.safetensors")


def _unknown_option(folder):
    config = json.loads((folder / "config.json").read_text())
    config["unet"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))


def _not_finite(folder):
    weights = load_file(folder / "model.safetensors")
    weights["net.patch.conv.weight"][0, 0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors")


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _set(**values):
    """Change values in the configuration, such as unet__channels."""

    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        for name, value in values.items():
            place, _, key = name.rpartition("__")
            (config[place] if place else config)[key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_another_shape, r"net\.patch\.conv\.weight has shape \(16, 8, 3\) but config\.json asks for \(16, 4, 3\)"),
        (_missing_weight, r"net\.patch\.conv\.weight is missing"),
        (_unknown_option, r"model\.unet: .*depth"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "damaged or not a safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "not the configuration of a model"),
        (lambda folder: (folder / "config.json").unlink(), r"no config\.json there"),
        (_not_finite, r"net\.patch\.conv\.weight holds NaN"),
        (_cut, "damaged or not a safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps({})), "damaged or not a safetensors"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"), "not the configuration of a model"),
        (_set(text__heads=0), "not the configuration of a model"),
        (_set(text__features=-16), "not the configuration of a model"),
        (_set(text__kind="tiny", text__features="many"), "not the configuration of a model"),
        (_set(unet__channels=10**7), r"config\.json: not the configuration"),  # of which a model would fill the memory
        (_set(unet__channels=8192), "do not belong together"),
        (_set(unet__resnet_groups=0), "not the configuration of a model"),
        (_set(unet__factors="ab"), "config.json|model.unet"),
        (_set(unet="none"), "config.json|model.unet"),
        (_set(text=[]), "not the configuration of a model"),
        (_set(level="loud"), "model level is 'loud'"),
        (_set(labels="Bass"), "labels are 'Bass'"),
        (_set(sample_rate=0), "sample_rate is 0"),
        (_set(window=1e9), "window is"),
        (_set(sigma_data=-1), "sigma_data is -1"),
        (_set(sigma_data=1e-300), "sigma_data is 1e-300"),  # of which the square is 0
        (_set(sigma_data=10**400), "sigma_data is 1000"),
        (_set(labels=["a, b"]), "without commas"),
    ],
)
def test_damaged_models_end_in_one_clear_line(model, tmp_path, damage, message):
    save_model(tmp_path / "model", model)
    damage(tmp_path / "model")
    with pytest.raises(UserError, match=message) as raised:
        gmsdi.load(tmp_path / "model", device="cpu")
    assert "\n" not in str(raised.value)


def test_contradicting_settings_are_refused():
    with pytest.raises(UserError, match="num_blocks has 1 entries for 2 levels"):
        build_model({**CONFIG, "unet": {**CONFIG["unet"], "num_blocks": [1]}})
    with pytest.raises(UserError, match="window of 60 samples is not a multiple of the network's stride 8"):
        build_model({**CONFIG, "window": 60})


def test_bf16_runs_close_to_float32(model):
    x, sigma = torch.randn(2, 1, 64) * 0.2, torch.tensor([0.05, 0.5])
    exact = model(x, sigma, model.embed(["Bass", None]))
    model.autocast = resolve_precision("bf16", "cpu")
    rounded = model(x, sigma, model.embed(["Bass", None]))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.02)
    with pytest.raises(UserError, match="precision is 'fp8'"):
        resolve_precision("fp8", "cpu")


def test_weights_that_are_rounded_once_give_what_autocast_gives_in_every_call(model, tmp_path):
    save_model(tmp_path / "model", model)
    opened, cast = (load_model(tmp_path / "model") for _ in range(2))
    opened.run_in(torch.bfloat16)
    cast.autocast = torch.bfloat16
    x, sigma, prompts = torch.randn(2, 1, 64) * 0.2, torch.tensor([0.05, 0.5]), ["Bass", None]
    found, copies = zip(*(copied(one, x, sigma, one.embed(prompts)) for one in (opened, cast)), strict=True)
    assert torch.equal(*found)
    layers = sum(isinstance(layer, nn.Linear | nn.Conv1d | nn.ConvTranspose1d) for layer in opened.net.modules())
    assert copies[0] <= copies[1] - layers
    kept = {weight.dtype for name, weight in opened.named_parameters() if "norm" in name or name.startswith("text.")}
    assert kept == {torch.float32}
    with pytest.raises(UserError, match="open it with precision float32"):
        save_model(tmp_path / "other", opened)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler (CXX, or g++)"
)
def test_compiled_network_gives_the_same(tmp_path):
    unet = {**CONFIG["unet"], "multipliers": [1, 1], "factors": [2], "num_blocks": [1], "attentions": [False]}
    save_model(tmp_path / "model", build_model({**CONFIG, "unet": {**unet, "use_attention_bottleneck": False}}))
    plain, compiled = (
        registry.load(tmp_path / "model", device="cpu", precision="float32", compile=option) for option in (False, True)
    )
    x, sigma = torch.randn(2, 1, 64) * 0.2, torch.tensor([0.05, 0.5])
    with torch.no_grad():
        found, expected = (one.denoise(x, sigma, one.embed(["Bass", None])) for one in (compiled, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_of_a_distribution_that_is_not_installed_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    with pytest.raises(UserError, match="general: the weights of this model are not installed; install gmsdi-general"):
        registry.load("general")


def test_a_folder_that_is_only_called_like_a_bundled_model_is_not_in_its_way(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("mini")
    bundled = registry.BUNDLED / "mini"
    assert registry.folder_of("mini") == model_folder("mini") == bundled
    assert registry.config_of("mini")["sample_rate"] == 8000
    save_model("mini", model)
    assert registry.folder_of("mini").absolute() == model_folder("mini").absolute() == tmp_path / "mini"


def test_only_networks_of_model_folders_are_compiled(monkeypatch):
    monkeypatch.setitem(families._REGISTERED, "mine", lambda rest, **options: None)
    with pytest.raises(UserError, match="leave out compile"):
        registry.load("mine", compile=True)


def test_only_networks_of_model_folders_on_cuda_have_graphs(tmp_path, monkeypatch):
    monkeypatch.setitem(families._REGISTERED, "mine", lambda rest, **options: None)
    with pytest.raises(UserError, match="leave out cuda_graphs"):
        registry.load("mine", cuda_graphs=True)
    with pytest.raises(UserError, match="CUDA graphs need a CUDA device, not cpu"):
        registry.load(tmp_path, device="cpu", cuda_graphs=True)


def copied(model, *arguments):
    """A model's result, and the number of conversions to another type or layout on the way."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as record:
        result = model(*arguments)
    return result, sum(event.count for event in record.key_averages() if event.key == "aten::_to_copy")


@pytest.mark.parametrize(
    ("name", "capabilities", "expected"),
    [
        ("AMD EPYC", {"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ("Intel Xeon", {"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ("Intel Xeon", {"avx512_bf16": True, "amx_bf16": False}, None),
        ("AMD EPYC", {"avx512_bf16": False}, None),
        ("", {}, None),
    ],
)
def test_auto_precision_on_a_cpu_is_the_faster_type(monkeypatch, name, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name, **capabilities})
    assert resolve_precision("auto", "cpu") is expected
