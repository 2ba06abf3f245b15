"""Fréchet audio distances by the package frechet-audio-distance: its loader, its networks and its formula.

It is an alternative to our own (`gmsdi.metrics.frechet`, `vggish`, `clap`), which share no code with it. They differ in
three ways: it resamples with resampy, ours with soxr; its CLAP embeds a random part of a clip longer than ten seconds,
ours every window; and its CLAP does not round samples to 16 bits. Intervals and FAD∞ are always ours, as it has none.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.features import clips_at
from gmsdi.io.foreign import left_out
from gmsdi.io.weights import Weights, pinned
from gmsdi.metrics import vggish
from gmsdi.models.clap import laion, network

LABEL = "frechet-audio-distance"
HUB = "harritaylor/torchvggish"
"""The repository whose code the package downloads and runs through `torch.hub` for VGGish."""


@dataclass(frozen=True)
class _Network:
    """One of our embeddings in the package: its options, and the files that its folder must contain.

    Attributes:
        options: options of `FrechetAudioDistance`.
        weights: the published weights.
        place: path of their file in the folder.
        others: other files that it reads.
    """

    options: dict[str, Any]
    weights: Weights
    place: str
    others: tuple[str, ...] = ()

    @property
    def clap(self) -> bool:
        """Whether it is the network of laion-clap."""
        return bool(self.options["model_name"] == "clap")


NETWORKS = {
    "vggish-YouTube8M-linear128": _Network(
        {"model_name": "vggish", "sample_rate": 16000},
        vggish.WEIGHTS,
        f"checkpoints/{vggish.WEIGHTS.filename}",
        ("checkpoints/vggish_pca_params-970ea276.pth",),
    ),
    "clap-LAION-music_audioset-projection512": _Network(
        {"model_name": "clap", "submodel_name": "music_audioset", "sample_rate": 48000},
        network.WEIGHTS,
        network.WEIGHTS.filename,
    ),
}
"""The embeddings that both engines have, by the names that they have here."""


class LibraryEmbedding:
    """An embedding by frechet-audio-distance, with the interface of `gmsdi.metrics.embeddings.Embedding`.

    Every clip is written to a WAV file of 32-bit floats, read by the package's loader and embedded on its own.

    Args:
        name: a key of `NETWORKS`.
        folder: the folder of its weights (the package's `ckpt_dir`); None: the folder of `torch.hub`.
        sha256: digest that the weights must have, if they are not the published ones.

    Raises:
        UserError: if the package is not installed, it lacks the embedding, or the weights are missing.
    """

    def __init__(self, name: str, *, folder: str | Path | None = None, sha256: str | None = None) -> None:
        if name not in NETWORKS:
            raise UserError(f"{LABEL} has no embedding '{name}'; choose one of {', '.join(NETWORKS)}")
        import torch

        self.name, own = name, NETWORKS[name]
        root = Path(torch.hub.get_dir() if folder is None else folder).expanduser()
        _imported(clap=own.clap)
        self._library = _loaded(own, root, _weights(own, root, sha256))
        self.sample_rate: int = self._library.sample_rate

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """Number of clips that share calls of the network: one."""
        return 1

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips; see `Embedding.frames`. Returns float32 `[n · frames per clip, D]`."""
        import soundfile
        from frechet_audio_distance.utils import load_audio_task

        found = []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.wav"
            for clip in clips_at(sample_rate, audio, sample_rate):
                soundfile.write(file, clip, sample_rate, subtype="FLOAT")
                read = load_audio_task(str(file), self.sample_rate, 1, "float32")
                found.append(self._embedded(read, clip.shape[-1] / sample_rate))
        return np.concatenate(found)

    def _embedded(self, clip: np.ndarray, seconds: float) -> np.ndarray:
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002  # from which laion-clap draws the part of a long clip
        try:
            # The package prints errors and leaves the clip out; without any clip it then fails to concatenate.
            frames = np.asarray(self._library.get_embeddings([clip], self.sample_rate), np.float32)
        except ValueError:
            frames = np.empty((0, 0), np.float32)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        if not frames.size:
            raise UserError(f"{LABEL}: it makes no frame of a clip of {seconds:.2f} s; see its own message above")
        return frames.reshape(-1, frames.shape[-1])


def library_distance(reference_frames: Any, frames: Any) -> float:
    """The package's distance between two sets of frames `[N, D]`, by SciPy's matrix square root."""
    library = _imported().FrechetAudioDistance
    # The methods used here need no network, which creating an instance would load.
    moments = [
        moment
        for one in (reference_frames, frames)
        for moment in library.calculate_embd_statistics(None, np.asarray(one, np.float64))
    ]
    return float(library.calculate_frechet_distance(None, *moments))


def _imported(*, clap: bool = False) -> Any:
    """The package, without what only its other networks need."""
    laion_clap = laion.imported() if clap else None  # first, since the package would import laion-clap as a whole
    try:
        with left_out(("encodec", *(() if clap else ("laion_clap", "torchlibrosa")))):
            from frechet_audio_distance import fad
    except ImportError as error:
        raise UserError(
            f"{LABEL} cannot be imported ({error}); run the workflow with --use-conda, or install what "
            "envs/fad.post-deploy.sh does; or set fad.engine to gmsdi"
        ) from error
    if clap:
        fad.laion_clap = laion_clap  # an earlier import may have been without it
    return fad


def _loaded(own: _Network, root: Path, file: Path) -> Any:
    """An instance of the package's class, with its network loaded from verified weights."""
    import torch

    before = torch.hub.get_dir()
    try:
        with ExitStack() as stack:
            if own.clap:
                stack.enter_context(laion.weightless(file, None))
            return _imported(clap=own.clap).FrechetAudioDistance(ckpt_dir=str(root), **own.options)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{LABEL}: its network cannot be loaded from {root} ({reason}); fetch its files again"
        ) from error
    finally:
        torch.hub.set_dir(before)


def _weights(own: _Network, root: Path, sha256: str | None) -> Path:
    """The file of the weights, after checking that everything is there that the package would otherwise download.

    For VGGish it also downloads a repository's code, and first asks whether that is trusted, which a job cannot answer.
    """
    name = HUB.replace("/", "_")
    repositories = [root / f"{name}_{branch}" for branch in ("main", "master")]
    if not own.clap and not any(folder.is_dir() for folder in repositories):
        raise UserError(
            f"{LABEL}: no {name}_master in {root}. For VGGish it runs the code of github.com/{HUB}; if you trust that, "
            f"""python -c "import torch; torch.hub.set_dir('{root}'); torch.hub.load('{HUB}', 'vggish', """
            """trust_repo=True)" fetches it with its weights; or set fad.folder to the folder that has them"""
        )
    for place in (own.place, *own.others):
        if not (root / place).is_file():
            raise UserError(f"{LABEL}: no {place} in {root}; put it there, or set fad.folder to the folder that has it")
    return pinned(own.weights, sha256).file(root / own.place)
