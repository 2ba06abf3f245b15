"""The base of all sections of a configuration: unknown keys are errors, defaults come from the library's classes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, Union, cast, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from gmsdi.errors import UserError
from gmsdi.models.settings import CodecConfig, UNetConfig
from gmsdi.sampling.solver import SAMPLERS, Guidance, Solver, options_of
from gmsdi.settings import About, As, Flag
from gmsdi.training.config import TrainingConfig


class Model(BaseModel):
    """A section of the configuration, which refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", validate_default=False, frozen=True)
    absent: ClassVar[frozenset[str]] = frozenset()
    """Keys that stay absent if they are not given; the method's own default then applies."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise PydanticCustomError("wrong_type", "must be of another type")
        for key in given:
            if key not in cls.model_fields:
                raise PydanticCustomError("unknown_key", "{hint}", {"key": key, "hint": cls._hint(key)})
        return given

    @classmethod
    def _hint(cls, key: str) -> str:
        return hint(key, cls.model_fields)

    @model_serializer(mode="wrap")
    def _given(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        if self is None:  # an optional section that is not given; its parent leaves it out
            return {}
        left_out = self._optional() - self.model_fields_set
        return {key: value for key, value in serialize(self).items() if key not in left_out}

    @classmethod
    def _optional(cls) -> frozenset[str]:
        return cls.absent


class Changes(Model):
    """A section whose keys override those of another section; keys that are not given stay absent."""

    @classmethod
    def _optional(cls) -> frozenset[str]:
        return frozenset(cls.model_fields)


class Distinct:
    """Metadata of a list type: its entries must differ."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        def checked(values: list[Any]) -> list[Any]:
            if again := [value for place, value in enumerate(values) if value in values[:place]]:
                raise PydanticCustomError(
                    "out_of_range", "{wanted}", {"wanted": f"it contains {again[0]} twice; name it once"}
                )
            return values

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {**handler(core), "uniqueItems": True}


Unique = Distinct()


def hint(key: Any, known: Iterable[str]) -> str:
    """Advice about an unknown key or name."""
    known = list(known)
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"


def about(text: str, **more: Any) -> Any:
    """A required key."""
    return Field(description=text, **more)


def section(kind: Callable[[], Any], text: str) -> Any:
    """A section that gets its defaults if it is not given."""
    return Field(default_factory=kind, description=text)


def choice(value: Any, text: str) -> Any:
    """A key with a default."""
    return Field(default=value, description=text)


def _plain(value: Any) -> Any:
    """A default in the form that YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _has_settings(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


def _strict(kind: Any) -> Any:
    """The type of a setting in the configuration; a class of settings becomes its section."""
    if kind is bool:
        return Flag
    if _has_settings(kind):
        return model_of(kind)
    parts = get_args(kind)
    if not any(map(_has_settings, parts)):
        return kind
    return reduce(or_, map(_strict, parts))


def key_of(hint: Any, default: Mapping[str, Any]) -> tuple[Any, Any]:
    """A key of a section, in the form for `pydantic.create_model`.

    Args:
        hint: the setting's type, annotated as described in `gmsdi.settings`.
        default: empty, or a mapping with the key `default`.
    """
    metadata = getattr(hint, "__metadata__", ())
    text = next((part.text for part in metadata if isinstance(part, About)), None)
    other = [part.kind for part in metadata if isinstance(part, As)]
    rest = tuple(part for part in metadata if not isinstance(part, About | As))
    inner = _strict(other[0] if other else get_args(hint)[0] if metadata else hint)
    typed = reduce(lambda inner, part: Annotated[inner, part], rest, inner) if rest and not other else inner
    return typed, Field(description=text, **default)


@cache
def model_of(cls: type, *, omit: frozenset[str] = frozenset(), changes: bool = False) -> type[Model]:
    """The section for a class of settings.

    Args:
        cls: a dataclass, annotated as described in `gmsdi.settings`.
        omit: fields that are not keys.
        changes: whether all keys are optional and no defaults are filled in.
    """
    hints = get_type_hints(cls, include_extras=True)
    keys: dict[str, Any] = {}
    for field in fields(cls):
        if field.name in omit:
            continue
        default: dict[str, Any] = {}
        if changes:
            default = {"default": None}
        elif field.default is not MISSING:
            default = {"default": _plain(field.default)}
        elif field.default_factory is not MISSING:
            default = {"default": _plain(field.default_factory())}
        keys[field.name] = key_of(hints[field.name], default)

    needed = {field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING}

    def constructed(model: Model) -> Model:
        values = {key: value for key, value in model.model_dump().items() if key in hints}
        try:
            if needed <= set(values):
                cls(**values)
        except (UserError, ValueError) as error:
            raise PydanticCustomError("refused", "{why}", {"why": str(error)}) from error
        return model

    validators = {} if changes else {"_constructed": model_validator(mode="after")(constructed)}
    name = cls.__name__.removesuffix("Config") + ("Changes" if changes else "")
    return cast(
        type[Model],
        create_model(
            name,
            __base__=Changes if changes else Sampler if issubclass(cls, Solver) else Model,
            __module__=__name__,
            __doc__=(cls.__doc__ or "").split("\n")[0],
            __validators__=cast(Any, validators),
            **keys,
        ),
    )


class Sampler(Model):
    """The section of a solver; the error for another sampler's option names that sampler."""

    @classmethod
    def _hint(cls, key: str) -> str:
        having = [name for name, kind in SAMPLERS.items() if key in options_of(kind)]
        if having:
            return f"it belongs to {' and '.join(having)}, but the solver is {cls.model_fields['name'].default}"
        return super()._hint(key)


