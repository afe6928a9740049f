"""Dataclasses as plain JSON values and back, strictly: an unknown key raises, and the known ones are listed."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from diffuseq.errors import InputError, unknown_name

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values, paths as texts, numpy's numbers as Python's; `from_dict` is its inverse."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a dataclass from plain values, strictly.

    Raises `InputError` for an unknown key (the known ones are listed), a missing one without a default, or
    a value of the wrong type. `where` is the path to the value, for the message.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"{where or cls.__name__} is {type(values).__name__}; it must be an object with keys."
        )
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise unknown_name(f"key in {where or cls.__name__}", str(key), fields)
    given = {
        name: _value(hints[name], value, f"{where}.{name}" if where else name)
        for name, value in values.items()
    }
    try:
        return cls(**given)
    except TypeError as error:
        raise InputError(f"{where or cls.__name__} is incomplete: {error}.") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    arguments = get_args(hint)
    if type(None) in arguments:
        if value is None:
            return None
        arguments = tuple(a for a in arguments if a is not type(None))
        if len(arguments) == 1:
            return _value(arguments[0], value, where)
    origin = getattr(hint, "__origin__", None)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise unknown_name(where, str(value), map(str, arguments))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or (
            Ellipsis not in arguments and len(value) != len(arguments)
        ):
            raise InputError(f"{where} is {value!r}; it must be a list like {list(arguments)}.")
        kinds = [arguments[0]] * len(value) if Ellipsis in arguments else arguments
        return tuple(_value(kind, v, where) for kind, v in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (hint is int and isinstance(value, bool))
    ):
        raise InputError(f"{where} is {value!r}; it must be a {hint.__name__}.")
    return value
