"""Weights of the networks that two engines share, random, laid out as the packages look for them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gmsdi.models.clap import network
from tests.peers.oracles import bare, scrambled

HUBCONF = """\
import torch
from torchvggish import torchvggish, vggish_input

dependencies = ["torch", "resampy"]


class VGGish(torchvggish.VGG):
    def __init__(self, postprocess):
        super().__init__(torchvggish.make_layers(), postprocess)

    def forward(self, audio, rate):
        return super().forward(vggish_input.waveform_to_examples(audio, rate).to(self.device))


def vggish(postprocess=True):
    model = VGGish(postprocess)
    model.load_state_dict(torch.hub.load_state_dict_from_url(torchvggish.VGGISH_WEIGHTS))
    return model
"""
"""The entry of the hub's repository, around the files of the package torchvggish, which are the same."""


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def vggish_hub(folder: Path) -> str:
    """A folder as `torch.hub` keeps it; returns the digest of VGGish's weights."""
    import torchvggish

    repository, checkpoints = folder / "harritaylor_torchvggish_master", folder / "checkpoints"
    shutil.copytree(Path(torchvggish.__file__).parent, repository / "torchvggish")
    (repository / "hubconf.py").write_text(HUBCONF)
    checkpoints.mkdir()
    weights = checkpoints / "vggish-10086976.pth"
    torch.save(scrambled(bare("torchvggish.torchvggish")._vgg()).state_dict(), weights)
    pca = {"pca_eigen_vectors": torch.eye(128), "pca_means": torch.zeros(128)}
    torch.save(pca, checkpoints / "vggish_pca_params-970ea276.pth")
    return sha256(weights)


WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"BDaghimnoprstu", "Ġ", ","]
ROBERTA: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 82,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}


def small_text_network() -> nn.Module:
    """Stands for `network._text_network`: RoBERTa with one layer and few words."""
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    with torch.device("meta"):
        return ClapTextModelWithProjection(ClapTextConfig(**ROBERTA))


def laion_checkpoint(folder: Path) -> str:
    """LAION's checkpoint, of laion-clap's own class with random weights; returns its digest."""
    from transformers import RobertaConfig, RobertaModel

    from gmsdi.models.clap.laion import _answering, imported

    imported()
    with _answering(RobertaModel, RobertaModel(RobertaConfig(**ROBERTA))):
        from clap_module import create_model

        model, _ = create_model("HTSAT-base", "roberta", device="cpu")
    fronts = "audio_branch.spectrogram_extractor", "audio_branch.logmel_extractor"  # constants, though parameters
    kept = {key: value.clone() for key, value in model.state_dict().items() if key.startswith(fronts)}
    scrambled(model).load_state_dict(kept, strict=False)
    model.text_branch.embeddings.word_embeddings.weight.mul_(20)  # so that texts differ
    model.audio_branch.bn0.running_mean.fill_(-40)
    model.audio_branch.bn0.running_var.fill_(300)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(82)[None]
    file = folder / network.WEIGHTS.filename
    torch.save({"epoch": 15, "state_dict": state}, file)
    return sha256(file)


def tokenizer(folder: Path) -> Path:
    """RoBERTa's tokenizer with few words."""
    from transformers import RobertaTokenizer

    RobertaTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, merges=[]).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    return folder


def clips(seconds: float, rate: int, count: int = 2) -> np.ndarray:
    """Chords that fade, with noise, `[count, T]`."""
    rng = np.random.default_rng(5)
    time = np.arange(round(seconds * rate)) / rate
    tones = [sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(80, 3000, 4)) for _ in range(count)]
    noise = rng.standard_normal((count, time.size))
    return (0.1 * np.stack(tones) * np.exp(-time) + 0.02 * noise).astype(np.float32)
