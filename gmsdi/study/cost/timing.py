"""Times an evaluation and a training step of each network on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmsdi.errors import UserError
from gmsdi.models.clap import CLAPS
from gmsdi.study.config.files import WEIGHTS, model_folder
from gmsdi.study.cost.networks import Clock, Cost, Seconds
from gmsdi.study.cost.pretrained import pretrained_name, time_pretrained
from gmsdi.study.counting import CALL
from gmsdi.study.names import Config
from gmsdi.study.setups import GMSDI
from gmsdi.study.study import DEMO, Study
from gmsdi.training.config import TrainingConfig

if TYPE_CHECKING:
    from gmsdi.models.trainable import TrainableModel


def measure(
    config: Config, *, device: str = "auto", repetitions: int = 5, progress: Callable[[str], None] | None = None
) -> tuple[dict[str, Cost], str]:
    """Time the networks of a configuration, called as in the workflow's jobs.

    A network is loaded if its folder exists, and otherwise built with random weights, which take the same time. Sampler
    steps are timed with `CALL` signals, with guidance if the model has it; training steps with the configured batch.
    The first step of each kind is a warm-up and is not counted.

    Args:
        config: with every default filled in.
        device: see `gmsdi.load`.
        repetitions: number of timed steps of each kind.
        progress: called with a description of what is measured next.

    Returns:
        The costs of every network, and a description of the device. On CUDA, memory is the peak of the device's
        allocator; elsewhere, the peak of this process so far.

    Raises:
        UserError: if a model cannot be built or loaded, or the device does not exist.
    """
    import torch

    from gmsdi.io.device import resolve_device, resolve_precision

    if repetitions < 1:
        raise UserError(f"repetitions is {repetitions}; it must be at least 1")
    device, threads = resolve_device(device), config["jobs"]["threads"]
    autocast = resolve_precision(config["jobs"]["precision"], device)
    study, costs = Study(config), {}
    trained = {study.models[model].kind: model for model in study.trained()}
    if config["demo_training"]["enabled"]:
        trained.setdefault(GMSDI, DEMO)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for network in study.networks:
            if pretrained := pretrained_name(study, network):
                if progress is not None:
                    progress(f"{network}: sampling, {CALL} signals at a time, and its autoencoder")
                costs[network] = time_pretrained(study, pretrained, device, repetitions)
                continue
            if progress is not None:
                progress(f"{network}: sampling, {CALL} signals at a time")
            evaluation, parameters, memory = _time_sampling(study, network, device, repetitions)
            step, training_memory = None, None
            if network in trained:
                model = trained[network]
                training = study.training(model)
                if progress is not None:
                    progress(f"{network}: training, {TrainingConfig(**training).batch} windows a step")
                built = GMSDI if model == DEMO else model
                step, training_memory, parameters = _time_training(study, built, training, device, repetitions)
            costs[network] = Cost(
                evaluation, step, parameters=parameters, memory=memory, training_memory=training_memory
            )
    finally:
        torch.set_num_threads(before)
    kind = torch.cuda.get_device_name() if device.startswith("cuda") else f"{device}, threads: {threads}"
    return costs, f"{kind}, {'float32' if autocast is None else str(autocast).removeprefix('torch.')}"


def _model(study: Study, network: str, device: str) -> TrainableModel:
    """A network ready to sample, from its folder or with random weights."""
    from gmsdi.io.device import resolve_precision
    from gmsdi.models.checkpoint import CONFIG, load_model

    config = study.config
    model = next(iter(study.networks[network].models))
    folder = None
    if network not in study.systems:
        folder = model_folder(network)
    elif network == GMSDI and not config["model"]["train"]:
        folder = model_folder(config["model"]["folder"])
    elif network != GMSDI and not config["baselines"]["train"]:
        folder = Path(config["baselines"]["folder"] or WEIGHTS / "baselines") / model
    if folder is not None and (model == GMSDI or (folder / CONFIG).is_file()):
        built = load_model(folder, device=device)
    else:
        built = _fresh(study, model).requires_grad_(False).eval().to(device)
    built.run_in(resolve_precision(config["jobs"]["precision"], device))
    return built


def _fresh(study: Study, model: str) -> TrainableModel:
    """A model with random weights. No CLAP is needed: its embeddings are replaced by zeros."""
    import torch
    from safetensors.torch import save_file

    from gmsdi.models.checkpoint import PROMPTS, build_model

    config = study.model_config(model)
    if config.get("text", {}).get("kind") not in CLAPS:
        return build_model(config)
    with tempfile.TemporaryDirectory() as folder:
        prompts, number = Path(folder) / PROMPTS, len(study.labels)
        known = {
            "tokens": torch.zeros(number, 1, config["text"]["features"]),
            "mask": torch.ones(number, 1, dtype=torch.bool),
        }
        save_file(known, prompts, metadata={"prompts": json.dumps(study.labels)})
        return build_model(config, prompts=prompts)


def _time_sampling(study: Study, network: str, device: str, repetitions: int) -> tuple[Seconds, int, int]:
    """Seconds of an evaluation, the network's parameters, and its peak memory in bytes."""
    system, model = study.networks[network], _model(study, network, device)
    clock, steps = Clock(device), repetitions + 1
    given: dict[str, Any] = {"signals": CALL, "window": study.config["data"]["window"], "device": device}
    evaluations = system.rehearse(model, steps=steps, **given, callback=lambda *_: clock.tick())
    if network not in study.systems:  # a further model, of which several windows may fill a chunk
        evaluations *= model.config["window"] / given["window"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return clock.seconds(evaluations / steps), parameters, clock.memory()


def _time_training(
    study: Study, model: str, training: Mapping[str, Any], device: str, repetitions: int
) -> tuple[Seconds, int, int]:
    """Seconds of a training step, its peak memory in bytes, and the network's parameters.

    Runs the steps of `gmsdi.training.module.Training` on windows of noise.
    """
    import torch

    from gmsdi.models.checkpoint import STEMS, target_of

    try:
        from gmsdi.training.module import Training
    except ImportError as error:
        raise UserError(f"timing a training needs {error.name}: pip install lightning tensorboard") from error
    config = TrainingConfig(**training)
    built = _fresh(study, model).to(device)
    n, channels = config.batch, len(study.labels) if target_of(built.config) == STEMS else 1
    clean = torch.randn(n, channels, study.config["data"]["window"], device=device)
    batch: dict[str, Any] = {
        "clean": 0.1 * clean,
        "noise": torch.randn_like(clean),
        "sigma": torch.full((n,), 0.1, device=device),
        "draws": torch.rand(n, 16, device=device),
    }
    if built.config.get("text", {}).get("kind") in CLAPS:
        batch["embeddings"] = torch.randn(n, built.config["text"]["features"], device=device)
        batch["dropped"] = torch.zeros(n, dtype=torch.bool, device=device)
    else:
        batch["texts"] = [study.labels[i % len(study.labels)] for i in range(n)]
    nothing: Any = None
    module = Training(built, config, nothing, nothing, 0).to(device)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # a trainer would do this
    module.setup("fit")
    optimizer = module.configure_optimizers()["optimizer"]
    clock = Clock(device)
    for step in range(repetitions + 1):
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        for average in module.running_averages():
            average.update(built, step + 1)
        clock.tick()
    return clock.seconds(1), clock.memory(), sum(parameter.numel() for parameter in built.parameters())
