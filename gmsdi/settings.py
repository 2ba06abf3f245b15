"""Types for settings: numbers with bounds, and a short description of each key.

A class of settings is a frozen dataclass whose fields are annotated with these types. The annotations are written once:
the class checks its values against them (`check`), and `gmsdi.study.config` reads them for the configuration's checks,
schema and reference page. Nothing heavy is imported here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeAlias, get_type_hints

from gmsdi.errors import UserError

WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
JSON = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


@dataclass(frozen=True)
class About:
    """What a setting means, for people who read the configuration."""

    text: str


@dataclass(frozen=True)
class As:
    """The type of a setting in a configuration, where its class accepts more."""

    kind: Any


@dataclass(frozen=True)
class Bounded:
    """A number's kind and bounds, as metadata of its type. Whole numbers stay whole: 1 does not become 1.0.

    Attributes:
        whole: whether fractions are refused.
        infinite: whether infinity is allowed.
        gt, ge, lt, le: bounds.
    """

    whole: bool = False
    infinite: bool = False
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    @property
    def kind(self) -> str:
        """The name of the number's type in a JSON schema."""
        return "integer" if self.whole else "number"

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {name: bound for name in WORDS if (bound := getattr(self, name)) is not None}

    @property
    def wanted(self) -> str:
        """What the number must be, in words: "a number of at least 0 and below 1"."""
        named = " and ".join(f"{WORDS[name]} {bound:g}" for name, bound in self.bounds.items())
        named = f"of {named}" if named.startswith("at") else named
        finite = "" if self.infinite or self.whole or named else "finite "
        return f"a {'whole ' if self.whole else finite}number {named}".rstrip()

    def is_kind(self, value: Any) -> bool:
        """Whether a value is of this type, in or out of bounds."""
        return isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)

    def within(self, value: float) -> bool:
        """Whether a number is within the bounds."""
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond all floats
            return False
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            return False
        return all(getattr(operator, name)(value, bound) for name, bound in self.bounds.items())

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def checked(value: Any) -> Any:
            if not self.is_kind(value):
                raise PydanticCustomError("wrong_type", "must be of another type")
            if not self.within(value):
                raise PydanticCustomError("out_of_range", "{wanted}", {"wanted": f"it must be {self.wanted}"})
            return value

        return core_schema.no_info_plain_validator_function(checked)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"type": self.kind} | {JSON[name]: bound for name, bound in self.bounds.items()}


@dataclass(frozen=True)
class Switch:
    """Metadata of a type that accepts only true and false."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.bool_schema(strict=True)


Flag: TypeAlias = Annotated[bool, Switch()]
Natural: TypeAlias = Annotated[int, Bounded(whole=True, ge=0)]
Count: TypeAlias = Annotated[int, Bounded(whole=True, ge=1)]
Steps: TypeAlias = Annotated[int, Bounded(whole=True, ge=1, le=10_000)]
"""Steps of a run, or runs; more of them are a slip of the pen."""
Number: TypeAlias = Annotated[float, Bounded()]
NonNegative: TypeAlias = Annotated[float, Bounded(ge=0)]
Positive: TypeAlias = Annotated[float, Bounded(gt=0)]
Deviation: TypeAlias = Annotated[float, Bounded(ge=1e-6, le=1e6)]
"""Standard deviation of a model's data."""
Share: TypeAlias = Annotated[float, Bounded(ge=0, le=1)]
Decay: TypeAlias = Annotated[float, Bounded(ge=0, lt=1)]
Level: TypeAlias = Annotated[float, Bounded(infinite=True, ge=0)]
"""A noise level; as a bound it may be infinite."""


def require_kinds(**given: tuple[Any, type | UnionType]) -> None:
    """Refuse arguments that are not of their class; None passes.

    Args:
        given: each argument's value and class, by its name.

    Raises:
        UserError: for the first of another class.
    """
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise UserError(f"{name} is {value!r}; it must be a {getattr(kind, '__name__', kind)}")


def check(settings: Any, what: str) -> None:
    """Refuse numbers of a dataclass that have the wrong type or are out of bounds.

    Args:
        settings: an instance.
        what: what error messages call it, such as "solver".

    Raises:
        UserError: for the first such number.
    """
    for name, bounded in _numbers(type(settings)):  # type: ignore[arg-type]
        value = getattr(settings, name)
        if not bounded.is_kind(value) or not bounded.within(value):
            raise UserError(f"{what} {name} is {value!r}; it must be {bounded.wanted}")


@cache
def _numbers(cls: type) -> list[tuple[str, Bounded]]:
    """The numeric fields of a dataclass, without those that may also be None."""

    def look() -> Iterator[tuple[str, Bounded]]:
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            for part in getattr(hints[field.name], "__metadata__", ()):
                if isinstance(part, Bounded):
                    yield field.name, part

    return list(look())