def _name(given: Any) -> Any:
    return given.get("name", "euler") if isinstance(given, Mapping) else getattr(given, "name", "euler")


if TYPE_CHECKING:
    SolverSettings: TypeAlias = Any
else:
    SolverSettings = Annotated[
        Union[tuple(Annotated[model_of(kind), Tag(name)] for name, kind in SAMPLERS.items())],  # noqa: UP007
        Discriminator(_name, custom_error_type="wrong_name", custom_error_message="choose " + ", ".join(SAMPLERS)),
    ]
"""All settings of one sampler, chosen by its name."""


def _all_options() -> type[Model]:
    """The options of all samplers; each description names the samplers that have the option."""
    keys: dict[str, Any] = {}
    for kind in SAMPLERS.values():
        for name, field in model_of(kind).model_fields.items():  # type: ignore[arg-type]
            having = [other for other in SAMPLERS if name in options_of(SAMPLERS[other])]
            text = str(field.description) + ("" if len(having) == len(SAMPLERS) else f" ({' and '.join(having)})")
            typed = reduce(lambda inner, part: Annotated[inner, part], field.metadata, cast(Any, field.annotation))
            keys[name] = (typed, Field(default=None, description=text))
    keys["name"] = (Literal[tuple(SAMPLERS)], Field(default=None, description="sampler"))
    return cast(type[Model], create_model("SolverChanges", __base__=Changes, __module__=__name__, **keys))


if TYPE_CHECKING:

    class SolverChanges(Changes):
        """Created below; this is for type checkers."""

    class TrainingSettings(Model):
        """Created below; this is for type checkers."""

    class TrainingChanges(Changes):
        """Created below; this is for type checkers."""

    class UNetSettings(Model):
        """Created below; this is for type checkers."""

    class UNetChanges(Changes):
        """Created below; this is for type checkers."""

    class CodecSettings(Model):
        """Created below; this is for type checkers."""

    class CodecChanges(Changes):
        """Created below; this is for type checkers."""

    class GuidanceSettings(Model):
        """Created below; this is for type checkers."""

    class GuidanceChanges(Changes):
        """Created below; this is for type checkers."""

else:
    SolverChanges = _all_options()
    TrainingSettings, TrainingChanges = model_of(TrainingConfig), model_of(TrainingConfig, changes=True)
    UNetSettings = model_of(UNetConfig, omit=frozenset({"text_features"}))
    UNetChanges = model_of(UNetConfig, omit=frozenset({"text_features"}), changes=True)
    CodecSettings, CodecChanges = model_of(CodecConfig), model_of(CodecConfig, changes=True)
    GuidanceSettings = model_of(Guidance, omit=frozenset({"w"}))
    GuidanceChanges = model_of(Guidance, omit=frozenset({"w", "convention"}), changes=True)
