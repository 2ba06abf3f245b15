"""Regenerate the tables of docs/scaling.md: what the paper's experiments cost.

`python -m benchmarks.scaling`, in the repository's root, takes a minute. It counts the work of `config/slakh2100.yaml`
and the operations of its networks, and converts them to GPU hours at an assumed throughput, `--teraflops`. With
`--measure` it also times a network on this machine's CPU, which takes minutes and 4 GB. Each table replaces the text
between `<!-- name -->` and `<!-- end -->` in the page.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gmsdi.io.files import atomic
from gmsdi.study import cost as costing
from gmsdi.study.cost import Cost, Costs, Seconds
from gmsdi.study.names import Config
from gmsdi.study.study import Study

ROOT = Path(__file__).parents[1]
PAGE, CONFIG = ROOT / "docs" / "scaling.md", ROOT / "config" / "slakh2100.yaml"
TERAFLOPS = 200.0
"""Assumed throughput of a GPU, in 10¹² operations per second."""
TEXT = (64, 512)
"""Tokens of a prompt and their features, for t5-small. Its own work, once per prompt, is not counted."""
GPUS = (1, 2, 4, 8, 16, 32, 64)
TRAINED_ON = 8
"""Most GPUs that share the batches of a training."""
SHARDS = 2
"""Shards of a method or task per GPU."""
STATE = 4 + 4 + 4 + 8
"""Bytes per parameter in training: the weight, its gradient, its average and AdamW's two moments."""


@dataclass(frozen=True)
class Network:
    """The cost of one signal in a network.

    Attributes:
        parameters: number of parameters.
        forward: floating-point operations of an evaluation; a multiplication and an addition count as two.
        training: floating-point operations of a forward and a backward pass.
        activations: bytes kept from the forward pass for the backward pass, in float32.
    """

    parameters: int
    forward: int
    training: int
    activations: int


@cache
def resolved() -> Config:
    """The paper's configuration on Slakh2100."""
    return costing.resolved([CONFIG])


def build(system: str, device: str) -> tuple[Any, tuple[Any, ...]]:
    """Build a network and its arguments for one signal."""
    import torch

    from gmsdi.models.edm.conditioning import Conditioning
    from gmsdi.models.edm.unet import UNet1d, UNetConfig

    study = Study(resolved())
    model = next(iter(study.systems[system].models))
    settings = study.model_config(model)["unet"]
    text = TEXT if system == "gmsdi" else None
    with torch.device("meta"):
        net = UNet1d(UNetConfig(**settings, text_features=text[1] if text else None))
    if device != "meta":
        net.to_empty(device=device)
        for parameter in net.parameters():  # their values do not change the work, and drawing them takes long
            parameter.data.fill_(0.01)
    with torch.device(device):
        tokens = (torch.zeros(1, *TEXT), torch.ones(1, TEXT[0], dtype=torch.bool), torch.zeros(1, dtype=torch.long))
        signal = torch.zeros(1, settings.get("in_channels", 1), resolved()["data"]["window"])
        return net, (signal, torch.zeros(1), Conditioning(*tokens) if text else None)


