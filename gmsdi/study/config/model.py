"""The sections `model`, `clap` and `demo_training`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field

from gmsdi.settings import Bounded, Count, Flag, Positive
from gmsdi.study.config.base import CodecChanges, CodecSettings, Model, TrainingChanges, UNetSettings, choice, section

Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
CODECS: dict[str, dict[str, int]] = {"plain": {}, "additive": {"additive": 1}, "linear": {"blocks": 0}}
Layers = Annotated[list[Count], Len(1)]


class Text(Model):
    """The text encoder."""

    kind: Literal["tiny", "t5", "clap", "none"] = choice(
        "tiny",
        "tiny: a small T5 over bytes, trained together with the network; t5: a pretrained, frozen T5; clap: a CLAP, by "
        "whose embeddings of the mixtures themselves the network is trained, without labels; none: unconditional",
    )
    name: str = choice("t5-small", "t5: name on the hub, or a local folder")
    checkpoint: str | None = choice(
        None,
        "clap: file of LAION's weights, or folder of a small CLAP; null downloads LAION's of music, 2.4 GB, or "
        "takes the one that `clap.train` trains",
    )
    sha256: Digest | None = choice(
        None, "clap: digest that LAION's weights must have; null is that of the published ones"
    )
    tokenizer: str = choice("roberta-base", "clap: of LAION's text encoder, name on the hub, or a local folder")
    features: Count = choice(64, "tiny: width; clap: dimensions of the embeddings, LAION's have 512")
    heads: Count = choice(4, "tiny: attention heads")
    layers: Count = choice(2, "tiny: layers")
    max_length: Count = choice(28, "tokens of a prompt")
    attend_padding: Flag = choice(False, "t5: cross-attention sees padding, as in audio-diffusion-pytorch")


class Architecture(Model):
    """The architecture of a model to be trained."""

    kind: Literal["diffusion", "latent"] = choice(
        "diffusion", "diffusion: a model of waveforms; latent: of the latents of the codec that `codec` trains"
    )
    additive: Flag | None = choice(
        None,
        "latent: whether the latents of a mixture are taken for the sum of its stems'; otherwise sums are taken of "
        "decoded signals, which costs decodings and encodings in every step; null: if the codec is linear or was "
        "trained with `additive`",
    )
    sigma_data: Positive = choice(0.2, "standard deviation of the data, to which latents are scaled")
    unet: UNetSettings = section(UNetSettings, "the network, see gmsdi.models.edm.unet")
    text: Text = section(Text, "text encoder")


class TextModel(Model):
    """The text-conditioned model."""

    train: Flag = choice(False, "train a model with `training` and use it instead of `folder`")
    folder: str | None = choice(
        None,
        "model to use: its folder, the folder of a pipeline of diffusers (docs/pretrained.md), or a repository on the "
        "Hugging Face Hub with one of them, `owner/name` or `owner/name@revision`; null is the one that comes with the "
        "package",
    )
    prompts: dict[str, Annotated[str, Len(1)]] = choice(
        {},
        "stem label to the text that the model is prompted with, for one of free text, such as `electric bass guitar, "
        "solo`; of a label that is not named it is the label",
    )
    config: Architecture = section(Architecture, "architecture of a model to be trained")


class ClapAudio(Model):
    """The audio encoder of a small CLAP."""

    mels: Annotated[int, Bounded(whole=True, ge=8)] = choice(64, "mel bands")
    n_fft: Annotated[int, Bounded(whole=True, ge=16)] = choice(512, "samples of a Fourier transform")
    patch: Count = choice(8, "side of a square of the spectrogram that becomes one token")
    channels: Count = choice(48, "width of the first stage, each further one has twice as many")
    depths: Layers = choice([2, 2], "layers of each stage")
    heads: Layers = choice([3, 6], "attention heads of each stage")


class ClapText(Model):
    """The text encoder of a small CLAP."""

    features: Count = choice(64, "width")
    heads: Count = choice(4, "attention heads")
    layers: Count = choice(2, "layers")
    max_length: Count = choice(77, "bytes of a text")


class ClapArchitecture(Model):
    """The architecture of a small CLAP."""

    audio: ClapAudio = section(ClapAudio, "HTS-AT on a log-mel spectrogram")
    text: ClapText = section(ClapText, "RoBERTa over bytes")


class Clap(Model):
    """The CLAP of a model with `text.kind: clap`."""

    hop: Annotated[float, Bounded(gt=0, le=1)] = choice(
        0.5,
        "from one training window that it embeds to the next, in windows; a training takes its crops from these",
    )
    train: Flag = choice(
        False, "train a small one on the training mixtures and their labels, and use it instead of `text.checkpoint`"
    )
    config: ClapArchitecture = section(
        ClapArchitecture, "architecture of the small one; its embeddings have `text.features` dimensions"
    )
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")


class CodecTrainings(Model):
    """The codecs of a model with `kind: latent`."""

    variants: Annotated[dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], CodecChanges], Len(1)] = section(
        lambda: {name: CodecChanges.model_validate(changes) for name, changes in CODECS.items()},
        "codecs that are trained and compared: name to what differs from `config`; by default plain, additive (with "
        "`additive: 1`) and linear (with `blocks: 0`)",
    )
    use: str = choice("additive", "the one whose latents the model is trained on")
    config: CodecSettings = section(CodecSettings, "a small autoencoder, see gmsdi.models.autoencoder")
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")


class DemoTraining(Model):
    """A short real training."""

    enabled: Flag = choice(True, "whether it runs")
    tracks: Count = choice(24, "tracks of the training split that it composes")
    validation_tracks: Count = choice(4, "tracks of the validation split that it composes")
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")
