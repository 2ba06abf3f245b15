"""CUDA graphs: a network's kernels, recorded once and launched together, instead of one by one from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gmsdi.models.edm.conditioning import Conditioning

Run: TypeAlias = Callable[[], Tensor]
Recorded: TypeAlias = "tuple[Tensor, Callable[[], Any]]"
"""A result, and what computes it anew, into the same memory."""


@dataclass
class Graph:
    """A recorded forward pass, with the memory that it reads and writes.

    Attributes:
        x: the signals.
        time: their noise-level coordinates.
        cond: their texts; what layers computed from these is input, too.
        bank: the cache that the texts in `cond` were copied from.
        output: the result.
        replay: computes it anew.
    """

    x: Tensor
    time: Tensor
    cond: Conditioning | None
    bank: dict[Any, Any]
    output: Tensor
    replay: Callable[[], Any]


class Graphs:
    """The forward pass of a `UNet1d` without gradients, replayed from graphs; one for each shape of its arguments.

    The first call with a shape or with new texts runs as always and leaves the texts' keys and values in their cache.
    The second call with a shape records the graph.

    Args:
        forward: the forward pass.
        record: makes a graph of a run.
    """

    def __init__(self, forward: Callable[..., Tensor], record: Callable[[Run], Recorded] | None = None) -> None:
        self.forward = forward
        self.record = record or Recorder()
        self.graphs: dict[Any, Graph | None] = {}

    def __call__(self, x: Tensor, time: Tensor, cond: Conditioning | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return self.forward(x, time, cond)
        texts = None if cond is None else (cond.tokens.shape, cond.tokens.dtype, cond.index.shape)
        key = (x.shape, x.dtype, time.shape, texts)
        if key not in self.graphs or (cond is not None and not cond.cache):
            self.graphs.setdefault(key, None)
            return self.forward(x, time, cond)
        graph = self.graphs[key]
        if graph is None:
            graph = self.graphs[key] = self._recorded(x, time, cond)
        graph.x.copy_(x)
        graph.time.copy_(time)
        if graph.cond is not None and cond is not None:
            graph.cond.index.copy_(cond.index)
            if graph.bank is not cond.cache:
                _copy_texts(cond, graph.cond)
                graph.bank = cond.cache
        graph.replay()
        return graph.output.clone()

    def _recorded(self, x: Tensor, time: Tensor, cond: Conditioning | None) -> Graph:
        x, time = x.clone(), time.clone()
        own, bank = None, {}
        if cond is not None:
            cache = {key: _cloned(value) for key, value in cond.cache.items()}
            own, bank = Conditioning(cond.tokens.clone(), cond.mask.clone(), cond.index.clone(), cache), cond.cache
        output, replay = self.record(lambda: self.forward(x, time, own))
        return Graph(x, time, own, bank, output, replay)


class Recorder:
    """Records CUDA graphs that share the memory of their intermediate results, since only one runs at a time."""

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(self, run: Run) -> Recorded:
        """Record a run, which must not wait for the device."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            output = run()
        self.pool = graph.pool()
        return output, graph.replay


def _copy_texts(source: Conditioning, target: Conditioning) -> None:
    pairs = [(source.tokens, target.tokens), (source.mask, target.mask)]
    for key, value in target.cache.items():
        pairs += zip(_parts(source.cache[key]), _parts(value), strict=True)
    for given, taken in pairs:
        taken.copy_(given)


def _cloned(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return tuple(part.clone() for part in value) if isinstance(value, tuple) else value.clone()


def _parts(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
