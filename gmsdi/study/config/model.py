"""The sections `model`, `clap` and `demo_training`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field

from gmsdi.settings import Bounded, Count, Deviation, Flag
from gmsdi.study.config.base import CodecChanges, CodecSettings, Model, TrainingChanges, UNetSettings, choice, section

Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
CODECS: dict[str, dict[str, int]] = {"plain": {}, "additive": {"additive": 1}, "linear": {"blocks": 0}}
Layers = Annotated[list[Count], Len(1)]


class Text(Model):
    """The text encoder."""

    kind: Literal["tiny", "t5", "clap", "laion_clap", "none"] = choice(
        "tiny",
        "tiny: a small T5 over bytes, trained together with the network; t5: a pretrained, frozen T5; clap: a frozen "
        "CLAP, so that the network is trained on audio embeddings of the mixtures, without labels; laion_clap: the "
        "same through the package laion-clap, with LAION's weights; none: unconditional",
    )
    name: str = choice("t5-small", "t5: name on the Hugging Face Hub, or a local folder")
    checkpoint: str | None = choice(
        None,
        "clap: file with LAION's weights, or folder of a small CLAP; null downloads LAION's weights for music (2.4 "
        "GB) or, if `clap.train` is true, uses the CLAP trained here",
    )
    sha256: Digest | None = choice(
        None, "clap: digest that LAION's weights must have; null means that of the published file"
    )
    tokenizer: str = choice(
        "roberta-base", "clap: tokenizer of LAION's text encoder: name on the Hugging Face Hub, or a local folder"
    )
    features: Count = choice(64, "tiny: width; clap: size of the embeddings (LAION's have 512)")
    heads: Count = choice(4, "tiny: number of attention heads")
    layers: Count = choice(2, "tiny: number of layers")
    max_length: Count = choice(28, "largest number of tokens in a prompt")
    attend_padding: Flag = choice(False, "t5: let cross-attention see padding, as audio-diffusion-pytorch does")


class Architecture(Model):
    """The architecture of a model to be trained."""

    kind: Literal["diffusion", "latent"] = choice(
        "diffusion", "diffusion: a model of waveforms; latent: a model of the latents of the codec that `codec` trains"
    )
    additive: Flag | None = choice(
        None,
        "latent: treat the latents of a mixture as the sum of its stems' latents; otherwise signals are decoded, "
        "summed and encoded again in every step, which takes longer. null: true if the codec is linear or was trained "
        "with `additive`",
    )
    sigma_data: Deviation = choice(0.2, "standard deviation of the data; latents are scaled to it")
    unet: UNetSettings = section(UNetSettings, "the network (gmsdi.models.edm.unet)")
    text: Text = section(Text, "the text encoder")


class TextModel(Model):
    """The text-conditioned model."""

    train: Flag = choice(False, "train a model with the settings in `training`, and use it instead of `folder`")
    folder: str | None = choice(
        None,
        "model to use: its folder, the folder of a diffusers pipeline (docs/pretrained.md), or a repository on the "
        "Hugging Face Hub that holds one of them, `owner/name` or `owner/name@revision`, or a model of an installed "
        "family (docs/tutorials/model.md), `family:name`, or the name of one that comes with the package; null means "
        "`mini`",
    )
    prompts: dict[str, Annotated[str, Len(1)]] = choice(
        {},
        "for a model of free text: maps a stem label to the text that the model is prompted with, such as `electric "
        "bass guitar, solo`; a label that is not listed is its own prompt",
    )
    config: Architecture = section(Architecture, "architecture of the model to be trained")


class ClapAudio(Model):
    """The audio encoder of a small CLAP."""

    mels: Annotated[int, Bounded(whole=True, ge=8)] = choice(64, "mel bands")
    n_fft: Annotated[int, Bounded(whole=True, ge=16)] = choice(512, "length of a Fourier transform in samples")
    patch: Count = choice(8, "side of the spectrogram square that becomes one token")
    channels: Count = choice(48, "width of the first stage; it doubles with each further stage")
    depths: Layers = choice([2, 2], "number of layers in each stage")
    heads: Layers = choice([3, 6], "number of attention heads in each stage")


class ClapText(Model):
    """The text encoder of a small CLAP."""

    features: Count = choice(64, "width")
    heads: Count = choice(4, "number of attention heads")
    layers: Count = choice(2, "number of layers")
    max_length: Count = choice(77, "largest number of bytes in a text")


class ClapArchitecture(Model):
    """The architecture of a small CLAP."""

    audio: ClapAudio = section(ClapAudio, "audio encoder: HTS-AT on a log-mel spectrogram")
    text: ClapText = section(ClapText, "text encoder: RoBERTa over bytes")


class Clap(Model):
    """The CLAP of a model with `text.kind: clap`."""

    hop: Annotated[float, Bounded(gt=0, le=1)] = choice(
        0.5,
        "distance between the starts of the training windows that it embeds, as a share of a window; training draws "
        "its crops from these windows",
    )
    train: Flag = choice(
        False, "train a small CLAP on the training mixtures and their labels, and use it instead of `text.checkpoint`"
    )
    config: ClapArchitecture = section(
        ClapArchitecture, "architecture of the small CLAP; its embeddings have `text.features` dimensions"
    )
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")


class CodecTrainings(Model):
    """The codecs of a model with `kind: latent`."""

    variants: Annotated[dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], CodecChanges], Len(1)] = section(
        lambda: {name: CodecChanges.model_validate(changes) for name, changes in CODECS.items()},
        "codecs to train and compare: maps each name to the keys of `config` that it overrides; by default plain, "
        "additive (with `additive: 1`) and linear (with `blocks: 0`)",
    )
    use: str = choice("additive", "the codec whose latents the model is trained on")
    config: CodecSettings = section(CodecSettings, "a small autoencoder (gmsdi.models.autoencoder)")
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")


class DemoTraining(Model):
    """A short training, as a demonstration."""

    enabled: Flag = choice(True, "run it")
    tracks: Count = choice(24, "number of tracks composed for training")
    validation_tracks: Count = choice(4, "number of tracks composed for validation")
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")
