"""Denoisers of tests as models, and all tasks of a model in one object, each with its own solver and guidance."""

from __future__ import annotations

from gmsdi import level, song, tasks
from gmsdi.models import registry
from gmsdi.models.adapters import Adapted
from gmsdi.sampling.session import Batch, Session
from gmsdi.sampling.solver import Solver
from gmsdi.tasks import Average


def model_of(denoiser, config):
    """A model of a denoiser with `embed`: its config has sample_rate, window and, if it likes, labels and level."""
    return Adapted(
        denoiser,
        denoiser.embed,
        sample_rate=config["sample_rate"],
        window=config["window"],
        labels=tuple(config.get("labels") or ()),
        level=level.known_level(config),
    )


def opened(where, *, max_batch=16, fixed_batch=False, **options):
    """The model of a folder."""
    return Pipe(registry.load(where, **options), Batch(max_batch, fixed_batch))


def pipe_of(denoiser, config, **batch):
    """A denoiser, see `model_of`."""
    return Pipe(model_of(denoiser, config), Batch(**batch))


def _windows(task):
    def run(self, *given, solver, guidance, **settings):
        return task(self.session.using(solver, guidance), *given, **_named(settings))

    return run


def _songs(task):
    def run(self, *given, **settings):
        return task(self.session, *given, **_named(settings))

    return run


def _named(settings):
    """The tasks' names of what tests set: `callback` is their progress, and `samples` and `inverted` an average."""
    if "callback" in settings:
        settings["progress"] = settings.pop("callback")
    if settings.keys() & {"samples", "inverted"}:
        settings["average"] = Average(settings.pop("samples", 1), settings.pop("inverted", False))
    return settings


class Pipe:
    """A model with the functions of `gmsdi.tasks`, as `*_windows`, and of `gmsdi.song`."""

    def __init__(self, model, batch):
        self.model, self.session = model, Session(model, Solver(), batch=batch)

    @property
    def evaluations(self):
        return self.session.evaluations

    separate_windows = _windows(tasks.separate)
    extract_windows = _windows(tasks.extract)
    sample_windows = _windows(tasks.sample)
    generate_windows = _windows(tasks.generate)
    generate_sequential_windows = _windows(tasks.generate_sequential)
    accompany_windows = _windows(tasks.accompany)
    accompany_conditioned_windows = _windows(tasks.accompany_conditioned)

    def generate_extracted_windows(self, *given, separation_solver, separation_guidance, **settings):
        separation = self.session.using(separation_solver, separation_guidance)
        return _windows(tasks.generate_extracted)(self, *given, separation=separation, **settings)

    separate = _songs(song.separate)
    extract = _songs(song.extract)
    generate = _songs(song.generate)
    accompany = _songs(song.accompany)
