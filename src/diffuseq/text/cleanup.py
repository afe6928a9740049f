"""Spacing of decoded text, for tokenizers that forget where the spaces were (BERT's WordPiece).

Two styles: `tidy` puts English and Chinese/Japanese spacing back as well as it can be guessed, and
`published` does what the published systems' decoder does, for scores that are comparable with theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_CJK = r"[\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
_SPACED_NUMBER = re.compile(r"(?<=\d) ([.:/]) (?=\d)|(?<=\d) (,) (?=\d{3}(?!\d))")
_INITIALS = re.compile(r"(?<![^\W\d_])([^\W\d_]) \. (?=[^\W\d_] \.)")
_CONTRACTION = re.compile(r"(?<=\w) (['’]) (?=(?:s|t|m|d|re|ve|ll|am)\b)|(?<=\b[dloy]) (['’]) (?=\w)")
_INSIDE_WORD = re.compile(r"(?<=\w) ([-/_–]) (?=\w)")
_REPEATED = re.compile(r"(?<=([.!?+*=_-])) (?=\1)")
_LANGUAGE_NAME = re.compile(r"\b([cf]) (?=#|\+\+)", re.IGNORECASE)
_CLOSING = re.compile(r" (?=[?!.,:;)\]}…%”])")
_OPENING = re.compile(r"(?<=[(\[{“‘]) ")
_CURRENCY = re.compile(r"(?<=[$€£]) (?=\d)")
_QUOTED = re.compile(r'" ([^"]*?) "')
_BETWEEN_CJK = re.compile(rf"(?<={_CJK}) (?={_CJK})")

PUBLISHED_RULES = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def join_wordpieces(tokens: Iterable[str], prefix: str = "##") -> str:
    """WordPieces to text with one space between words; a piece with the prefix continues its word."""
    parts: list[str] = []
    for token in tokens:
        parts.append(token[len(prefix) :] if token.startswith(prefix) and parts else " " + token)
    return "".join(parts).strip()


def published(text: str) -> str:
    """Close the spaces before English punctuation by the rules that BERT tokenizers are decoded with."""
    for spaced, closed in PUBLISHED_RULES:
        text = text.replace(spaced, closed)
    return text


def tidy(text: str) -> str:
    """Put back the usual spacing around punctuation, in a text whose tokens are separated by one space.

    Apostrophes ("what ' s"), hyphens ("5 - year"), numbers ("3 . 5"), initials ("u . s ."), brackets, quotes
    and runs of Chinese or Japanese characters are joined. It is a guess: a dash with spaces around it between
    two words comes back as a hyphen.
    """
    text = _SPACED_NUMBER.sub(lambda mark: mark[1] or mark[2], text)
    text = _INITIALS.sub(r"\1.", text)
    text = _CONTRACTION.sub(lambda mark: mark[1] or mark[2], text)
    text = _INSIDE_WORD.sub(r"\1", text)
    text = _REPEATED.sub("", text)
    text = _LANGUAGE_NAME.sub(r"\1", text)
    text = _CLOSING.sub("", text)
    text = _OPENING.sub("", text)
    text = _CURRENCY.sub("", text)
    text = _QUOTED.sub(r'"\1"', text)
    return _BETWEEN_CJK.sub("", text)
