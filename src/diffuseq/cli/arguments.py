"""What the options of all verbs have in common: a path is not empty, and help is one paragraph an option."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)


def common_rules() -> ConstructorRegistry:
    """Within this as a context tyro refuses an empty path, which `Path` would take for the working directory: an
    unset variable of a shell must not have files written, or deleted, there. And it wraps the help of an option to
    the terminal, where it would break lines as the docstring does."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_path_rule)
    registry.struct_rule(_HelpRule())
    return registry


def _path_rule(of: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if of.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=_path,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _path(words: list[str]) -> Path:
    if not words[0]:
        raise ValueError("the path is empty; give the name of a file or folder ('.' is the one you are in)")
    return Path(words[0])


class _HelpRule:
    """What tyro's own rule makes of a dataclass, with the line breaks of its docstrings gone."""

    def __init__(self) -> None:
        self._asking_others = False

    def __call__(self, of: StructTypeInfo) -> StructConstructorSpec | None:
        if self._asking_others or not dataclasses.is_dataclass(of.type):
            return None
        self._asking_others = True
        try:
            found = ConstructorRegistry.get_struct_spec(of)
        finally:
            self._asking_others = False
        if not isinstance(found, StructConstructorSpec):
            return None
        fields = [dataclasses.replace(each, helptext=_in_a_line(each.helptext)) for each in found.fields]
        return dataclasses.replace(found, fields=tuple(fields))


Help = str | Callable[[], str | None] | None
"""A text, or what finds it when help is asked for (newer tyro)."""


def _in_a_line(text: Help) -> Help:
    if callable(text):
        find = text
        return lambda: _in_a_line_now(find())
    return _in_a_line_now(text)


def _in_a_line_now(text: str | None) -> str | None:
    return None if text is None else " ".join(text.split())
