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
    """Fréchet audio distance."""

    embedding: Embedding = choice(
        "musicnn-MTT-penultimate200", "network, training set and layer (gmsdi.metrics.embeddings)"
    )
    engine: Literal["gmsdi", "frechet_audio_distance"] = choice(
        "gmsdi",
        "whose networks and formula: gmsdi's, or those of the package frechet-audio-distance, for VGGish and CLAP",
    )
    compare_engines: Flag = choice(False, "compute the distances with both engines and make a table of the differences")
    folder: str | None = choice(
        None,
        "frechet_audio_distance: folder of its weights, as `torch.hub` lays them out; null is PyTorch's (TORCH_HOME)",
    )
    checkpoint: str | None = choice(
        None, "VGGish and CLAP: file with the weights; null downloads the published ones (289 MB and 2.4 GB)"
    )
    sha256: Digest | None = choice(
        None, "VGGish and CLAP: digest that the weights must have; null means that of the published file"
    )
    hop: Positive | None = choice(None, "seconds between the frames of a clip; null means the embedding's default")
    reference_clips: Annotated[int, Bounded(whole=True, ge=2)] | None = choice(
        None, "number of test chunks in each reference, drawn at random; null means all"
    )
    mixtures: Literal["all", "any"] = choice(
        "all",
        "reference mixtures of Figure 3: those in which all stems are active, or any mixtures; any: where few tracks "
        "have all stems at once, the reference is of the others, and the few provide the given stems",
    )


class Intervals(Model):
    """Confidence intervals."""

    confidence: Annotated[float, Bounded(gt=0, lt=1)] = choice(0.95, "coverage of the intervals")


class Gallery(Model):
    """Players on the report page."""

    examples: Natural = choice(2, "number of examples of each task")


class Jobs(Model):
    """How work is divided into jobs, and what computes them."""

    separation: Count = choice(1, "number of shards, and so of jobs, per row of Table 2")
    generation: Count = choice(1, "number of shards, and so of jobs, per task of Figures 2 and 3")
    batch: Count = choice(8, "number of chunks or clips sampled together; runs that are averaged count one by one")
    threads: Count = choice(1, "CPU cores for a job that runs a model")
    device: Literal["auto", "cpu", "cuda", "mps"] = choice("auto", "where models run; auto uses a GPU if there is one")
    precision: Literal["auto", "float32", "bf16"] = choice(
        "auto", "precision of the network; auto uses bf16 where the hardware is faster with it"
    )


class Configuration(Model):
    """Every key of config/*.yaml with its default. An unknown key is an error."""

    base: str | None = choice(
        "demo",
        "the configuration that this file overrides: `demo` is config.yaml, another name is the file of that name "
        "beside it, anything else is a path; null means the defaults on this page",
    )
    run: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] = about(
        "name of the run; its results go to results/<run>"
    )
    seed: Natural = choice(1, "all random numbers of the run derive from it")
    data: Data = about("the data set, and how it is cut into windows")
    training_data: TrainingData = section(
        TrainingData,
        "what the text-conditioned model is trained on, if model.train is true; the paper's other systems need stems "
        "and are trained on `data`",
    )
    model: TextModel = section(TextModel, "the text-conditioned model that produces the results")
    training: TrainingSettings = about(
        "training of the text-conditioned model, if model.train is true; other trainings override keys of it"
    )
    clap: Clap = section(Clap, "the CLAP of a model with `text.kind: clap`")
    codec: CodecTrainings = section(CodecTrainings, "the codecs of a model with `kind: latent`")
    demo_training: DemoTraining = section(
        DemoTraining, "a short training that shows the procedure; no result uses its model"
    )
    separation: Separation = section(Separation, "Table 2")
    costs: Costs = section(Costs, "Figure 4: SI-SDR improvement against network evaluations")
    baselines: Baselines = section(
        Baselines,
        "the paper's other systems, which are trained on separated stems; a system runs if `separation.rows` has a "
        "row for it",
    )
    grid: Grid = section(Grid, "Table 1")
    generation: Generation = section(Generation, "Figures 2 and 3")
    tuning: Tuning = section(Tuning, "searches on the validation split, run by `make tune`")
    fad: Fad = section(Fad, "Fréchet audio distance")
    intervals: Intervals = section(
        Intervals, "confidence intervals over tracks, for scores, their differences and distances"
    )
    gallery: Gallery = section(Gallery, "players on the report page")
    jobs: Jobs = section(
        Jobs,
        "how work is divided into jobs, and what computes them; only `precision` changes results by more than rounding",
    )
