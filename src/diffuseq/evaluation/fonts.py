"""Letters that the usual fonts of figures lack: where another font has them, and what is said where none has."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache

FALLBACKS = (
    (
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Source Han Sans",
        "WenQuanYi Zen Hei",
        "WenQuanYi Micro Hei",
        "Droid Sans Fallback",
        "Arial Unicode MS",
        "PingFang SC",
        "Hiragino Sans",
        "Microsoft YaHei",
        "Yu Gothic",
        "Malgun Gothic",
    ),
    ("Noto Emoji", "Segoe UI Emoji", "Symbola"),
)
"""Fonts for Chinese, Japanese and Korean, and for emoji: the first of each that the machine has draws what the
usual ones lack. Fonts of coloured pictures are none that matplotlib can draw."""
_NO_LETTER = r"Glyph \d+ .*missing from|Matplotlib currently does not support"


class FontWarning(UserWarning):
    """Figures have letters that no font has."""


@cache
def fallbacks() -> list[str]:
    """Those of `FALLBACKS` that are here."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():  # matplotlib keeps its list, and knows nothing of what came later
        if path not in known:
            with suppress(OSError, RuntimeError):  # none that it can read
                fontManager.addfont(path)
    here = set(fontManager.get_font_names())
    found = (next((name for name in names if name in here), None) for names in FALLBACKS)
    return [name for name in found if name is not None]


@contextmanager
def letters_missing() -> Iterator[list[str]]:
    """Collect, instead of showing, matplotlib's warnings of letters that no font has; all others are shown."""
    missing: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", _NO_LETTER)
        yield missing
    for each in caught:
        if re.match(_NO_LETTER, str(each.message)):
            missing.append(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def tell_of(missing: Sequence[str]) -> None:
    """Warn, once for all letters, where a png shows boxes: what is text in the svg is shown by the fonts of who
    looks at it."""
    if missing:
        warnings.warn(
            "No font here has some letters of the names and texts in the figures: the png files show boxes there "
            "(svg and html files take the reader's fonts). Install one that has them, say Noto Sans CJK or Noto "
            "Emoji.",
            FontWarning,
            stacklevel=3,
        )
