"""What a pretrained model costs: its memory, from the number of its parameters, and its time, as measured here.

The network, the encoder and the decoder are timed one by one, with the window of the configuration. A network runs in
float32 or in bfloat16 (`jobs.precision`), where most of its weights take 2 bytes each instead of 4; those of the
autoencoder take 4. Text encoders stay on the CPU, run once for each prompt, and are not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gmsdi.errors import UserError
from gmsdi.models.described import describe, is_pipeline
from gmsdi.study.cost.networks import Clock, Cost
from gmsdi.study.counting import CALL
from gmsdi.study.pretrained import is_pretrained
from gmsdi.study.setups import GMSDI, GmsdiSetup
from gmsdi.study.study import Study

ON_DEVICE = ("transformer", "vae", "unet")
"""The parts of a pipeline whose weights are on the device."""


def weights_of(parameters: dict[str, int], precision: str = "float32") -> int:
    """Bytes that the weights of a pipeline take on the device; of the precision "auto", at most."""
    network = 2 if precision == "bf16" else 4
    return sum((4 if part == "vae" else network) * n for part, n in parameters.items() if part in ON_DEVICE)


def pretrained_name(study: Study, network: str) -> str | None:
    """The name to open a network by, if it is a pretrained model."""
    if network == GMSDI:
        return study.config["model"]["folder"] if study.pretrained else None
    return network if network not in study.systems and is_pretrained(network) else None


def time_pretrained(study: Study, folder: str, device: str, repetitions: int) -> Cost:
    """Time a pretrained model.

    Args:
        study: the study that runs it.
        folder: its folder or name.
        device: the device to run on.
        repetitions: number of timed steps of each kind.

    Raises:
        UserError: if it cannot be opened.
    """
    import torch

    from gmsdi.models import families, registry
    from gmsdi.sampling.solver import Guidance, Solver

    config = study.config
    options: dict[str, Any] = {"precision": config["jobs"]["precision"], "max_batch": CALL, "fixed_batch": True}
    system = cast(GmsdiSetup, study.systems[GMSDI]).open([folder], device=device, **options)
    noises = system.session.solver  # of levels that the model knows
    own, steps = Clock(device), repetitions + 1
    system.sample(
        [study.labels[0]] * CALL,
        seeds=list(range(CALL)),
        solver=Solver("euler", steps=steps, sigma_min=noises.sigma_min, sigma_max=noises.sigma_max),
        guidance=Guidance(w=1.0),
        callback=lambda *_: own.tick(),
    )
    evaluation, memory = own.seconds(system.evaluations / steps), own.memory()
    space = system.session.space
    audio = torch.randn(1, system.channels, system.window, device=system.session.device)
    timed: dict[str, Any] = {}
    with torch.no_grad():
        state = space.encode(audio)
        work = {"encoding": lambda: space.encode(audio)}
        work["decoding"] = lambda: space.decode(state)
        for name, run in work.items():
            coding = Clock(device)
            for _ in range(steps):
                run()
                coding.tick()
            timed[name] = coding.seconds(1)
    parameters = None  # unknown for a family
    if not families.is_of_family(folder):
        parameters = sum(describe(registry.folder_of(folder), folder).parameters.values())
    return Cost(evaluation, parameters=parameters, memory=memory, **timed)


def with_weights(costs: Mapping[str, Cost], study: Study) -> tuple[Mapping[str, Cost], list[str]]:
    """Costs that were given, with pretrained models' memory according to their files, and notes on how it is known."""
    precision = "bf16" if study.config["jobs"]["precision"] == "bf16" else "float32"
    counted, notes = dict(costs), []
    for network, cost in costs.items():
        folder = pretrained_name(study, network)
        if folder is None or cost.memory is not None:
            continue
        path = Path(folder).expanduser()
        try:
            parts = describe(path, folder).parameters if is_pipeline(path) else {}
        except UserError:
            parts = {}
        if parts:
            size = weights_of(parts, precision)
            counted[network] = replace(cost, parameters=sum(parts.values()), memory=size)
            told = ", ".join(f"{part} {count / 1e6:.4g} M" for part, count in sorted(parts.items()))
            known = f"its weights alone, in {precision}, by its files ({told})"
            notes.append(f"memory of {network}: {known}; activations come on top")
    return counted, notes
