"""The paper-scale configurations, key by key, against what the paper and the code of MSDM say.

Every setting that a class of settings has stands here as a literal, with where it comes from, also those that no
configuration names: a default of ours that MSDM does not have cannot slip in. (P) is the paper, (M) the published code
of MSDM (gladia-research-group/multi-source-diffusion-models), ADP audio-diffusion-pytorch 0.0.43, on which that rests,
and (?) what nobody has published.
"""

from dataclasses import asdict

import pytest

from gmsdi.data.versions import VERSIONS
from gmsdi.models.edm.unet import UNetConfig
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig
from tests import REPO

OURS = "no result depends on it"

NETWORK = {
    "channels": (256, "(M) exp/train_msdm.yaml, channels"),
    "patch": ("resnet", "(M) ADP's UNet1d, Patcher"),
    "patch_factor": (16, "(M) exp/train_msdm.yaml, patch_factor"),
    "multipliers": ((1, 2, 4, 4, 4, 4, 4), "(M) exp/train_msdm.yaml, multipliers"),
    "factors": ((4, 4, 4, 2, 2, 2), "(M) exp/train_msdm.yaml, factors"),
    "num_blocks": ((2, 2, 2, 2, 2, 2), "(M) exp/train_msdm.yaml, num_blocks"),
    "attentions": ((False, False, False, True, True, True), "(M) exp/train_msdm.yaml, attentions"),
    "cross_attentions": (None, "(M) ADP's UNetConditional1d: every block"),
    "text_modulation": (False, "(M) ADP's UNetConditional1d has none"),
    "mapping_features": (None, "(M) ADP: four times the channels"),
    "attention_heads": (8, "(M) exp/train_msdm.yaml, attention_heads"),
    "attention_features": (128, "(M) exp/train_msdm.yaml, attention_features"),
    "attention_multiplier": (2, "(M) exp/train_msdm.yaml, attention_multiplier"),
    "use_attention_bottleneck": (True, "(M) exp/train_msdm.yaml, use_attention_bottleneck"),
    "residual_bottleneck": (False, "(M) ADP: the bottleneck's attention takes the place of its input"),
    "resnet_groups": (8, "(M) exp/train_msdm.yaml, resnet_groups"),
    "kernel_multiplier_downsample": (2, "(M) exp/train_msdm.yaml, kernel_multiplier_downsample"),
    "use_nearest_upsample": (False, "(M) exp/train_msdm.yaml, use_nearest_upsample"),
    "use_skip_scale": (True, "(M) exp/train_msdm.yaml, use_skip_scale"),
    "kernel_sizes": (None, "(M) ADP's ResnetBlock1d: 3 everywhere"),
    "dilations": (None, "(M) ADP's ResnetBlock1d: none"),
    "patch_kernel": (3, "of patch conv only"),
}
TRAINING = {
    "optimizer": ("adamw", "(M) main/module_base.py: Adam, which AdamW is without weight decay"),
    "momentum": (0.95, "of muon only"),
    "muon_every": (1, "of muon only"),
    "ema_power": (None, "(M) main/module_base.py: no average"),
    "ema_snapshots": (12, "of ema_power only"),
    "p_extra": (None, "(M) exp/train_msdm.yaml: log-normal alone"),
    "uncertainty": (False, "(M) ADP's Diffusion: EDM's weight alone"),
    "level_windows": (0, OURS),
    "betas": ((0.9, 0.99), "(M) exp/train_msdm.yaml, beta1 and beta2"),
    "weight_decay": (0, "(M) main/module_base.py: Adam"),
    "warmup": (0, "(M) main/module_base.py: a constant rate"),
    "decay": (0, "(M) main/module_base.py: a constant rate"),
    "ema": (0, "(M) main/module_base.py: no average"),
    "clip": (None, "(M) exp/train_msdm.yaml, trainer: no gradient_clip_val"),
    "p_mean": (-3.0, "(M) exp/train_msdm.yaml, diffusion_sigma_distribution"),
    "p_std": (1.0, "(M) exp/train_msdm.yaml, diffusion_sigma_distribution"),
    "gain_db": (0, "(M) main/data.py: shifts alone"),
    "polarity": (False, "(M) main/data.py: shifts alone"),
    "validate_every": (4000, "(M) exp/train_msdm.yaml, val_check_interval"),
    "validation_batches": (64, "(?) MSDM: the whole split"),
    "keep": ("best", "(M) exp/train_msdm.yaml, model_checkpoint: save_top_k 1 by valid_loss"),
    "checkpoint_every": (2000, OURS),
    "precision": ("auto", "(M) exp/train_msdm.yaml, trainer: bf16, where the hardware has it"),
    "save_as": ("float32", "(M) Lightning's checkpoints"),
    "initial": (None, "(M) from fresh weights"),
    "workers": (0, OURS),
    "compile": (False, OURS),
    "devices": (1, OURS),
}
GMSDI = {
    "steps": (500000, "(?)"),
    "batch": (16, "(?)"),
    "lr": (1e-4, "(?)"),
    "p_drop": (0.1, "(M) ADP's AudioDiffusionConditional, embedding_mask_proba"),
    "p_any": (0.1, "of models of one stem only"),
}
JOINT = {
    "steps": (1400000, "(M) exp/eval_msdm_dirac.yaml, model_path: 420 epochs, of 1289 tracks of 249 s in batches of 8"),
    "batch": (8, "(M) exp/train_msdm.yaml, batch_size"),
    "lr": (1e-4, "(M) exp/train_msdm.yaml, learning_rate"),
    "p_drop": (0.1, "of models of a text only"),
    "p_any": (0.1, "of models of one stem only"),
}
WEAK = {
    "steps": (570000, "(M) exp/eval_weakly_msdm_dirac.yaml, model_paths: 337 epochs in the mean, in batches of 16"),
    "batch": (16, "(M) exp/train_weakly_msdm.yaml, batch_size"),
    "lr": (1e-5, "(M) exp/train_weakly_msdm.yaml, learning_rate"),
    "p_drop": (0.1, "of models of a text only"),
    "p_any": (1.0, "(M) main/data.py: windows of all tracks, whether the stem sounds or not"),
}
SEPARATION = {
    "name": ("euler", "(P) Sect. 5, AEuler, which is (M) main/separation.py"),
    "steps": (150, "(M) exp/eval_msdm_dirac.yaml, num_steps"),
    "sigma_min": (1e-4, "(M) evaluation/experiments.py, KarrasSchedule"),
    "sigma_max": (1, "(M) evaluation/experiments.py, KarrasSchedule"),
    "rho": (7, "(M) evaluation/experiments.py, KarrasSchedule"),
    "s_churn": (20, "(P) Sect. 5; (M) evaluation/experiments.py"),
    "resamples": (2, "(M) exp/eval_msdm_dirac.yaml, num_resamples"),
    "last": ("step", "(M) main/separation.py: to 0 by the same step"),
}
GENERATION = {
    "name": ("adpm2", "(P) Sect. 5, ADPM2"),
    "sigma_min": (1e-4, "(M) exp/train_msdm.yaml, audio_samples_logger"),
    "sigma_max": (3, "(M) exp/train_msdm.yaml, audio_samples_logger"),
    "rho": (9, "(M) exp/train_msdm.yaml, audio_samples_logger"),
    "midpoint": ("power", "(P) Sect. 5, ρ, which is ADP's"),
    "midpoint_rho": (1, "(P) Sect. 5, ρ = 1"),
}
NOTEBOOK = {
    **SEPARATION,
    "name": ("euler", "(M) notebooks/MSDM-generation.ipynb, generate_track"),
    "steps": (150, "(M) notebooks/MSDM-generation.ipynb, num_steps"),
    "sigma_max": (20, "(M) notebooks/MSDM-generation.ipynb, KarrasSchedule"),
    "s_churn": (20, "(M) notebooks/MSDM-generation.ipynb, s_churn"),
    "resamples": (1, "(M) notebooks/MSDM-generation.ipynb, num_resamples"),
}
GUIDANCE = {
    "convention": ("paper", "(P) Sect. 2.1"),
    "interval": (None, "(P) says of none"),
    "clamp": (1.0, "(M) ADP's Diffusion, dynamic_threshold 0: a clamp to 1"),
}
NEGATIVES = {"Bass": "Drums, Guitar, Piano", "Drums": "Bass", "Guitar": "Bass, Drums", "Piano": "Bass, Drums"}


