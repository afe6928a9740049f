"""Texts in scripts that are written without spaces between words: what metrics of words see of them.

Split at white space, a Chinese or a Thai sentence is one word, and BLEU says only whether two of them are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_CHARACTERS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_ONE = re.compile(rf"[{_CHARACTERS}]")
_ROUGE_LETTER = re.compile(r"[a-z]")


def spaced(text: str) -> str:
    """The text with blanks around every character of a script that has none between words: each is a word then.

    >>> spaced("我喜欢 BLEU").split()
    ['我', '喜', '欢', 'BLEU']
    """
    return text if text.isascii() else _ONE.sub(r" \g<0> ", text)


def are_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters are of such scripts, in texts that do not stand with blanks between them."""
    letters = unspaced = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        if not text.isascii():
            unspaced += sum(len(_ONE.findall(word)) for word in text.split() if len(word) > 1)
    return 2 * unspaced > letters


def are_foreign_to_rouge(texts: Iterable[str]) -> bool:
    """Whether most letters are none of those that ROUGE counts (`diffuseq.metrics.rouge`)."""
    letters = known = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        known += len(_ROUGE_LETTER.findall(text.lower()))
    return 2 * known < letters
