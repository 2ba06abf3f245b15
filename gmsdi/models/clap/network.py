"""CLAP, contrastive language-audio pretraining: audio and text as unit vectors of one space (Wu et al. 2023).

Two kinds are known: LAION's published checkpoint, whose networks run in transformers, and the small one that
`gmsdi.models.clap.training` trains. `Clap` is the interface of both. The laion-clap package itself is not used: it asks
for NumPy 1 and needs a connection to be imported.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.metrics.features import clips_at, mel_filters
from gmsdi.metrics.weights import Weights, pinned, read_torch
from gmsdi.models.edm.text import as_tokens, explained, tokenize

if TYPE_CHECKING:
    from gmsdi.models.clap.training import ContrastiveModel

WEIGHTS = Weights(
    url="https://huggingface.co/lukewys/laion_clap/resolve/b3708341862f581175dba5c356a4ebf74a9b6651/"
    "music_audioset_epoch_15_esc_90.14.pt",
    sha256="fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd",
    megabytes=2352,
)
"""LAION's CLAP of music: HTS-AT (base) and RoBERTa, trained on music, AudioSet and LAION-Audio-630k without fusion."""
FEATURES = 512
"""D of that CLAP."""
MAX_LENGTH = 77
"""Tokens of a text that LAION's CLAP takes."""
TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""What a tokenizer's folder holds, as the hub has it."""

# Parameters of LAION's networks, as patterns, and their names in transformers. The qkv matrices are split beforehand.
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
    # The text branch is transformers' own RoBERTa, and so are its names.
    "text": ((r"^text_branch\.", "text_model."),),
    "audio": _AUDIO_NAMES,
}
_PROJECTION = ((r"_projection\.0\.", "_projection.linear1."), (r"_projection\.2\.", "_projection.linear2."))
# What the embeddings do not need or derive themselves: the front end, the tagging head, the masks of shifted windows,
# and constant indices.
_UNUSED = re.compile(
    r"spectrogram_extractor|logmel_extractor|tscam_conv|\.head\.|\.attn_mask$|\.(position|token_type)_ids$"
)


@dataclass(frozen=True)
class FrontEnd:
    """What an audio tower hears: mono windows of one length and rate as log-mel spectrograms.

    Attributes:
        sample_rate: in Hz.
        window: samples.
        n_fft: length of the Fourier transform and of its Hann window.
        spacing: samples from one frame to the next.
        mels: mel bands.
        lowest, highest: where the bands begin and end, in Hz.
        rounded: samples are rounded to 16 bits, towards zero, as laion-clap does.
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
        """Clips at the tower's rate and at least as long as its window.

        A shorter clip is repeated as often as it fits whole, then padded with zeros, as in laion-clap.

        Args:
            audio: `[n, T]`, `[n, C, T]` (averaged to mono) or `[T]`; NumPy or torch.
            sample_rate: of `audio`, in Hz.

        Returns:
            float32 `[n, T']`.

        Raises:
            UserError: if the audio has another shape, is empty, or not finite.
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
    """Windows of audio to unit vectors.

    Args:
        network: transformers' `ClapAudioModelWithProjection`.
        front_end: what it hears.
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
        """Embed `[n, T]`, T being the front end's window, as `[n, D]`."""
        mel = self.log_mel(windows)
        return F.normalize(self.network(input_features=mel[:, None]).audio_embeds.float(), dim=-1)

    def log_mel(self, windows: Tensor) -> Tensor:
        """Mel power in dB, at least -100, `[n, T]` -> `[n, 1 + T // spacing, mels]`."""
        f = self.front_end
        with torch.autocast(windows.device.type, enabled=False):
            spectrum = torch.stft(windows, f.n_fft, f.spacing, window=self.hann, return_complex=True)
            power = self.filters @ spectrum.abs().square()
            return 10 * power.clamp(min=1e-10).log10().transpose(1, 2)


