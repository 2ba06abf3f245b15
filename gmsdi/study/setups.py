"""The paper's systems as a configuration has them: of which models each consists, and how it is opened.

Nothing heavy is imported before a system is opened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from gmsdi.errors import UserError
from gmsdi.study.config.files import slug

if TYPE_CHECKING:
    from gmsdi.systems.base import System

MIXTURE, STEMS = "mixture", "stems"


class Frozen(BaseModel):
    """Settings that refuse keys that they do not have, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Setup(Frozen, ABC):
    """A system.

    Attributes:
        kind: which; its name in the configuration and in files.
        labels: the K labels of the data.
    """

    kind: str
    labels: tuple[str, ...]

    @classmethod
    def configured(cls, labels: tuple[str, ...], settings: Mapping[str, Any]) -> Self:
        """The system with its settings in the configuration, below `baselines`."""
        own = {key: value for key, value in settings.items() if key in cls.model_fields}
        return cls(labels=labels, **own)

    @property
    @abstractmethod
    def models(self) -> dict[str, str]:
        """The system's models by name, and what each of them denoises: "mixture", "stems", or one label."""

    @abstractmethod
    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """Load the system.

        Args:
            folders: those of `models`, in their order.
            options: `device`, `precision`, `max_batch` and `fixed_batch`, see `gmsdi.pipeline.load`.

        Raises:
            UserError: if a folder holds no sound model of that kind, or one of other labels.
        """

    def network(self, model: str, own: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, Any]:
        """What `gmsdi.models.checkpoint.build_model` takes to make one of the models, apart from what all have.

        Args:
            model: its name.
            own: the system's settings `model` in the configuration.
            unet: those of the text-conditioned model's network, of which a baseline's has what it leaves out.
        """
        target = self.models[model]
        channels = len(self.labels) if target == STEMS else 1
        settings = {**unet, **own["unet"], "in_channels": channels}
        return {**own, "unet": settings, "text": {"kind": "none"}, "target": target}

    def _of_the_data(self, system: System) -> System:
        """The system, if its stems are those of the data."""
        if list(system.labels) != list(self.labels):
            raise UserError(
                f"the model of {self.kind} has {', '.join(system.labels)}, the data {', '.join(self.labels)}; train it "
                "on them"
            )
        return system


class GmsdiSetup(Setup):
    """The text-conditioned model. The limit of its denoised signal, if it has one, is in its guidance.

    Attributes:
        prompts: label to the text that the model is prompted with, where that is not the label.
        seconds: the window of a pretrained pipeline; other models have their own.
    """

    kind: Literal["gmsdi"] = "gmsdi"
    prompts: dict[str, str] = Field(default_factory=dict)
    seconds: float | None = None

    @property
    def models(self) -> dict[str, str]:
        """One, of mixtures."""
        return {self.kind: MIXTURE}

    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """See `Setup.open`; a model of free text knows any labels."""
        from gmsdi.systems.gmsdi import load_gmsdi

        return load_gmsdi(folders[0], self.labels, self.prompts, seconds=self.seconds, **options)


class MsdmSetup(Setup):
    """The joint model of MSDM.

    Attributes:
        clamp: limit of the denoised signal, if it has one.
    """

    kind: Literal["msdm"] = "msdm"
    clamp: float | None = None

    @property
    def models(self) -> dict[str, str]:
        """One, of all stems."""
        return {self.kind: STEMS}

    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """See `Setup.open`."""
        from gmsdi.systems.msdm import load_joint

        return self._of_the_data(load_joint(folders[0], clamp=self.clamp, **options))


class WeakMsdmSetup(Setup):
    """Weakly supervised MSDM.

    Attributes:
        clamp: limit of the denoised signal, if it has one.
    """

    kind: Literal["weak_msdm"] = "weak_msdm"
    clamp: float | None = None

    @property
    def models(self) -> dict[str, str]:
        """One for each label."""
        return {f"{self.kind}_{slug(label)}": label for label in self.labels}

    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """See `Setup.open`."""
        from gmsdi.systems.weak_msdm import load_weak

        return self._of_the_data(load_weak(dict(zip(self.labels, folders, strict=True)), clamp=self.clamp, **options))


class DemucsGibbsSetup(Setup):
    """Demucs + Gibbs."""

    kind: Literal["demucs_gibbs"] = "demucs_gibbs"

    @property
    def models(self) -> dict[str, str]:
        """One, of all stems."""
        return {self.kind: STEMS}

    def open(self, folders: Sequence[str | Path], **options: Any) -> System:
        """See `Setup.open`."""
        from gmsdi.systems.demucs_gibbs import load_gibbs

        return self._of_the_data(load_gibbs(folders[0], **options))

    def network(self, model: str, own: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, Any]:
        """See `Setup.network`; no diffusion model."""
        return {"kind": "gibbs", "target": self.models[model], **own}


SETUPS: dict[str, type[Setup]] = {"msdm": MsdmSetup, "weak_msdm": WeakMsdmSetup, "demucs_gibbs": DemucsGibbsSetup}
"""The paper's other systems, as the configuration calls them."""
