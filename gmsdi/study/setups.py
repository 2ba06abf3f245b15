"""The paper's systems in a configuration: which models each consists of, and how it is opened.

No heavy library is imported before a system is opened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gmsdi.errors import UserError
from gmsdi.study.names import slug

if TYPE_CHECKING:
    from gmsdi.sampling.solver import Callback
    from gmsdi.systems.base import System
    from gmsdi.systems.demucs_gibbs import GibbsSeparator
    from gmsdi.systems.gmsdi import Gmsdi
    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM

Opened = TypeVar("Opened", bound="System")
MIXTURE, STEMS = "mixture", "stems"


class Frozen(BaseModel):
    """Base of immutable settings that refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Setup(Frozen, ABC):
    """A system and how to open it.

    Attributes:
        DENOISES: what the model denoises, if there is one: "mixture" or "stems".
        kind: name of the system in the configuration and in file names.
        labels: the K labels of the data.
    """

    DENOISES: ClassVar[str] = STEMS

    kind: str
    labels: tuple[str, ...]

    @classmethod
    def configured(cls, labels: tuple[str, ...], settings: Mapping[str, Any]) -> Self:
        """Make the system from its section of `baselines` in the configuration."""
        own = {key: value for key, value in settings.items() if key in cls.model_fields}
        return cls(labels=labels, **own)

    @property
    def models(self) -> dict[str, str]:
        """The system's models by name, each with what it denoises: "mixture", "stems", or one label."""
        return {self.kind: self.DENOISES}

    @abstractmethod
    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """Load the system.

        Args:
            folders: folders of the models, in the order of `models`.
            options: `device`, `precision`, `max_batch` and `fixed_batch`, see `gmsdi.systems.gmsdi.load_gmsdi`.

        Raises:
            UserError: if a folder has no valid model of this kind, or its labels differ.
        """

    @abstractmethod
    def rehearse(self, model: Any, *, steps: int, signals: int, window: int, device: str, callback: Callback) -> int:
        """Run one of the system's networks, with guidance if it has any, so that it can be timed.

        Args:
            model: one of `models`, opened on the device, of the class that the system runs.
            steps: number of evaluations.
            signals: number of signals in each call.
            window: length of the signals in samples.
            device: of the model.
            callback: called after each evaluation.

        Returns:
            The number of signals that the network has denoised.
        """

    def network(self, model: str, own: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration for `gmsdi.models.checkpoint.build_model` to build a model, without shared keys.

        Args:
            model: name of the model.
            own: the section `model` of the system in the configuration.
            unet: settings of the text-conditioned model's network, which `own` overrides.
        """
        target = self.models[model]
        channels = len(self.labels) if target == STEMS else 1
        settings = {**unet, **own["unet"], "in_channels": channels}
        return {**own, "unet": settings, "text": {"kind": "none"}, "target": target}

    def _of_the_data(self, system: Opened) -> Opened:
        """Check that the system's labels are those of the data."""
        if list(system.labels) != list(self.labels):
            raise UserError(
                f"the model of {self.kind} has the labels {', '.join(system.labels)}, but the data "
                f"{', '.join(self.labels)}; train it on these data"
            )
        return system


class GmsdiSetup(Setup):
    """The text-conditioned model. Its guidance may limit the denoised signal.

    Attributes:
        prompts: maps a label to the text that the model is prompted with, where that is not the label itself.
        seconds: length of the window of a pretrained pipeline; other models have their own.
    """

    DENOISES: ClassVar[str] = MIXTURE

    kind: Literal["gmsdi"] = "gmsdi"
    prompts: dict[str, str] = Field(default_factory=dict)
    seconds: float | None = None

    def open(self, folders: Sequence[str | Path], **options: Any) -> Gmsdi:
        """See `Setup.open`; a model of free text accepts any labels."""
        from gmsdi.systems.gmsdi import load_gmsdi

        return load_gmsdi(folders[0], self.labels, self.prompts, seconds=self.seconds, **options)

    def rehearse(self, model: Any, *, steps: int, signals: int, window: int, device: str, callback: Callback) -> int:
        """See `Setup.rehearse`: single stems."""
        from gmsdi import tasks
        from gmsdi.sampling.session import Batch, Session
        from gmsdi.sampling.solver import Guidance, Solver

        run = Session(model, Solver(steps=steps), Guidance(w=1.0), Batch(signals, fixed=True))
        tasks.sample(run, [self.labels[0]] * signals, seeds=range(signals), progress=callback)
        return run.evaluations


class MsdmSetup(Setup):
    """The joint model of MSDM.

    Attributes:
        clamp: limit of the denoised signal, or None.
    """

    kind: Literal["msdm"] = "msdm"
    clamp: float | None = None

    def open(self, folders: Sequence[str | Path], **options: Any) -> JointMSDM:
        """See `Setup.open`."""
        from gmsdi.systems.msdm import load_joint

        return self._of_the_data(load_joint(folders[0], clamp=self.clamp, **options))

    def rehearse(self, model: Any, *, steps: int, signals: int, window: int, device: str, callback: Callback) -> int:
        """See `Setup.rehearse`: all stems."""
        from gmsdi.sampling.solver import Solver
        from gmsdi.systems.msdm import JointMSDM

        run = JointMSDM(model, model.config, device=device, max_batch=signals, fixed_batch=True)
        run.generate(solver=Solver(steps=steps), seeds=range(signals), callback=callback)
        return run.evaluations


class WeakMsdmSetup(Setup):
    """Weakly supervised MSDM.

    Attributes:
        clamp: limit of the denoised signal, or None.
    """

    kind: Literal["weak_msdm"] = "weak_msdm"
    clamp: float | None = None

    @property
    def models(self) -> dict[str, str]:
        """One model for each label."""
        return {f"{self.kind}_{slug(label)}": label for label in self.labels}

    def open(self, folders: Sequence[str | Path], **options: Any) -> WeakMSDM:
        """See `Setup.open`."""
        from gmsdi.systems.weak_msdm import load_weak

        return self._of_the_data(load_weak(dict(zip(self.labels, folders, strict=True)), clamp=self.clamp, **options))

    def rehearse(self, model: Any, *, steps: int, signals: int, window: int, device: str, callback: Callback) -> int:
        """See `Setup.rehearse`: stems of the first label."""
        from gmsdi.sampling.solver import Solver
        from gmsdi.systems.weak_msdm import WeakMSDM

        label = self.labels[0]
        run = WeakMSDM({label: model}, model.config, device=device, max_batch=signals, fixed_batch=True)
        run.sample([label] * signals, solver=Solver(steps=steps), seeds=range(signals), callback=callback)
        return run.evaluations


class DemucsGibbsSetup(Setup):
    """Demucs + Gibbs."""

    kind: Literal["demucs_gibbs"] = "demucs_gibbs"

    def open(self, folders: Sequence[str | Path], **options: Any) -> GibbsSeparator:
        """See `Setup.open`."""
        from gmsdi.systems.demucs_gibbs import load_gibbs

        return self._of_the_data(load_gibbs(folders[0], **options))

    def rehearse(self, model: Any, *, steps: int, signals: int, window: int, device: str, callback: Callback) -> int:
        """See `Setup.rehearse`; the network's first pass is no step of the chain."""
        import torch

        from gmsdi.systems.demucs_gibbs import GibbsSeparator

        run = GibbsSeparator(model, max_batch=signals, fixed_batch=True)
        mixtures = torch.randn(signals, 1, window, device=device)
        run.separate(mixtures, steps=steps - 1, seeds=range(signals), callback=callback)
        return run.evaluations

    def network(self, model: str, own: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, Any]:
        """See `Setup.network`; this is not a diffusion model."""
        return {"kind": "gibbs", "target": self.models[model], **own}


SETUPS: dict[str, type[Setup]] = {"msdm": MsdmSetup, "weak_msdm": WeakMsdmSetup, "demucs_gibbs": DemucsGibbsSetup}
"""The paper's other systems, by their names in the configuration."""
GMSDI: str = GmsdiSetup.model_fields["kind"].default
"""Name of the system of the text-conditioned model."""
