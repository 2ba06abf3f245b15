"""The paper-scale configurations, key by key, against what the paper and the code of MSDM say.

Every setting of every section, row, task, network and training stands here as a literal, with where it comes from, also
those that no configuration names: neither a default of ours that MSDM does not have nor a new key can slip in. (P) is
the paper, (M) the published code of MSDM (gladia-research-group/multi-source-diffusion-models), ADP
audio-diffusion-pytorch 0.0.43, on which that rests, (D) derived, and (?) what nobody has published. Only sections that
nothing here reads, such as those of other kinds of data, have no values here.
"""

import math
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
ANY = object()
"""The value of a section that is compared elsewhere, as its source says, or that nothing reads."""

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
T5 = {
    "kind": ("t5", "(P) Sect. 4"),
    "name": ("t5-small", "(P) Sect. 4"),
    "max_length": (64, "(M) ADP's UNetConditional1d, 64 tokens"),
    "attend_padding": (False, "differs: (M) ADP attends to T5's padding"),
    "features": (64, "of tiny and clap only"),
    "heads": (4, "of tiny only"),
    "layers": (2, "of tiny only"),
}
CLAP = {
    **T5,
    "kind": ("clap", "(P) Sect. 4"),
    "name": ("t5-small", "of t5 only"),
    "max_length": (64, "of t5 and tiny only"),
    "attend_padding": (False, "of t5 only"),
    "features": (512, "(P) Sect. 4, CLAP's, one token"),
    "checkpoint": (None, "(P) Sect. 4: null downloads music_audioset_epoch_15_esc_90.14.pt"),
    "sha256": (None, "of another checkpoint only"),
    "tokenizer": ("roberta-base", "LAION's CLAP"),
}
NEGATIVES = {"Bass": "Drums, Guitar, Piano", "Drums": "Bass", "Guitar": "Bass, Drums", "Piano": "Bass, Drums"}
OTHERS_NEGATIVES = {"Bass": "Drums, Other, Vocals", "Drums": "Bass", "Other": "Bass, Drums", "Vocals": "Bass, Drums"}
ROW = {
    "published": (True, "(P) Table 2"),
    "model": (None, "(P) the system's own"),
    "chosen_on": ("test", "(P) Sect. 5: the grid is of test chunks"),
    "chosen_by": (None, "nothing is chosen before a run"),
    "twin": (None, "(P) has no rows that are chosen on validation chunks"),
    "costed": (True, OURS),
}
GUIDED = {
    **ROW,
    "samples": (1, "(P) says of no mean of runs"),
    "inverted": (False, "beyond the paper"),
    "wiener": (None, "beyond the paper"),
}
ROWS = {
    "separator": {
        **GUIDED,
        "w": (3, "(P) Sect. 5"),
        "constrained": ("Drums", "(P) Sect. 5"),
        "negatives": ({}, "(P) Sect. 5: none"),
    },
    "extractor": {
        **GUIDED,
        "w": (7.5, "(P) Sect. 5"),
        "negatives": ({label: NEGATIVES[label] for label in ("Bass", "Drums")}, "(P) Sect. 5; (?) texts of Figure 2"),
        "consistent": (False, "beyond the paper"),
        "by_power": (None, "beyond the paper"),
    },
    "msdm": {**ROW, "constrained": ("Bass", "(M) exp/eval_msdm_dirac.yaml, source_id 0")},
    "weak_msdm": {**ROW, "constrained": ("Bass", "(M) exp/eval_weakly_msdm_dirac.yaml, source_id 0")},
    "msdm_gaussian": {**ROW, "published": (False, "(P) Table 2 has none"), "costed": (False, OURS)},
}
OPEN = {
    "separator": {"w": (None, "(?) Table 1 chooses"), "constrained": (None, "(?) Table 1 chooses")},
    "extractor": {"w": (None, "(?) Table 1 chooses")},
}
SOLVERS = {
    "weak_msdm": {**SEPARATION, "s_churn": (40, "(M) exp/eval_weakly_msdm_dirac.yaml, s_churn")},
    "msdm_gaussian": {**SEPARATION, "s_churn": (40, "(M) exp/eval_msdm_gaussian.yaml, s_churn")},
}
TITLES = {  # of rows, each with the row of the paper's Table 2 beside it, where the stems are the paper's
    "separator": ("GMSDI Separator", "GMSDI Separator"),
    "extractor": ("GMSDI Extractor", "GMSDI Extractor"),
    "msdm": ("MSDM", "MSDM"),
    "weak_msdm": ("Weakly Supervised MSDM", "Weakly Supervised MSDM"),
    "msdm_gaussian": ("MSDM, Gaussian likelihood", None),
}
TASK = {"clips": (200, "(P) Sect. 5"), "shown": (True, OURS)}
OWN_TASK = {**TASK, "model": (None, "(P) the system's own"), "title": ("", OURS)}
SINGLE = {
    **OWN_TASK,
    "negative": (False, "(P) Figure 2"),
    "negatives": ({}, "(P) Figure 2"),
    "curve": (False, "(P) Figure 2 has none"),
}
PROMPTS = (NEGATIVES, "(P) Sect. 5, of single stems; (?) of several")
BASELINE = {**TASK, "shown": (False, OURS)}
TASKS = {
    "single": SINGLE,
    "single_negative": {**SINGLE, "negative": (True, "(P) Figure 2"), "negatives": (NEGATIVES, "(P) Sect. 5")},
    "total": {
        **OWN_TASK,
        "negatives": PROMPTS,
        "gamma_x": ({"sigma": 2.0}, "(?); (D) √K·σ, with which the last step makes the stems sum to y"),
        "gamma_y": (math.inf, "(P) Sect. 5"),
        "noise": ("independent", "(P) Sect. 3.1 says of no coupling"),
        "consistent": (False, "beyond the paper"),
    },
    "partial": {
        **OWN_TASK,
        "negatives": PROMPTS,
        "gamma_x": ({"sigma": 2.0}, "(?)"),
        "gamma_y": ({"sigma": 2.0}, "(P) Sect. 5: finite; (?) how large"),
        "alpha": (1, "(?)"),
        "beta": (1, "(?)"),
        "given_noise": ("fixed", "(?) drawn once or anew"),
    },
    "single_weak_msdm": BASELINE,
    "total_msdm": BASELINE,
    "partial_msdm": {**BASELINE, "best_of": (100, "(P) Sect. 5")},
}
SYSTEMS = {
    "gmsdi": {"prompts": ({}, "(P) Sect. 4: the labels themselves")},
    "msdm": {"clamp": (1.0, "(M) ADP's Diffusion clamps D wherever it is evaluated")},
    "weak_msdm": {"clamp": (1.0, "(M) ADP's Diffusion clamps D wherever it is evaluated")},
}
MUSDB_VALIDATION = (
    "Actions - One Minute Smile|Alexander Ross - Goodbye Bolero|ANiMAL - Rockshow|"
    "Clara Berry And Wooldog - Waltz For My Victims|Fergessen - Nos Palpitants|James May - On The Line|"
    "Johnny Lokke - Promises & Lies|Leaf - Summerghost|Meaxic - Take A Step|Patrick Talbot - A Reason To Leave|"
    "Skelpolu - Human Mistakes|Traffic Experiment - Sirens|Triviul - Angelsaint|Young Griffo - Pennies"
)
DOWNLOAD = {"folder": "results/downloads", "mirrors": [], "registry": None}
DATA = {
    "data.kind": ("slakh", "(P) Sect. 4"),
    "data.source": ("slakh2100_redux", "(D) config/slakh2100.yaml"),
    "data.root": (None, "a user's"),
    "data.tracks": (dict.fromkeys(("train", "validation", "test")), "(P) all"),
    "data.download": ({"archive": "keep", **DOWNLOAD}, OURS),
    "data.seed": (1, "of splits and composed data only"),
    "data.sample_rate": (22050, "(P) Sect. 4; (M) exp/train_msdm.yaml, sampling_rate"),
    "data.window": (2**18, "(P) Sect. 4; (M) exp/train_msdm.yaml, length"),
    "data.channels": (1, "(M) exp/train_msdm.yaml, channels"),
    "data.min_active": (0.5, "(?) which labels are “present in the mixture”"),
    "data.classes": ({label: [label] for label in NEGATIVES}, "(P) Sect. 4; (M) exp/train_msdm.yaml, stems"),
    "data.stems": (ANY, "of kind stems only"),
    "data.mini": (ANY, "of kind mini only"),
    "data.midi": (ANY, "of kind midi only"),
    "training_data.kind": ("same", "(P) Sect. 4"),
    "training_data.root": (None, "a user's"),
    "training_data.shards": (
        {"train": [0, 97], "validation": [98, 99]},
        "(P) Sect. 4, of kind jamendo only: the first 98 and the last 2",
    ),
    "training_data.tracks": (None, "(P) all"),
    "training_data.download": ({"archive": "remove", **DOWNLOAD}, OURS),
}
STEMS = {
    "data.kind": ("stems", "beyond the paper"),
    "data.stems.activity": (
        {"frame": 0.05, "range_db": 35.0, "floor_db": -60.0, "gap": 1.0},
        "beyond the paper: where a stem sounds",
    ),
    "data.stems.gain_db": (0.0, "beyond the paper: the levels of the data set"),
    "generation.negatives": (OTHERS_NEGATIVES, "beyond the paper: as near to (P) as these stems allow"),
}
OTHER = ("guitar", "piano", "other_keys", "other_plucked", "bowed_strings", "wind", "percussion", "other")
SETTINGS = {
    **DATA,
    "base": (None, "what load has joined"),
    "seed": (1, "any"),
    "model.train": (True, "(P) Sect. 4"),
    "model.folder": (None, "of a model that is not trained only"),
    "model.prompts": ({}, "(P) Sect. 4: the labels themselves"),
    "model.config.kind": ("diffusion", "(P) Sect. 4, of waveforms"),
    "model.config.additive": (None, "of kind latent only"),
    "model.config.sigma_data": (0.2, "(M) exp/train_msdm.yaml, diffusion_sigma_data"),
    "model.config.unet": (ANY, "test_networks"),
    "model.config.text": (ANY, "test_networks"),
    "training": (ANY, "test_trainings"),
    "clap.hop": (0.5, "(?) how E(y) follows a crop; of clap only"),
    "clap.train": (False, "(P) Sect. 4: CLAP is pretrained"),
    "clap.config": (ANY, "of clap.train only"),
    "clap.training": (ANY, "of clap.train only"),
    "codec": (ANY, "of kind latent only"),
    "demo_training.enabled": (False, OURS),
    "demo_training.tracks": (ANY, OURS),
    "demo_training.validation_tracks": (ANY, OURS),
    "demo_training.training": (ANY, OURS),
    "separation.chunks": (None, "(P) Sect. 5: the full test split"),
    "separation.bss_eval": (False, "(P) has SI-SDRi only"),
    "separation.solver": (ANY, "test_separations"),
    "separation.guidance": (ANY, "test_separations"),
    "separation.rows": (ANY, "test_separations"),
    "costs.steps": ([], "(P) has no Figure 4"),
    "costs.chunks": (8, "of Figure 4 only"),
    "baselines.train": (True, "(M)"),
    "baselines.folder": (None, "of models that are not trained only"),
    **{f"baselines.{system}.model": (ANY, "test_networks") for system in ("msdm", "weak_msdm")},
    **{f"baselines.{system}.training": (ANY, "test_trainings") for system in ("msdm", "weak_msdm")},
    **{f"baselines.{system}.clamp": (ANY, "test_separations") for system in ("msdm", "weak_msdm")},
    **{f"baselines.{system}.generation.solver": (ANY, "test_generations") for system in ("msdm", "weak_msdm")},
    "baselines.msdm.generation.partial.solver": (ANY, "test_generations"),
    "baselines.msdm.generation.best_of": (ANY, "test_generations"),
    "baselines.demucs_gibbs": (ANY, "(P) Table 2 quotes it; no row runs it"),
    "grid.w": ([3, 7.5, 15, 24], "(P) Table 1"),
    "grid.chunks": (100, "(P) Sect. 5"),
    "grid.solver": ({"steps": 150}, "(?); (M) exp/eval_msdm_dirac.yaml, num_steps"),
    "grid.validation.chunks": (None, "(P) Sect. 5: the grid is of test chunks"),
    "grid.validation.w": (None, "of grid.validation.chunks only"),
    "grid.select_by": ("protocol", "(P) Sect. 5: the score of Table 2"),
    "generation.clips": (200, "(P) Sect. 5"),
    "generation.solver": (ANY, "test_generations"),
    "generation.guidance": (ANY, "test_generations"),
    "generation.w": (3, "(?)"),
    "generation.negatives": (NEGATIVES, "(P) Sect. 5"),
    "generation.single.solver": (ANY, "test_generations"),
    "generation.single.w": (None, "generation.w"),
    "generation.single.w_curve": ([], "beyond the paper"),
    "generation.single.curve_clips": (16, "of w_curve only"),
    "generation.total": (ANY, "test_generations"),
    "generation.partial": (ANY, "test_generations"),
    "generation.sequential": (None, "beyond the paper"),
    "generation.extracted": (None, "beyond the paper"),
    "generation.conditioned": (None, "beyond the paper"),
    "generation.groups": (None, "(P) Eq. 11, of which Figure 3 has no bar"),
    "generation.models": ({}, "beyond the paper"),
    "tuning.chunks": (16, "of searches only"),
    "tuning.clips": (16, "of searches only"),
    "tuning.searches": ({}, "beyond the paper"),
    "fad.embedding": ("vggish-YouTube8M-linear128", "(P) Sect. 5, VGGish; the FAD libraries: without PCA"),
    "fad.engine": ("gmsdi", "docs/fidelity.md compares it with a FAD library"),
    "fad.compare_engines": (False, OURS),
    "fad.folder": (None, "of embeddings from a folder only"),
    "fad.checkpoint": (None, "the published weights"),
    "fad.sha256": (None, "of another checkpoint only"),
    "fad.hop": (None, "the FAD libraries: 0.96 s, the frames of VGGish"),
    "fad.reference_clips": (200, "(P) Sect. 5"),
    "fad.mixtures": ("any", "(P) Sect. 5: random test mixture chunks"),
    "intervals.confidence": (0.95, "beyond the paper"),
    "gallery.examples": (4, OURS),
    "jobs.separation": (32, OURS),
    "jobs.generation": (16, OURS),
    "jobs.batch": (16, OURS),
    "jobs.threads": (8, OURS),
    "jobs.device": ("auto", OURS),
    "jobs.precision": ("auto", "differs: (M) evaluation/experiments.py: float32; bf16 where the hardware has it"),
}
CHANGES = {
    "slakh2100": {},
    "mtg_jamendo": {
        "data.window": (2**19, "(P) Sect. 4"),
        "training_data.kind": ("jamendo", "(P) Sect. 4"),
    },
    "moisesdb": {
        **STEMS,
        "data.classes": (
            {"Bass": ["bass/*"], "Drums": ["drums/*"], "Other": [f"{x}/*" for x in OTHER], "Vocals": ["vocals/*"]},
            "MoisesDB's tools, mix_4_stems",
        ),
        "data.stems.splits": ({"train": None, "validation": 0.1, "test": 0.2}, "MoisesDB has none of its own"),
    },
    "musdb18hq": {
        **STEMS,
        "data.classes": ({label: [f"{label.lower()}.*"] for label in OTHERS_NEGATIVES}, "MUSDB18-HQ's files"),
        "data.stems.splits": (
            {
                "train": ["train"],
                "validation": [f"train/{track}" for track in MUSDB_VALIDATION.split("|")],
                "test": ["test"],
            },
            "musdb, configs/mus.yaml, validation_tracks",
        ),
    },
}


