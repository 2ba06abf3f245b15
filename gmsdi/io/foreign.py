"""Third-party packages that import more than is needed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from gmsdi.errors import UserError


class _Missing(type):
    """Placeholder classes for those of an absent package: they can be referred to and inherited from, but not used."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _missing(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args: Any, **options: Any) -> NoReturn:
        raise UserError(f"{cls.__qualname__} is needed, but its package was left out on import")


def _missing(name: str) -> type:
    return _Missing(name, (), {})


class _LeftOut(ModuleType):
    """A module in which every name refers to a `_missing` class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _missing(f"{self.__name__}.{name}")


class _Finder(MetaPathFinder, Loader):
    """Finds the packages that are left out, and all of their submodules."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def covers(self, name: str) -> bool:
        return any(name == own or name.startswith(f"{own}.") for own in self.names)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if self.covers(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LeftOut(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def left_out(names: Sequence[str]) -> Iterator[None]:
    """A context in which imports from these packages or modules give placeholders.

    For packages that import at module level what only other parts of them use: data loaders, image networks, loggers.
    These then need not be installed; using a placeholder raises a `UserError`. Modules that were imported earlier are
    not affected.

    Args:
        names: packages ("torchvision") or modules ("laion_clap.training") to leave out.
    """
    finder = _Finder([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _LeftOut)]:
            if finder.covers(name):
                del sys.modules[name]
