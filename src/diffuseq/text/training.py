"""The two kinds of tokenizer that are trained on the data, with the `tokenizers` library."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens of a trained tokenizer, in BERT's order: their ids are 0…4."""
SPACE = "▁"
"""What a piece that begins a word carries in the place of the space before it."""
CHUNK = 1000
"""Texts that the library is given at a time."""
_LONGEST_WORD = 1000


def train_pieces(texts: Iterator[str], vocab_size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """Longest-match pieces inside words, with the space as part of the word.

    The pieces are found by pair merging without a prefix for continued words: the library's own WordPiece
    trainer numbers the prefixed pieces in an order that changes from run to run.
    """
    backend = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=vocab_size - len(SPECIALS),
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    backend.train_from_iterator(chunks(texts), trainer)
    backend.model = models.WordPiece(
        backend.get_vocab(),
        unk_token="[UNK]",
        max_input_chars_per_word=_LONGEST_WORD,
        continuing_subword_prefix="",
    )
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    return backend


def train_bytes(texts: Iterator[str], vocab_size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """Byte-level pair merging."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    backend.train_from_iterator(chunks(texts), trainer)
    return backend


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    """Compose characters, make every white space one plain space; the mark for spaces itself becomes "_"."""
    steps: list[normalizers.Normalizer] = [
        normalizers.NFC(),
        normalizers.Replace(Regex(r"[\s\p{Cc}]+"), " "),
        normalizers.Strip(),
        normalizers.Replace(SPACE, "_"),
    ]
    return normalizers.Sequence([*steps, normalizers.Lowercase()] if lowercase else steps)


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, so that the library is called once for many."""
    stream = iter(texts)
    while chunk := list(itertools.islice(stream, CHUNK)):
        yield chunk