def compare(found, facts, ours=()):
    """Every key has a fact, and every fact a key. `ours` are keys that are compared elsewhere."""
    odd = (set(found) - set(ours)) ^ set(facts)
    assert not odd, f"a setting without its source, or a source without its setting: {sorted(odd)}"
    for key, (value, source) in facts.items():
        assert value is ANY or found[key] == value, f"{key}: {source}"


def flat(section, known, path=""):
    """Settings by dotted keys; those in `known` are not taken apart."""
    found = {}
    for key, value in section.items():
        inner = isinstance(value, dict) and value and path + key not in known
        found |= flat(value, known, f"{path}{key}.") if inner else {path + key: value}
    return found


@pytest.fixture(scope="module", params=list(CHANGES))
def study(request):
    return Study(validate(load(REPO / "config" / f"{request.param}.yaml")))


def network(study, model):
    """All options of a model's network, lists as tuples."""
    unet = study.model_config(model)["unet"]
    found = asdict(UNetConfig(**{key: tuple(x) if isinstance(x, list) else x for key, x in unet.items()}))
    return {key: tuple(x) if isinstance(x, list) else x for key, x in found.items()}


def training(study, model):
    found = asdict(TrainingConfig(**study.training(model)))
    return found | {"betas": tuple(found["betas"])}