def compare(found, facts, ours=()):
    """Every key has a fact, and every fact a key. `ours` are keys that are compared elsewhere."""
    assert set(found) - set(ours) == set(facts), "a setting without its source, or a source without its setting"
    for key, (value, source) in facts.items():
        assert found[key] == value, f"{key}: {source}"


@pytest.fixture(scope="module", params=["slakh2100", "mtg_jamendo"])
def study(request):
    overlay = REPO / "config" / f"{request.param}.yaml"
    return Study(validate(load(overlay)))


def network(study, model):
    """All options of a model's network, lists as tuples."""
    unet = study.model_config(model)["unet"]
    found = asdict(UNetConfig(**{key: tuple(x) if isinstance(x, list) else x for key, x in unet.items()}))
    return {key: tuple(x) if isinstance(x, list) else x for key, x in found.items()}


def training(study, model):
    found = asdict(TrainingConfig(**study.training(model)))
    return found | {"betas": tuple(found["betas"])}


def test_networks(study):
    text = study.model_config("gmsdi")["text"]
    assert study.model_config("gmsdi")["sigma_data"] == 0.2, "(M) exp/train_msdm.yaml, diffusion_sigma_data"
    own = {"in_channels": (1, "(P) mixtures"), "text_features": (None, "the text encoder's")}
    compare(network(study, "gmsdi"), NETWORK | own)
    if study.jamendo:
        assert (text["kind"], text["features"]) == ("clap", 512), "(P) Sect. 4, CLAP"
        assert study.config["data"]["window"] == 2**19, "(P) Sect. 4"
    else:
        expected = {"kind": "t5", "name": "t5-small", "max_length": 64}
        assert {key: text[key] for key in expected} == expected, "(P) Sect. 4, t5-small; ADP, 64 tokens"
        assert study.config["data"]["window"] == 2**18, "(P) Sect. 4; (M) exp/train_msdm.yaml, length"
    assert study.config["data"]["sample_rate"] == 22050, "(P) Sect. 4; (M) exp/train_msdm.yaml, sampling_rate"
    for model in study.baseline_models:
        channels = 4 if model == "msdm" else 1
        compare(network(study, model), NETWORK | {**own, "in_channels": (channels, "(M) exp/train_*.yaml")})
        assert study.model_config(model)["sigma_data"] == 0.2, "(M) exp/train_*.yaml, diffusion_sigma_data"


