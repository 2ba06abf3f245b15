"""CLAP, contrastive language-audio pretraining: audio and text as unit vectors of one space (Wu et al. 2023).

There are two kinds: LAION's published checkpoint, whose networks run in transformers, and the small one trained by
`gmsdi.models.clap.training`. `gmsdi.models.clap.encoder.Clap` is the interface to both. The package laion-clap is an
alternative engine (`gmsdi.models.clap.laion`, `text.kind: laion_clap`), but not a dependency: it requires NumPy 1, and
needs a network connection to be imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.io.features import clips_at, mel_filters
from gmsdi.io.weights import Weights, read_torch
from gmsdi.models.pretrained import explained, tokenize

WEIGHTS = Weights(
    url="https://huggingface.co/lukewys/laion_clap/resolve/b3708341862f581175dba5c356a4ebf74a9b6651/"
    "music_audioset_epoch_15_esc_90.14.pt",
    sha256="fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd",
    megabytes=2352,
)
"""LAION's CLAP of music: HTS-AT (base) and RoBERTa, trained on music, AudioSet and LAION-Audio-630k without fusion."""
FEATURES = 512
"""D, the width of LAION's embeddings."""
MAX_LENGTH = 77
"""Most tokens of a text that LAION's CLAP accepts."""
TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""The files in a tokenizer's folder, as on the hub."""

