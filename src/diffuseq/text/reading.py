"""Tokenizers that others have made: their files, whatever the format, and where they lie on the hub."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from diffuseq.errors import InputError
from diffuseq.files import read_text
from diffuseq.text.training import SPECIALS

_PUBLISHED_SPECIALS = ("[START]", "[END]", "[UNK]", "[PAD]")
"""What the published systems put before the words of a plain word list."""
_CONFIG_KEYS = {  # transformers' names of the roles, in a tokenizer_config.json
    "pad": ("pad_token",),
    "unknown": ("unk_token",),
    "start": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "mask": ("mask_token",),
}
_LINE_END, _FIRST_WORD = re.compile(r"[\r\n]"), re.compile(r"[ \t]*([^ \t]+)")
_LARGEST_FILE = 512 * 2**20


def read_file(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer from a tokenizer.json, a published vocab.json, a BERT vocab.txt or a word list. Raises
    `InputError` for a file that is none of these."""
    try:
        text = read_text(path, _LARGEST_FILE)
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8 text; give a tokenizer.json, a vocab.txt or a word list."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); give a tokenizer.json, a vocab.txt or a word list."
        ) from None
    if path.suffix.lower() == ".json":
        return _read_json(path, text)
    # only these end a line or a word: other white space may be a word itself, and every word counts
    lines = [found[1] for line in _LINE_END.split(text) if (found := _FIRST_WORD.match(line))]
    if not lines:
        raise InputError(f"{path} is empty; a vocabulary has one word a line.")
    if repeated := [word for word, count in Counter(lines).items() if count > 1]:
        raise InputError(
            f"{path} has {repeated[0]!r} more than once; every word of a vocabulary stands once."
        )
    if any(word in SPECIALS or word.startswith("##") for word in lines):
        return _bert(lines)
    return _word_list({word: i for i, word in enumerate([*_PUBLISHED_SPECIALS, *lines])})


def _read_json(path: Path, text: str) -> tokenizers.Tokenizer:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}); give a tokenizer.json.") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or as many brackets
        raise InputError(f"{path} is not JSON that can be read; give a tokenizer.json.") from None
    if isinstance(content, dict) and "model" in content:
        try:
            return tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"{path} is no tokenizer.json that can be opened: {error}.") from None
    if isinstance(content, dict) and content and all(type(i) is int for i in content.values()):
        if sorted(content.values()) != list(range(len(content))):
            raise InputError(f"{path} does not number its words 0, 1, 2, …; copy the vocabulary again.")
        valid_unicode(list(content))
        return _word_list(content)
    raise InputError(
        f"{path} is no tokenizer; give a tokenizer.json, or a vocab.json that maps each word to its id."
    )


def _bert(lines: list[str]) -> tokenizers.Tokenizer:
    """BERT's tokenizer over its vocab.txt; lower-cases where the vocabulary has no capitals."""
    cased = any("A" <= c <= "Z" for word in lines if not word.startswith("[") for c in word)
    vocabulary = {word: i for i, word in enumerate(lines)}
    backend = tokenizers.Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([token for token in SPECIALS if token in vocabulary])
    return backend


def _word_list(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    """The published plain vocabulary: words between white space, as they are."""
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([token for token in _PUBLISHED_SPECIALS if token in vocabulary])
    return backend


def read_names(config: Path) -> dict[str, str]:
    """Names of the roles from a tokenizer_config.json, if there is one. Raises `InputError` for one that cannot be
    read."""
    if not config.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(read_text(config))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{config} is not JSON; remove it or repair it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{config} is no object with keys; remove it or repair it.")
    names = {}
    for role, keys in _CONFIG_KEYS.items():
        for key in reversed(keys):
            token = content.get(key)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                names[role] = valid_unicode([token])[0]
    return names


def download(name: str) -> Path:
    """The tokenizer files of a model on the hub, or of its cached copy. Raises `InputError` when there are none."""
    from huggingface_hub import snapshot_download

    files = ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (
        Exception
    ) as error:  # no network, no such model, not allowed, a malformed name: all the same to a user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"There is no file or folder {name!r}, and the model hub gave no tokenizer of that name "
            f"({type(error).__name__}: {reason}); check the name and the connection, or give a local file."
        ) from None


def valid_unicode(texts: Sequence[str]) -> list[str]:
    """The texts as a list. Raises `InputError` for half of a surrogate pair, which is no character."""
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(f"The text {text[:100]!r} is not valid Unicode; correct it.") from None
    return list(texts)
