"""What the options of all verbs have in common: a path is not empty."""

from __future__ import annotations

from pathlib import Path

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def named_paths() -> ConstructorRegistry:
    """Within this as a context tyro refuses an empty path, which `Path` would take for the working directory: an
    unset variable of a shell must not have files written, or deleted, there."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_path_rule)
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
