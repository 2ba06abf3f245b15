"""Prints costs as plain tables."""

from __future__ import annotations

from collections.abc import Sequence

from gmsdi.study.cost.estimates import Costs
from gmsdi.study.cost.networks import Seconds


def text(costs: Costs) -> str:
    """Format costs as plain tables."""
    devices = "1 device" if costs.devices == 1 else f"{costs.devices} devices"
    lines = [f"Costs of run {costs.run} on {devices} ({costs.device})", ""]
    coded = any(cost.decoding for cost in costs.costs.values())
    head = ["network", "parameters", "ms per evaluation", "s per training step", "memory", "in training"]
    head += ["ms per encoding", "ms per decoding"] if coded else []
    rows = [
        [
            network,
            "" if cost.parameters is None else f"{cost.parameters / 1e6:.1f} M",
            _spread(cost.evaluation, 1e3),
            "" if cost.step is None else _spread(cost.step),
            "" if cost.memory is None else _bytes(cost.memory),
            "" if cost.training_memory is None else _bytes(cost.training_memory),
            *(("" if one is None else _spread(one, 1e3) for one in (cost.encoding, cost.decoding)) if coded else ()),
        ]
        for network, cost in costs.costs.items()
    ]
    lines += [*_table(head, rows), ""]
    head = ["", "jobs", "evaluations", "training steps", "hours", "longest job", "done after"]
    rows = []
    for part in costs.parts:
        hours = [part.hours, part.longest, part.finished] if part.hours else []
        counts = [f"{value}" if value else "" for value in (part.jobs, part.evaluations, part.steps)]
        sizes = [_bytes(value) if value else "" for value in (part.memory, part.network_memory, part.disk)]
        rows.append([part.name, *counts, *(map(_hours, hours) if hours else [""] * 3), *sizes])
    evaluations, steps = (sum(getattr(part, key) for part in costs.parts) for key in ("evaluations", "steps"))
    total = ["all", f"{costs.jobs}", f"{evaluations}", f"{steps}", _hours(costs.hours), "", _hours(costs.wall)]
    rows.append([*total, "", "", _bytes(costs.disk)])
    lines += [*_table([*head, "audio in memory", "network", "disk"], rows), ""]
    busy = costs.hours / (costs.devices * costs.wall) if costs.wall else 1.0
    lines.append(
        f"Hours are device hours; {devices} would be busy for {busy:.0%} of {_hours(costs.wall)} h. However many "
        f"devices there are, the run takes at least {_hours(costs.longest_chain)} h."
    )
    return "\n".join([*lines, *(f"- {note}" for note in costs.notes)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(line))
        for line in (list(zip(row, widths, strict=True)) for row in [head, *rows])
    ]


def _spread(value: Seconds, scale: float = 1.0) -> str:
    if value.low == value.high:
        return f"{scale * value.median:.3g}"
    return f"{scale * value.median:.3g} ({scale * value.low:.3g} to {scale * value.high:.3g})"


def _hours(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