# Patterns of LAION's parameter names, and their names in transformers. The qkv matrices have been split already.
_AUDIO_NAMES = (
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_NAMES = {
    # The text branch is transformers' own RoBERTa, with the same names.
    "text": ((r"^text_branch\.", "text_model."),),
    "audio": _AUDIO_NAMES,
}
_PROJECTION = ((r"_projection\.0\.", "_projection.linear1."), (r"_projection\.2\.", "_projection.linear2."))
# Parameters that are not needed or can be derived: the front end, the tagging head, the masks of shifted windows, and
# constant indices.
_UNUSED = re.compile(
    r"spectrogram_extractor|logmel_extractor|tscam_conv|\.head\.|\.attn_mask$|\.(position|token_type)_ids$"
)


@dataclass(frozen=True)
class FrontEnd:
    """The input of an audio tower: mono windows of one length and rate, as log-mel spectrograms.

    Attributes:
        sample_rate: in Hz.
        window: samples.
        n_fft: length of the Fourier transform and of its Hann window.
        spacing: samples from one frame to the next.
        mels: mel bands.
        lowest, highest: where the bands begin and end, in Hz.
        rounded: whether samples are rounded to 16 bits, towards zero, as in laion-clap.
    """

    sample_rate: int
    window: int
    n_fft: int
    spacing: int
    mels: int
    lowest: float
    highest: float
    rounded: bool = False

    def clips(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Clips at the tower's rate, at least as long as its window.

        A shorter clip is repeated as often as it fits completely, then padded with zeros, as in laion-clap.

        Args:
            audio: `[n, T]`, `[n, C, T]` (averaged to mono) or `[T]`; NumPy or torch.
            sample_rate: sample rate of `audio` in Hz.

        Returns:
            float32 `[n, T']`.

        Raises:
            UserError: if the audio has another shape, is empty, or is not finite.
        """
        clips = clips_at(self.sample_rate, audio, sample_rate)
        if self.rounded:
            clips = np.trunc(np.clip(clips, -1, 1) * np.float32(32767)) / np.float32(32767)
        if (length := clips.shape[-1]) < self.window:
            clips = np.tile(clips, self.window // length)
            clips = np.pad(clips, ((0, 0), (0, self.window - clips.shape[-1])))
        return clips


LAION = FrontEnd(48000, 480000, n_fft=1024, spacing=480, mels=64, lowest=50, highest=14000, rounded=True)
"""The front end of LAION's CLAP: ten seconds."""


class AudioTower(nn.Module):
    """The tower that maps windows of audio to unit vectors.

    Args:
        network: transformers' `ClapAudioModelWithProjection`.
        front_end: turns windows into spectrograms.
    """

    filters: Tensor
    hann: Tensor

    def __init__(self, network: nn.Module, front_end: FrontEnd) -> None:
        super().__init__()
        self.network, self.front_end = network, front_end
        f = front_end
        filters = torch.from_numpy(mel_filters(f.sample_rate, f.n_fft, f.mels, f.lowest, f.highest)).float()
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(f.n_fft), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Embed `[n, T]`, where T is the front end's window, as `[n, D]`."""
        mel = self.log_mel(windows)
        return F.normalize(self.network(input_features=mel[:, None]).audio_embeds.float(), dim=-1)

    def log_mel(self, windows: Tensor) -> Tensor:
        """Mel power in dB, clipped at -100: `[n, T]` -> `[n, 1 + T // spacing, mels]`."""
        f = self.front_end
        with torch.autocast(windows.device.type, enabled=False):
            spectrum = torch.stft(windows, f.n_fft, f.spacing, window=self.hann, return_complex=True)
            power = self.filters @ spectrum.abs().square()
            return 10 * power.clamp(min=1e-10).log10().transpose(1, 2)


class TextTower(nn.Module):
    """The tower that maps texts to unit vectors.

    Args:
        network: transformers' `ClapTextModelWithProjection`.
        tokenizer: its tokenizer.
        max_length: maximum number of tokens in a text.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, max_length: int) -> None:
        super().__init__()
        self.network, self.tokenizer, self.max_length = network, tokenizer, max_length

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Embed P texts as `[P, D]`.

        Raises:
            UserError: if a text has more than `max_length` tokens.
        """
        device = next(self.network.parameters()).device
        ids, mask = tokenize(self.tokenizer, texts, self.max_length)
        embedded = self.network(input_ids=ids.to(device), attention_mask=mask.to(device)).text_embeds
        return F.normalize(embedded.float(), dim=-1)


def roberta_tokenizer(name: str) -> Any:
    """Load the tokenizer of LAION's text tower.

    Raises:
        UserError: if it is neither in a folder of that name, nor in the Hugging Face cache, nor downloadable.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    with explained("CLAP's tokenizer", name, key="text.tokenizer", files=TOKENIZER_FILES, kind="tokenizer"):
        return AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else name)


def laion_network(file: Path, part: str) -> nn.Module:
    """Load one network of LAION's HTSAT-base and RoBERTa for inference; the rest of the file is not read.

    Args:
        file: the checkpoint, already verified.
        part: "audio" or "text".

    Raises:
        UserError: if the weights belong to another network.
    """
    content = read_torch(file, mmap=True)
    network = _audio_network() if part == "audio" else _text_network()
    try:
        state = content["state_dict"] if isinstance(content, dict) else {}
        network.load_state_dict(from_laion(state, part), assign=True)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}: not the weights of LAION's HTSAT-base ({part}); use those of {WEIGHTS.url}"
        ) from error
    return network.eval().requires_grad_(False)


def from_laion(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Rename the parameters of one of LAION's networks to those of transformers' `Clap…ModelWithProjection`.

    Args:
        state: the state dict of LAION's checkpoint, from distributed training or not.
        part: "audio" or "text".
    """
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        if not key.startswith((f"{part}_branch.", f"{part}_projection.")) or _UNUSED.search(key):
            continue
        parts = {key: value}
        if ".attn.qkv." in key:
            names = (key.replace(".qkv.", f".{name}.") for name in ("query", "key", "value"))
            parts = dict(zip(names, value.chunk(3), strict=True))
        for name, piece in parts.items():
            for pattern, replacement in (*_NAMES[part], *_PROJECTION):
                name = re.sub(pattern, replacement, name)
            converted[name] = piece
    if part == "text":
        positions = converted["text_model.embeddings.position_embeddings.weight"].shape[0]
        converted["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
        converted["text_model.embeddings.token_type_ids"] = torch.zeros(1, positions, dtype=torch.long)
    return converted


def _audio_network() -> nn.Module:
    """HTSAT-base with its projection, without weights."""
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    config = ClapAudioConfig(
        patch_embeds_hidden_size=128, depths=[2, 2, 12, 2], num_attention_heads=[4, 8, 16, 32], hidden_size=1024
    )
    with torch.device("meta"):
        return ClapAudioModelWithProjection(config)


def _text_network() -> nn.Module:
    """RoBERTa-base with its projection, without weights."""
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    # RoBERTa's ε; ClapTextConfig defaults to BERT's.
    with torch.device("meta"):
        return ClapTextModelWithProjection(ClapTextConfig(layer_norm_eps=1e-5))
