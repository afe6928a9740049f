"""Hostile input, drawn from a `random.Random`: whoever gives the draws (a seed, hypothesis, atheris) decides.

Nothing in here knows a file format but JSON; `targets.py` puts these pieces where the readers look.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

TEXTS = (
    "", " ", "\t", "\0", "\n", "\r\n", "a", "é", "字", "💥", "\ufeff", "\u202e", "\u2028", "\x1b[2J",
    "\ud800", "None", "null", "true", "-", "--", "-1", "0x10", "1e400", "NaN", "%s%n", "{}", "[]", "[/]",
    "[bold]", "[red", "[MASK]", "[MASK]*0", "[MASK]*999999", "[...]", "[PAD]", "[UNK]", "[CLS]", "##a", "▁",
    "<s>", ";",
    "$(id)", "'", '"', ",", "=", "=a", "a=", ":", "a:b=c", "/", ".", "..", "../../x", "/etc/passwd", "~",
    "/proc/self/mem", "owner/name", "owner/name:config", "file://x", "a.jsonl", "a.csv.gz", "cpu", "cuda:99",
    "meta", "x" * 300, "y " * 3000,
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 7, 255, -(2**31), 2**31, 2**32 + 1, 2**53, 2**63, 2**64, 10**12, 10**30, -(10**30),
    0.0, -0.0, 0.5, 1e-300, 1e15, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
DEEP = ("[" * 100_000, '{"a":' * 50_000, "[" * 900 + "]" * 900)
"""JSON that is nested deeper than a parser recurses, and some that is not."""


def text(draw: random.Random) -> str:
    """A text: one that has broken something before, or a few random characters."""
    if draw.random() < 0.7:
        return draw.choice(TEXTS)
    highest = draw.choice((0x7F, 0x2FF, 0xFFFF, 0x10FFFF))
    return "".join(chr(draw.randint(0, highest)) for _ in range(draw.randint(0, 12)))


def value(draw: random.Random, depth: int = 0) -> Any:
    """Any JSON value, numbers that JSON cannot spell included."""
    kind = draw.randint(0, 3 if depth > 2 else 5)
    if kind == 0:
        return draw.choice((None, True, False))
    if kind == 1:
        return draw.choice(NUMBERS)
    if kind in (2, 3):
        return text(draw)
    if kind == 4:
        return [value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    return {text(draw): value(draw, depth + 1) for _ in range(draw.randint(0, 3))}


def to_json(content: Any) -> str:
    """JSON in which lone surrogates are spelled as escapes, so that every value can be written."""
    return json.dumps(content, ensure_ascii=True)


def damaged_json(draw: random.Random, content: Any, changes: int = 3) -> Any:
    """A copy of a JSON value in which up to `changes` places hold something else, or are gone."""
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, changes)):
        content = _with_one_change(draw, content)
    return content


def _with_one_change(draw: random.Random, content: Any) -> Any:
    """Walk down at random, then replace, drop, rename, add or double what is found there."""
    if not isinstance(content, dict | list) or not content or draw.random() < 0.1:
        return value(draw)
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = draw.choice(keys)
    if isinstance(content[key], dict | list) and content[key] and draw.random() < 0.75:
        content[key] = _with_one_change(draw, content[key])
        return content
    action = draw.randint(0, 5)
    if action == 0:
        del content[key]
    elif action == 1 and isinstance(content, dict):
        content[text(draw)] = content.pop(key)
    elif action == 2 and isinstance(content, dict):
        content[text(draw)] = value(draw)
    elif action == 3:
        content[key] = copy.deepcopy(content[draw.choice(keys)])
    else:
        content[key] = value(draw)
    return content


def damaged_bytes(draw: random.Random, good: bytes, changes: int = 4) -> bytes:
    """Bytes with a few flips, cuts, insertions and repetitions; now and then something else altogether."""
    if draw.random() < 0.05:
        return draw.choice(DEEP).encode()
    data = bytearray(good)
    for _ in range(draw.randint(0, changes)):
        at = draw.randint(0, len(data))
        match draw.randint(0, 5):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randint(0, 7)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + draw.randint(1, 8)]
            case 3:
                data[at:at] = text(draw).encode("utf-8", "surrogatepass")
            case 4:
                data[at:at] = bytes(draw.randint(0, 255) for _ in range(draw.randint(1, 8)))
            case _:
                data[at:at] = data[at : at + 64] * draw.randint(1, 3)
    return bytes(data)


def damaged_lines(draw: random.Random, rows: list[Any]) -> bytes:
    """A jsonl file of rows of which some are damaged as values, and perhaps the whole as bytes."""
    lines = [to_json(damaged_json(draw, row) if draw.random() < 0.5 else row) for row in rows]
    data = ("\n".join(lines) + "\n").encode()
    return damaged_bytes(draw, data) if draw.random() < 0.4 else data