class TextTower(nn.Module):
    """Texts to unit vectors.

    Args:
        network: transformers' `ClapTextModelWithProjection`.
        tokenizer: its tokenizer.
        max_length: tokens of a text.
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


class Clap:
    """Audio and texts as unit vectors of one space; each tower is read when it is first used.

    Args:
        checkpoint: a folder of the small CLAP (`gmsdi.models.clap.training`), or the file of the weights as LAION
            publishes them; None: that file, downloaded once (see `gmsdi.metrics.weights.Weights.file`).
        sha256: digest that the file must have, if its weights are not the published ones.
        tokenizer: of LAION's text tower, RoBERTa's: a local folder with `TOKENIZER_FILES`, or a name on the hub, which
            is taken from the Hugging Face cache or downloaded into it.
        batch: windows per forward pass.
        device: where the towers run.

    Raises:
        UserError: if the folder holds no such model, or `batch` is not positive. What else is wrong with the weights or
            the tokenizer shows when a tower is first used.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str = "roberta-base",
        batch: int = 8,
        device: str = "cpu",
    ) -> None:
        if batch < 1:
            raise UserError(f"CLAP: batch is {batch}; it must be at least 1")
        self._path = None if checkpoint is None else Path(checkpoint).expanduser()
        self._sha256, self._tokenizer, self._batch, self._device = sha256, tokenizer, batch, device
        self._small = self._path is not None and self._path.is_dir()

    @property
    def name(self) -> str:
        """Which CLAP it is, for provenance."""
        return f"{self._path}" if self._small else WEIGHTS.filename

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        self._require()
        if not self._small:
            return pinned(WEIGHTS, self._sha256).sha256
        assert self._path is not None
        with (self._path / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def features(self) -> int:
        """D, the width of the embeddings."""
        return int(self._contrastive.config["features"]) if self._small else FEATURES

    @cached_property
    def audio(self) -> AudioTower:
        """The audio tower, ready for inference."""
        self._require()
        tower = self._contrastive.audio if self._small else AudioTower(self._published("audio"), LAION)
        return tower.to(self._device).eval().requires_grad_(False)

    @cached_property
    def text(self) -> TextTower:
        """The text tower, ready for inference."""
        self._require()
        if self._small:
            tower = self._contrastive.text
        else:
            tokenizer = roberta_tokenizer(self._tokenizer)  # before 2.4 GB are read, or even downloaded
            tower = TextTower(self._published("text"), tokenizer, MAX_LENGTH)
        return tower.to(self._device).eval().requires_grad_(False)

    def embed_audio(self, windows: Any, sample_rate: int) -> np.ndarray:
        """Embed windows of audio: one vector each.

        Of a window that is longer than the tower's (ten seconds of LAION's) the middle is embedded, where laion-clap
        takes a part at random; a shorter one is repeated, see `FrontEnd.clips`.

        Args:
            windows: `[n, T]` or `[n, C, T]` (averaged to mono), NumPy or torch.
            sample_rate: in Hz.

        Returns:
            float32 `[n, D]` of unit length.

        Raises:
            UserError: if the weights cannot be had, or the audio is not finite.
        """
        tower = self.audio
        clips = tower.front_end.clips(windows, sample_rate)
        start = (clips.shape[-1] - tower.front_end.window) // 2
        cropped = torch.from_numpy(clips[:, start : start + tower.front_end.window])
        with torch.inference_mode():
            parts = [tower(part.to(self._device)).cpu() for part in cropped.split(self._batch)]
        return torch.cat(parts).numpy()

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, one by one, so that a vector depends on nothing but its text.

        Returns:
            float32 `[P, D]` of unit length.

        Raises:
            UserError: if the weights or the tokenizer cannot be had, or a text is too long.
        """
        with torch.inference_mode():
            return torch.cat([self.text([text]).cpu() for text in texts]).numpy()

    def _require(self) -> None:
        if self._path is not None and not self._path.exists():
            raise UserError(
                f"CLAP {str(self._path)!r}: no such file or folder; set text.checkpoint to LAION's weights or to the "
                "folder of a small CLAP"
            )

    @cached_property
    def _contrastive(self) -> ContrastiveModel:
        from gmsdi.models.checkpoint import load_model
        from gmsdi.models.clap.training import ContrastiveModel

        assert self._path is not None
        model = load_model(self._path)
        if not isinstance(model, ContrastiveModel):
            raise UserError(f"{self._path}: holds another model, not a CLAP; set text.checkpoint to the folder of one")
        return model

    @cached_property
    def _file(self) -> Path:
        return pinned(WEIGHTS, self._sha256).file(self._path)

    def _published(self, part: str) -> nn.Module:
        return laion_network(self._file, part)


def clap_of(text: Mapping[str, Any], *, device: str = "cpu") -> Clap:
    """The CLAP that a model's configuration names.

    Args:
        text: a model's `text`, with `checkpoint`, `sha256` and `tokenizer`, each of which may be missing or None.
        device: where it runs.

    Raises:
        UserError: see `Clap`.
    """
    given = {key: text[key] for key in ("sha256", "tokenizer") if text.get(key)}
    return Clap(text.get("checkpoint"), **given, device=device)


class ClapPrompts:
    """A CLAP's text tower as the encoder of `gmsdi.models.edm.text.FrozenText`: a prompt is one token.

    It is no part of the module that uses it: neither saved nor copied with it.
    """

    def __init__(self, clap: Clap) -> None:
        self.clap = clap

    def __deepcopy__(self, memo: dict[int, Any]) -> ClapPrompts:
        return self

    @property
    def name(self) -> str:
        """Which CLAP it is."""
        return self.clap.name

    @property
    def features(self) -> int:
        """D, the width of the embeddings; read off the text tower, so that one that is missing shows at once."""
        network: Any = self.clap.text.network
        return int(network.config.projection_dim)

    def embed(self, text: str, max_length: int) -> tuple[Tensor, Tensor]:
        """The embedding of one prompt: a token `[1, D]`, and its attention mask `[1]`.

        Raises:
            UserError: see `Clap.embed_text`.
        """
        return as_tokens(torch.from_numpy(self.clap.embed_text([text])))[0], torch.ones(1, dtype=torch.bool)


def roberta_tokenizer(name: str) -> Any:
    """The tokenizer of LAION's text tower.

    Raises:
        UserError: if it is neither in a folder of that name, nor in the Hugging Face cache, nor downloadable.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    with explained("CLAP's tokenizer", name, key="text.tokenizer", files=TOKENIZER_FILES, kind="tokenizer"):
        return AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else name)


def laion_network(file: Path, part: str) -> nn.Module:
    """A network of a checkpoint of LAION's HTSAT-base and RoBERTa, for inference; the rest stays in the file.

    Args:
        file: of verified weights.
        part: "audio" or "text".

    Raises:
        UserError: if the weights are of another network.
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
    """Name the parameters of a network of LAION's as transformers' `Clap…ModelWithProjection` does.

    Args:
        state: the state dict in a checkpoint of LAION's, from distributed training or not.
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
    """HTSAT-base with its projection, without values."""
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    config = ClapAudioConfig(
        patch_embeds_hidden_size=128, depths=[2, 2, 12, 2], num_attention_heads=[4, 8, 16, 32], hidden_size=1024
    )
    with torch.device("meta"):
        return ClapAudioModelWithProjection(config)


def _text_network() -> nn.Module:
    """RoBERTa-base with its projection, without values."""
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    # RoBERTa's ε; the default of ClapTextConfig is BERT's.
    with torch.device("meta"):
        return ClapTextModelWithProjection(ClapTextConfig(layer_norm_eps=1e-5))
