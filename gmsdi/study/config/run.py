"""The whole configuration, and its small sections `fad`, `intervals`, `gallery` and `jobs`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gmsdi.settings import Bounded, Count, Flag, Natural, Positive
from gmsdi.study.config.base import Model, TrainingSettings, about, choice, section
from gmsdi.study.config.data import Data, TrainingData
from gmsdi.study.config.generation import Generation
from gmsdi.study.config.model import Clap, CodecTrainings, DemoTraining, Digest, TextModel
from gmsdi.study.config.separation import Baselines, Costs, Grid, Separation
from gmsdi.study.config.tuning import Tuning

Embedding = Literal[
    "musicnn-MTT-penultimate200",
    "musicnn-MSD-penultimate200",
    "vggish-YouTube8M-linear128",
    "clap-LAION-music_audioset-projection512",
]


class Fad(Model):
    """Frechet audio distance."""

    embedding: Embedding = choice(
        "musicnn-MTT-penultimate200", "network, training set and layer; see gmsdi.metrics.embeddings"
    )
    engine: Literal["gmsdi", "frechet_audio_distance"] = choice(
        "gmsdi",
        "whose networks and formula: gmsdi's, or those of the package frechet-audio-distance, with VGGish and CLAP",
    )
    compare_engines: Flag = choice(False, "compute the distances by both engines, and a table of the differences")
    folder: str | None = choice(
        None,
        "frechet_audio_distance: folder of its weights, as `torch.hub` lays them out; null is PyTorch's (TORCH_HOME)",
    )
    checkpoint: str | None = choice(
        None, "VGGish, CLAP: file of the weights; null downloads the published ones, 289 MB and 2.4 GB"
    )
    sha256: Digest | None = choice(
        None, "VGGish, CLAP: digest that the weights must have; null is that of the published ones"
    )
    hop: Positive | None = choice(None, "seconds from one frame of a clip to the next; null is the embedding's default")
    reference_clips: Annotated[int, Bounded(whole=True, ge=2)] | None = choice(
        None, "test chunks of each reference, at random; null is all"
    )
    mixtures: Literal["all", "any"] = choice(
        "all", "reference mixtures of Figure 3: those in which all stems are active, or any"
    )


class Intervals(Model):
    """Confidence intervals."""

    confidence: Annotated[float, Bounded(gt=0, lt=1)] = choice(0.95, "their coverage")


class Gallery(Model):
    """Players of the report page."""

    examples: Natural = choice(2, "examples of each task")


class Jobs(Model):
    """How the work is cut."""

    separation: Count = choice(1, "jobs of each separation method")
    generation: Count = choice(1, "jobs of each generation task")
    batch: Count = choice(8, "chunks that are sampled together")
    threads: Count = choice(1, "CPU cores of a job that runs the model")
    device: Literal["auto", "cpu", "cuda", "mps"] = choice("auto", "auto takes a GPU if there is one")
    precision: Literal["auto", "float32", "bf16"] = choice(
        "auto", "of the network; auto takes bf16 where the hardware is faster at it"
    )


class Configuration(Model):
    """Every key of config/*.yaml with its default. An unknown key is an error."""

    base: str | None = choice(
        "demo",
        "what this file overlays: `demo` is config.yaml, another name the file of that name beside it, and all else a "
        "path; null is nothing, but the defaults of this page",
    )
    run: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = about(
        "name of the run; results go to results/<run>"
    )
    seed: Natural = choice(1, "every random number of the run derives from it")
    data: Data = about("the dataset, and how it is cut into chunks")
    training_data: TrainingData = section(
        TrainingData,
        "what the text-conditioned model learns from, if model.train; the paper's other systems need stems and learn "
        "from `data`",
    )
    model: TextModel = section(TextModel, "the text-conditioned model that the results are computed with")
    training: TrainingSettings = about("of the model that the results are computed with, if model.train is true")
    clap: Clap = section(Clap, "the CLAP of a model with `text.kind: clap`")
    codec: CodecTrainings = section(CodecTrainings, "the codecs of a model with `kind: latent`")
    demo_training: DemoTraining = section(
        DemoTraining, "a short real training that shows the path; its model is not used for any result"
    )
    separation: Separation = section(Separation, "Table 2")
    costs: Costs = section(Costs, "figure of the SI-SDR improvement against network evaluations")
    baselines: Baselines = section(
        Baselines,
        "the paper's other systems, which learn from separated stems; those run of which `separation.rows` has a row",
    )
    grid: Grid = section(Grid, "Table 1")
    generation: Generation = section(Generation, "Figures 2 and 3")
    tuning: Tuning = section(Tuning, "searches on the validation split, for `make tune`")
    fad: Fad = section(Fad, "Frechet audio distance")
    intervals: Intervals = section(
        Intervals, "confidence intervals over tracks of scores, of their differences and of distances"
    )
    gallery: Gallery = section(Gallery, "players of the report page")
    jobs: Jobs = section(Jobs, "how the work is cut; no result depends on it")