@cache
def network(system: str) -> Network:
    """Count the cost of a signal on tensors that have shapes but no values."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    from torch.utils.flop_counter import FlopCounterMode

    net, arguments = build(system, "meta")
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        net(*arguments)
    weights = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    kept = {}  # by storage, since views share it; kept alive until all are counted

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as both, saved_tensors_hooks(keep, lambda tensor: tensor):
        net(*arguments).mean().backward()
    return Network(
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        forward=forward.get_total_flops(),
        training=both.get_total_flops(),
        activations=sum(storage.nbytes() for storage in kept.values()),
    )


def estimate(teraflops: float, devices: int = 1, **changes: Any) -> Costs:
    """Estimate the costs on GPUs with a given throughput.

    Args:
        teraflops: 10¹² operations per second.
        devices: number of GPUs.
        changes: changes of the configuration, as an overlay.
    """
    overlays = [CONFIG, changes]
    study, costs = Study(costing.resolved(overlays)), {}
    for system in study.systems:
        trained = [model for model in study.trained() if study.models[model].kind == system]
        batch = max(study.training(model).get("batch", 1) for model in trained)
        once, step = (count / (teraflops * 1e12) for count in (network(system).forward, network(system).training))
        costs[system] = Cost(Seconds.of([once]), Seconds.of([step * batch]), parameters=network(system).parameters)
    return costing.estimate(
        overlays, costs, devices=devices, results=ROOT / "none", planned=planned(json.dumps(changes, sort_keys=True))
    )


@cache
def planned(changes: str) -> list[costing.Job]:
    """The jobs of the configuration with an overlay, given as JSON."""
    return costing.jobs([CONFIG, json.loads(changes)])


# --- Tables -----------------------------------------------------------------------------------------------------------


def work() -> list[str]:
    """The counted work of each table and figure; needs no torch."""
    given = costing.given_costs(list(Study(resolved()).systems), ["1"])
    found = costing.estimate([CONFIG], given, results=ROOT / "none", planned=planned("{}"))
    rows = []
    for part in found.parts:
        counts = [f"{value:,}" if value else "" for value in (part.jobs, part.evaluations, part.steps)]
        rows.append([part.name, *counts, *(size(value) for value in (part.memory, part.disk))])
    totals = (found.jobs, *(sum(getattr(part, key) for part in found.parts) for key in ("evaluations", "steps")))
    rows.append(["all", *(f"{value:,}" for value in totals), "", size(found.disk)])
    return table(["", "jobs", "evaluations", "training steps", "audio in memory", "disk"], rows)


def networks() -> list[str]:
    """The cost of one signal in each network."""
    study, rows = Study(resolved()), []
    for system in study.systems:
        found = network(system)
        trained = [model for model in study.trained() if study.models[model].kind == system]
        batch = max(study.training(model).get("batch", 1) for model in trained)
        memory = STATE * found.parameters + batch * found.activations
        rows.append(
            [
                system,
                f"{found.parameters / 1e6:.1f} M",
                f"{found.forward / 1e12:.3f}",
                f"{found.training / 1e12:.3f}",
                f"{batch}",
                f"{batch * found.training / 1e12:.2f}",
                size(4 * found.parameters),
                size(memory),
            ]
        )
    head = ["network", "parameters", "evaluation, TFLOP", "training, TFLOP per window", "batch", "step, TFLOP"]
    return table([*head, "weights", "training in float32"], rows)


def hours(teraflops: float = TERAFLOPS) -> list[str]:
    """GPU hours of each table and figure."""
    found = estimate(teraflops)
    rows = [
        [part.name, number(part.hours * 3600 * teraflops / 1e6), number(part.hours), number(part.longest)]
        for part in found.parts
        if part.hours
    ]
    rows.append(["all", number(found.hours * 3600 * teraflops / 1e6), number(found.hours), ""])
    return table(["", "EFLOP", f"GPU hours at {teraflops:g} TFLOP/s", "longest job, hours"], rows)


def devices(teraflops: float = TERAFLOPS) -> list[str]:
    """Days on several GPUs: as configured, with trainings on several GPUs, and also with more shards."""
    rows = []
    for count in GPUS:
        training = {"training": {"devices": min(count, TRAINED_ON)}} if count > 1 else {}
        configured, wanted = resolved()["jobs"], SHARDS * count
        shards = {key: wanted for key in ("separation", "generation") if wanted > configured[key]}
        more = {**training, "jobs": shards} if shards else training
        found = [estimate(teraflops, count, **changes) for changes in ({}, training, more)]
        busy = found[-1].hours / (count * found[-1].wall)
        rows.append([f"{count}", *(number(one.wall / 24) for one in found), f"{found[-1].jobs}", f"{busy:.0%}"])
    shared = f"with `training.devices` up to {TRAINED_ON}"
    head = ["GPUs", "days as configured", shared, f"also with {SHARDS} shards per GPU", "jobs then", "busy then"]
    return table(head, rows)


def measured(teraflops: float = TERAFLOPS, repetitions: int = 3) -> list[str]:
    """Time an evaluation of the text-conditioned network on one core of this machine, in processor time."""
    import torch

    from gmsdi.io.device import resolve_precision

    autocast = resolve_precision("auto", "cpu")
    torch.set_num_threads(1)
    net, arguments = build("gmsdi", "cpu")
    seconds = []
    for _ in range(repetitions + 1):
        before = time.process_time()
        with torch.no_grad(), torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            net(*arguments)
        seconds.append(time.process_time() - before)
    median = statistics.median(seconds[1:])  # the first is a warm-up
    reached = network("gmsdi").forward / median / 1e12
    years = estimate(reached).hours / 24 / 365
    kind = torch.cpu.get_capabilities().get("cpu_name") or torch.backends.cpu.get_cpu_capability()
    precision = "float32" if autocast is None else str(autocast).removeprefix("torch.")
    head = [
        "one core of",
        "type",
        "s per evaluation",
        "TFLOP/s",
        "years for everything",
        "cores per GPU",
    ]
    row = [kind, precision, number(median), number(reached), number(years), number(teraflops / reached)]
    return table(head, [row])


def size(value: float) -> str:
    """Format bytes with a unit; "" for zero."""
    if not value:
        return ""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(value) / 3), len(units) - 1)
    return f"{value / 1000**power:.3g} {units[power]}"


def number(value: float) -> str:
    """Format a number with three digits and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, with right-aligned numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def fill(name: str, lines: Sequence[str], page: Path = PAGE) -> None:
    """Replace a table in a page."""
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, found = place.subn(
        lambda match: match[1] + "".join(f"{line}\n" for line in lines) + match[2], page.read_text(encoding="utf-8")
    )
    if found != 1:
        sys.exit(f"{page}: no <!-- {name} --> to fill")
    with atomic(page) as path:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Update the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teraflops", type=float, default=TERAFLOPS, help="throughput of a GPU (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="also time a network on this machine's CPU")
    given = parser.parse_args()
    fill("work", work())
    fill("networks", networks())
    fill("hours", hours(given.teraflops))
    fill("devices", devices(given.teraflops))
    if given.measure:
        fill("measured", measured(given.teraflops))


if __name__ == "__main__":
    main()