def test_trainings(study):
    compare(training(study, "gmsdi"), TRAINING | GMSDI)
    for model in study.baseline_models:
        compare(training(study, model), TRAINING | (JOINT if model == "msdm" else WEAK))
    assert study.jamendo or study.baseline_models == ["msdm", *study.systems["weak_msdm"].models]


def test_steps_are_msdms_epochs():
    """An epoch has one window of every 2^18 samples of the training split."""
    windows = VERSIONS["slakh2100_redux"].tracks["train"] * 249 * 22050 // 2**18
    assert JOINT["steps"][0] == pytest.approx(420 * windows / 8, rel=0.02)
    assert WEAK["steps"][0] == pytest.approx((444 + 259 + 408 + 237) / 4 * windows / 16, rel=0.02)


def test_separations(study):
    for name, row in study.rows.items():
        churn = {"s_churn": (40, "(M) exp/eval_weakly_msdm_dirac.yaml, s_churn")} if name == "weak_msdm" else {}
        compare(asdict(Solver(**row.solver)), SEPARATION | churn)
    for system in study.systems.values():
        if system.kind != "gmsdi":
            assert system.clamp == 1.0, "(M) ADP's Diffusion clamps D wherever it is evaluated"
    compare(asdict(Guidance(w=3.0, **study.config["separation"]["guidance"])), GUIDANCE, ours=["w"])
    extractor, separator = study.rows["extractor"], study.rows["separator"]
    assert extractor.negatives == {label: NEGATIVES[label] for label in ("Bass", "Drums")}, "(P) Sect. 5"
    assert separator.negatives == {}, "(P) Sect. 5"
    if not study.jamendo:
        assert (extractor.w, separator.w, separator.constrained) == (7.5, 3, "Drums"), "(P) Sect. 5"
        assert study.rows["msdm"].constrained == "Bass", "(M) exp/eval_msdm_dirac.yaml, source_id 0"
        assert study.rows["weak_msdm"].constrained == "Bass", "(M) exp/eval_weakly_msdm_dirac.yaml"
    assert study.config["grid"]["w"] == [3, 7.5, 15, 24], "(P) Table 1"
    assert study.config["grid"]["chunks"] == 100, "(P) Sect. 5"
    for name, row in study.grid_rows.items():
        assert {cell.step_count() for cell in study.grid_cells(name, "test")} == {row.step_count()}, "(P) Sect. 5"
    assert study.config["separation"]["chunks"] is None, "(P) the full test split"


def test_generations(study):
    steps = {"single": 150, "total": 600, "partial": 300}
    own = [task for task in study.tasks.values() if task.system.kind == "gmsdi"]
    for task in own:
        compare(asdict(Solver(**task.solver)), GENERATION | {"steps": (steps[task.FAMILY], "(P) Sect. 5")})
        compare(task.guidance, GUIDANCE, ours=["w"])
        assert task.negatives == ({} if task.name == "single" else NEGATIVES), "(P) Sect. 5"
    if study.jamendo:
        assert list(study.tasks.values()) == own
        return
    weak, total, partial = (study.tasks[f"{task}_msdm"] for task in ("single_weak", "total", "partial"))
    assert weak.system.clamp == total.system.clamp == partial.system.clamp == 1.0, "(M) ADP's Diffusion"
    compare(asdict(Solver(**weak.solver)), GENERATION | {"steps": (150, "(P) Sect. 5, as of our model")})
    compare(asdict(Solver(**total.solver)), NOTEBOOK)
    inpainting = {"steps": (256, "(M) the notebook's num_steps there"), "s_churn": (10, "(M) its s_churn there")}
    compare(asdict(Solver(**partial.solver)), NOTEBOOK | inpainting)
    assert partial.best_of == 100, "(P) Sect. 5"
    assert study.config["generation"]["clips"] == 200, "(P) Sect. 5"
    assert study.config["fad"]["reference_clips"] == 200, "(P) Sect. 5"