def compare_system(study, system):
    own = {"kind": (system.kind, "its name"), "labels": (tuple(study.labels), "data.classes")}
    if system.kind == "gmsdi":
        own["seconds"] = (study.config["data"]["window"] / 22050, "data.window")
    compare(system.model_dump(), SYSTEMS[system.kind] | own)


def test_settings(study):
    name = study.config["run"]
    facts = SETTINGS | CHANGES[name] | {"run": (name, "the name of the file")}
    if "data.stems.splits" in facts:
        del facts["data.stems"]
    compare(flat(study.config, facts), facts)
    assert list(study.jamendo_parts()) == (["train-0-97", "validation-98-99"] if study.jamendo else []), "(P) Sect. 4"


def test_networks(study):
    window = 2**19 if study.jamendo else 2**18
    shared = {
        "sigma_data": (0.2, "(M) exp/train_*.yaml, diffusion_sigma_data"),
        "sample_rate": (22050, "(P) Sect. 4"),
        "window": (window, "(P) Sect. 4"),
        "labels": (study.labels, "data.classes"),
    }
    compare(study.model_config("gmsdi"), shared, ours=["unet", "text"])
    compare(study.model_config("gmsdi")["text"], CLAP if study.jamendo else T5)
    own = {"in_channels": (1, "(P) mixtures"), "text_features": (None, "the text encoder's")}
    compare(network(study, "gmsdi"), NETWORK | own)
    for model in study.baseline_models:
        channels, target = (4, "stems") if model == "msdm" else (1, model.removeprefix("weak_msdm_"))
        facts = {**shared, "text": ({"kind": "none"}, "(M) unconditional"), "target": (target, "(M) exp/train_*.yaml")}
        compare(study.model_config(model), facts, ours=["unet"])
        compare(network(study, model), NETWORK | {**own, "in_channels": (channels, "(M) exp/train_*.yaml")})


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
    run = study.config["run"]
    names = [name for name in ROWS if not study.jamendo or name in OPEN]
    assert list(study.rows) == names, "(P) Table 2; of MTG-Jamendo's mixtures, only our model can be trained"
    for name, row in study.rows.items():
        title, paper = TITLES[name]
        if study.jamendo:
            title, paper = f"{title}, unsupervised (CLAP)", None
        facts = {
            "kind": (name, "its own"),
            "name": (name, "its own"),
            "title": (title, OURS),
            "paper": (paper, "(P) Table 2"),
        }
        facts |= ROWS[name] | (OPEN.get(name, {}) if run != "slakh2100" else {})
        if run in ("moisesdb", "musdb18hq") and name == "extractor":
            facts["negatives"] = ({}, "differs: (P) Sect. 5 has some for Bass and Drums")
        guided = name in OPEN
        compare(row.model_dump(), facts, ours=["solver", "system", *(["guidance"] if guided else [])])
        compare(asdict(Solver(**row.solver)), SOLVERS.get(name, SEPARATION))
        if guided:
            compare(asdict(Guidance(w=3.0, **row.guidance)), GUIDANCE, ours=["w"])
        compare_system(study, row.system)
    ensemble = {
        "name": ("ensemble", "its own"),
        "title": ("Ensemble", OURS),
        "of": (("separator", "extractor"), "(P) Sect. 5"),
        "paper": (None if study.jamendo else "Ensemble", "(P) Table 2"),
        "chosen_on": ("test", "(P) Table 2: its numbers are the better of both"),
    }
    compare(study.ensembles["ensemble"].model_dump(), ensemble)
    assert list(study.ensembles) == ["ensemble"], "(P) Table 2"
    assert not study.averages, "(P) Table 2 has none"


