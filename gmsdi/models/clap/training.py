"""A small CLAP, trained on windows of mixtures and their labels, for data sets with few sounds and few words.

It has the architecture of LAION's (`gmsdi.models.clap.network`) at a smaller size: HTS-AT on a log-mel spectrogram, and
a RoBERTa, here over bytes, which need no vocabulary file. `gmsdi.training.loop.train` trains it like any other model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.clap.network import AudioTower, FrontEnd, TextTower
from gmsdi.models.trainable import TrainableModel, register_kind

KIND = "clap"
LARGEST_SCALE = 100.0
"""Largest scale of the cosine similarities, as in CLIP and CLAP."""


class ContrastiveModel(TrainableModel):
    """Two towers and the scale of their cosine similarities (the inverse temperature).

    Attributes:
        audio: the tower from windows to unit vectors.
        text: the tower from texts to unit vectors.
        log_scale: logarithm of the scale.
        config: see `build`.
    """

    def __init__(self, audio: AudioTower, text: TextTower, config: dict[str, Any]) -> None:
        super().__init__()
        self.audio, self.text, self.config = audio, text, config
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.autocast = None

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The contrastive loss of each window, `[n]`. Negatives come only from this device's items of the batch.

        Raises:
            UserError: if a window has no text.
        """
        texts, clean = batch["texts"], batch["clean"]
        if None in texts:
            raise UserError("a contrastive model learns from windows with their texts; set p_drop of its training to 0")
        distinct = list(dict.fromkeys(texts))
        classes = torch.tensor([distinct.index(text) for text in texts], device=clean.device)
        with torch.autocast(clean.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            audio, text = self.audio(clean[:, 0]), self.text(distinct)
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        return info_nce(audio, text[classes], classes, scale)


def info_nce(audio: Tensor, text: Tensor, classes: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; Radford et al. 2021) in which equal texts are not negatives.

    The loss of pair i is the mean of two: that of finding its text among texts of other classes, and that of finding
    its audio among audio of other classes. With n different classes it equals CLIP's loss.

    Args:
        audio: `[n, D]` unit vectors.
        text: `[n, D]` unit vectors of the n texts.
        classes: `[n]`, equal where the texts are equal.
        scale: factor of the cosine similarities.

    Returns:
        `[n]`, the loss of each pair.
    """
    logits = scale * audio @ text.T
    pairs = torch.arange(len(classes), device=classes.device)
    twins = (classes[:, None] == classes) & (pairs[:, None] != pairs)
    logits = logits.masked_fill(twins, -torch.inf)
    losses = [F.cross_entropy(given, pairs, reduction="none") for given in (logits, logits.T)]
    return torch.stack(losses).mean(dim=0)


def build(config: dict[str, Any]) -> ContrastiveModel:
    """Build a small CLAP with fresh weights.

    Args:
        config: `features`, D; `sample_rate` in Hz and `window` in samples of its input; `audio` with `mels`, `n_fft`,
            `patch` (side of the square of the spectrogram that becomes one token), `channels` (of the first stage,
            doubled in each further one), `depths` and `heads` of the stages; `text` with `features`, `heads`, `layers`
            and `max_length` in bytes.

    Raises:
        UserError: if the settings contradict each other.
    """
    try:
        audio = _audio_tower(config)
        text = _text_tower(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"CLAP: these sizes do not fit together ({error}); change clap.config") from error
    return ContrastiveModel(audio, text, config)


def _audio_tower(config: Mapping[str, Any]) -> AudioTower:
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    own, window = config["audio"], config["window"]
    # HTS-AT cuts the spectrogram into `fold` parts of equal length and stacks them into a square image.
    fold, side = 2, 2 * own["mels"]
    grid, stages = side // own["patch"], len(own["depths"])
    if side % own["patch"] or grid % (fold * 2 ** (stages - 1)):
        raise ValueError(f"{side // fold} mels, patches of {own['patch']} and {stages} stages")
    frames = fold * side
    front_end = FrontEnd(
        config["sample_rate"],
        window,
        n_fft=own["n_fft"],
        spacing=window // frames + 1,  # at most `frames` frames; the network interpolates
        mels=own["mels"],
        lowest=50.0,
        highest=config["sample_rate"] / 2,
    )
    shape = ClapAudioConfig(
        spec_size=side,
        num_mel_bins=own["mels"],
        patch_size=own["patch"],
        patch_stride=[own["patch"]] * 2,
        patch_embeds_hidden_size=own["channels"],
        depths=own["depths"],
        num_attention_heads=own["heads"],
        num_hidden_layers=stages,
        hidden_size=own["channels"] * 2 ** (stages - 1),
        window_size=min(8, grid // 2 ** (stages - 1)),  # of the attention, at most the last stage's grid
        projection_dim=config["features"],
        hidden_dropout_prob=0.0,  # a training step is a function of its number alone
    )
    return AudioTower(ClapAudioModelWithProjection(shape), front_end)


def _text_tower(config: Mapping[str, Any]) -> TextTower:
    from transformers import ByT5Tokenizer, ClapTextConfig, ClapTextModelWithProjection

    own = config["text"]
    tokenizer = ByT5Tokenizer(extra_ids=0)
    shape = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=own["features"],
        num_hidden_layers=own["layers"],
        num_attention_heads=own["heads"],
        intermediate_size=2 * own["features"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=own["max_length"] + tokenizer.pad_token_id + 1,
        layer_norm_eps=1e-5,
        projection_dim=config["features"],
    )
    return TextTower(ClapTextModelWithProjection(shape), tokenizer, own["max_length"])


register_kind(KIND, lambda config, prompts: build(config))
