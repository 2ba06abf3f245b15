"""Commands about models: models, import-msdm and push."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmsdi.cli.output import tell
from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.models.protocol import Traits


def models(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Model folders, names of models, or pretrained pipelines.",
            show_default="those that come with the package",
        ),
    ] = None,
) -> None:
    """List models with their stems and presets."""
    from gmsdi.models import families, registry
    from gmsdi.models.folders import described

    for where in model or registry.bundled():
        config = registry.config_of(where)
        if config is None:
            _describe_pipeline(where)
            continue
        described(where, partial(_describe, where, config))
    if not model:
        for family in families.names():
            tell(f"{family}:... (a family of models; each says itself what follows the colon)")


def _describe(where: str, config: Mapping[str, Any]) -> None:
    """Print what the configuration of a model folder says."""
    from gmsdi.models.protocol import Traits

    rate, channels = config["sample_rate"], config.get("unet", {}).get("in_channels", 1)
    tell(f"{where}: {rate} Hz, channels {channels}, windows of {config['window'] / rate:.3g} s")
    tell(f"  stems: {', '.join(config.get('labels') or ['any text'])}")
    _list_presets(Traits(sigma_data=config.get("sigma_data", Traits.sigma_data), presets=config.get("presets")))


def _list_presets(traits: Traits) -> None:
    """Print the presets of a model, a line each."""
    from gmsdi.presets import METHODS, presets_by

    for preset in presets_by(traits).values():
        solver = f"{preset.solver.steps} steps of {preset.solver.name}, w = {preset.guidance.w:g}"
        runs = f", mean of {preset.runs}" if preset.runs > 1 else ""
        tell(f"  preset {preset.name}: {METHODS[preset.method]}, {solver}{runs}")


def _describe_pipeline(where: str) -> None:
    """Print what a diffusers pipeline says of itself without being loaded; of one on the hub, small files are fetched.

    Raises:
        UserError: if it is none.
    """
    from gmsdi.models.described import SIGMA_DATA, describe, is_pipeline
    from gmsdi.models.protocol import Traits
    from gmsdi.study.cost.pretrained import weights_of
    from gmsdi.study.pretrained import find

    found = find("--model", where)
    if found is None or found.folder is None or not is_pipeline(found.folder):
        raise UserError(
            f"{where}: neither a model folder nor a pipeline; other models cannot be described without loading them"
        )
    told = describe(found.folder, where)
    most = "any length" if told.longest is None else f"up to {told.longest / told.sample_rate:.4g} s"
    tell(f"{where}: {told.kind}, {told.sample_rate} Hz, channels {told.channels}")
    state = "waveforms" if told.latent is None else f"{told.latent} latents for every {told.hop} samples"
    usual = told.usual / told.sample_rate
    tell(f"  windows: {usual:.4g} s by default, {most}, in multiples of {told.hop} samples; {state}")
    tell(f"  stems: {'any text' if told.prompted else 'one kind of sound, without text'}")
    if told.parameters:
        parts = ", ".join(f"{part} {count / 1e6:.4g} M" for part, count in told.parameters.items())
        size = weights_of(told.parameters)
        tell(f"  parameters: {parts}; weights on the device: {size / 1e6:.4g} MB in float32")
    else:
        tell("  parameters: unknown, since its weights have not been downloaded")
    _list_presets(Traits(sigma_data=SIGMA_DATA.get(told.kind, 1.0)))


def import_msdm(
    ckpt: Annotated[Path, typer.Argument(help="Checkpoint or state dict.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Model folder to write.", show_default=False)],
    stems: Annotated[
        list[str] | None, typer.Option("--stems", help="Labels of the model's stems.", show_default="MSDM's four")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="T5 of a text-conditioned model.", show_default="found by its width")
    ] = None,
    sample_rate: Annotated[int, typer.Option(min=1, help="Sample rate of the training data, in Hz.")] = 22050,
    window: Annotated[int, typer.Option(min=1, help="Length of the training windows, in samples.")] = 2**18,
) -> None:
    """Convert a checkpoint of MSDM, or of audio-diffusion-pytorch 0.0.43, to a model folder."""
    from gmsdi.models.adapters import adp

    labels = None if stems is None else [part.strip() for name in stems for part in name.split(",") if part.strip()]
    adp.import_msdm(ckpt, out, labels=labels, text_encoder=text_encoder, sample_rate=sample_rate, window=window)
    tell(str(out))


def push(
    folder: Annotated[str, typer.Argument(help="Model folder, or the name of a bundled model.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub.", show_default=False)],
    licence: Annotated[str, typer.Option(help="Licence of the weights: mit, cc-by-nc-4.0, ...", show_default=False)],
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of a run that evaluated the model, for the model card.", show_default="none"),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub, with a model card; others can then use --model owner/name."""
    from gmsdi.models import hub, registry

    tell(hub.push(registry.folder_of(folder), repository, licence=licence, results=results, private=private))