def test_grids(study):
    """Table 1 has the rows of Table 2, apart from w and the constrained stem."""
    separator = study.rows["separator"].model_dump()
    rows = {"extractor": study.rows["extractor"].model_dump()}
    for label in study.labels:
        own = {"name": f"separator_{label}", "constrained": label, "published": False}
        rows[f"separator_{label}"] = separator | own
    assert {name: row.model_dump() for name, row in study.grid_rows.items()} == rows, "(P) Table 1"
    for name, row in rows.items():
        cells = [cell.model_dump() for cell in study.grid_cells(name, "test")]
        assert cells == [row | {"w": w} for w in (3, 7.5, 15, 24)], "(P) Table 1, Sect. 5"


def test_generations(study):
    own = ("single", "single_negative", "total", "partial")
    assert list(study.tasks) == [name for name in TASKS if not study.jamendo or name in own], "(P) Figures 2 and 3"
    assert not study.searches
    inpainting = {"steps": (256, "(M) the notebook's num_steps there"), "s_churn": (10, "(M) its s_churn there")}
    solvers = {"total_msdm": NOTEBOOK, "partial_msdm": NOTEBOOK | inpainting}
    steps = {"single": 150, "total": 600, "partial": 300}
    for name, task in study.tasks.items():
        kind = "single" if name == "single_negative" else name
        facts = TASKS[name] | {"kind": (kind, "its own"), "name": (name, "its own")}
        if "Other" in study.labels and facts.get("negatives", ({},))[0]:
            facts["negatives"] = STEMS["generation.negatives"]
        compare(task.model_dump(), facts, ours=["solver", "system", *(["guidance"] if name in own else [])])
        ours = GENERATION | {"steps": (steps[task.FAMILY], "(P) Sect. 5; single_weak_msdm as our model")}
        compare(asdict(Solver(**task.solver)), solvers.get(name, ours))
        if name in own:
            compare(task.guidance, GUIDANCE | {"w": (3, "(?)")})
        compare_system(study, task.system)
