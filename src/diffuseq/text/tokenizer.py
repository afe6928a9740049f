"""Text to token ids and back: train a tokenizer on the data, or load any that exists.

    tokenizer = Tokenizer.train(texts, vocab_size=8192)
    ids = tokenizer.encode(["how can i learn to draw?"])       # no special tokens; a system adds its own
    tokenizer.decode(ids[0])                                   # "how can i learn to draw?"

A trained tokenizer is reversible: a token that begins a word carries the space before it ("▁draw"), so
decoding gives the text back, whatever its punctuation or script. BERT's vocabularies forget the spaces;
there `diffuseq.text.cleanup` puts them back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tokenizers
from tokenizers import decoders

from diffuseq.errors import InputError, unknown_name
from diffuseq.models import EXAMPLES, shipped_model
from diffuseq.names import refuse_missing_path
from diffuseq.text import cleanup
from diffuseq.text.reading import download, read_file, read_names, valid_unicode
from diffuseq.text.training import CHUNK, SPACE, SPECIALS, chunks, train_bytes, train_pieces

if TYPE_CHECKING:
    from diffuseq.system import SpecialTokens

_ROLES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>"),  # GPT-2 has one special token for everything
    "unknown": ("[UNK]", "<unk>", "<|unk|>", "<|endoftext|>"),
    "start": ("[CLS]", "[START]", "<s>", "<|startoftext|>"),
    "end": ("[SEP]", "[END]", "</s>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""What `Tokenizer.save` writes."""
_TOO_MANY_UNKNOWN = 0.05
_MOST_IDS_PER_WORD = 10  # where ids are left out, tables of all ids must still be of a reasonable size


@dataclass(frozen=True)
class UnknownShare:
    """The share of tokens that the vocabulary does not know, and the commonest texts behind them."""

    share: float
    examples: list[str]


class Tokenizer:
    """A tokenizer with the five roles that systems need: pad, unknown, start, end and mask.

    `backend` is the tokenizer of the `tokenizers` library; `names` gives the token of a role where it has an
    unusual name. Raises `InputError` if the vocabulary has no token for padding, for the unknown or for the
    ends of a text. A missing mask is no error: the unknown token stands in.
    """

    def __init__(self, backend: tokenizers.Tokenizer, names: Mapping[str, str] | None = None) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # a "[SEP]" that a user types is text
        self.backend = backend
        self.names = _find_roles(backend, names or {})
        words = backend.get_vocab_size(with_added_tokens=True)
        if self.vocab_size > _MOST_IDS_PER_WORD * words + CHUNK:
            raise InputError(
                f"The vocabulary has {words:,} words, but ids up to {self.vocab_size - 1:,}; its files are "
                "damaged, copy them again."
            )

    # -- making one

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int = 8192,
        algorithm: Literal["wordpiece", "bpe"] = "wordpiece",
        lowercase: bool = True,
    ) -> Tokenizer:
        """Train on texts, which are read once and never held together.

        wordpiece: the longest known piece first, a word with an unseen character becomes [UNK]; bpe: on
        bytes, so that nothing is unknown. Both are deterministic. Raises `InputError` if there is no text,
        the algorithm is unknown, or the vocabulary is too small for the characters of the texts.
        """
        if algorithm not in ("wordpiece", "bpe"):
            raise unknown_name("tokenizer algorithm", algorithm, ("wordpiece", "bpe"))
        smallest = len(SPECIALS) + (256 if algorithm == "bpe" else 1)
        if vocab_size < smallest:
            raise InputError(
                f"A vocabulary of {vocab_size} is too small for the alphabet; "
                f"{algorithm} needs at least {smallest}."
            )
        stream = (text for text in texts if text and not text.isspace())
        sample = list(itertools.islice(stream, CHUNK))
        if not sample:
            raise InputError(
                "There is no text to train a tokenizer on; give data with at least one non-empty text."
            )
        train = train_bytes if algorithm == "bpe" else train_pieces
        tokenizer = cls(train(itertools.chain(sample, stream), vocab_size, lowercase))
        if tokenizer.unknown_share(sample).share > _TOO_MANY_UNKNOWN:
            alphabet = {c for text in sample for c in tokenizer.normalize(text)}
            raise InputError(
                f"A vocabulary of {vocab_size} is too small for the alphabet of the texts: "
                f"give at least {2 * len(alphabet) + len(SPECIALS)}, or use bpe with at least 261."
            )
        return tokenizer

    @classmethod
    def load(cls, name: str | Path) -> Tokenizer:
        """Open a folder, a tokenizer.json, a BERT vocab.txt, a published word list or vocab.json, the tokenizer of
        a model that comes with the package (by its name), or a hub name.

        A path that exists is taken as one. Raises `InputError` if it is no tokenizer or cannot be had.
        """
        path = Path(name)
        if path.is_dir():
            return cls._load_folder(path)
        if path.is_file():
            return cls(read_file(path))
        if str(name) in EXAMPLES:
            return cls._load_folder(shipped_model(str(name)))
        refuse_missing_path(name, "a tokenizer's file or folder", (".json", ".txt"))
        return cls._load_folder(download(str(name)))

    @classmethod
    def _load_folder(cls, folder: Path) -> Tokenizer:
        for file in ("tokenizer.json", "vocab.json", "vocab.txt", "words.txt"):
            if (folder / file).is_file():
                return cls(read_file(folder / file), read_names(folder / "tokenizer_config.json"))
        raise InputError(
            f"{folder} holds no tokenizer; it needs a tokenizer.json, a BERT vocab.txt, or a published "
            "vocab.json or words.txt."
        )

    def save(self, folder: str | Path) -> None:
        """Write files that `Tokenizer.load` and transformers' `AutoTokenizer` open."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        keys = {
            "pad_token": self.names["pad"],
            "unk_token": self.names["unknown"],
            "cls_token": self.names["start"],
            "sep_token": self.names["end"],
            "mask_token": self.names["mask"],
        }
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **keys}
        contents = (
            self.backend.to_str(pretty=True),
            json.dumps(config, indent=2, ensure_ascii=False),
            json.dumps(keys, indent=2, ensure_ascii=False),
        )
        for file, content in zip(TOKENIZER_FILES, contents, strict=True):
            (folder / file).write_text(content + "\n", encoding="utf-8")

    # -- what it knows

    @cached_property
    def special(self) -> SpecialTokens:
        """Ids of the five roles and the size of the vocabulary."""
        from diffuseq.system import SpecialTokens  # here, because it imports torch

        return SpecialTokens(vocab_size=self.vocab_size, **self._role_ids)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that decides ids: equal fingerprints give equal ids for every text."""
        return hashlib.sha256((self.backend.to_str() + json.dumps(self.names)).encode()).hexdigest()[:16]

    # -- text to ids

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens: none of pad, start, end and mask is ever among them.

        Raises `InputError` for a text that is not valid Unicode.
        """
        unknown = self._role_ids["unknown"]
        reserved = self._silent
        rows = []
        for encoding in self._encodings(texts):
            ids: list[int] = encoding.ids
            rows.append(ids if reserved.isdisjoint(ids) else [unknown if i in reserved else i for i in ids])
        return rows

    def _encodings(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        given = valid_unicode(texts)
        try:
            encodings: list[tokenizers.Encoding] = self.backend.encode_batch_fast(
                given, add_special_tokens=False
            )
        except Exception as error:  # the library raises plain Exception for a model that contradicts itself
            raise InputError(f"The tokenizer's files are damaged ({error}); copy them again.") from None
        return encodings

    def normalize(self, text: str) -> str:
        """The text as the vocabulary sees it (say, in lower case): a trained tokenizer decodes to this."""
        normalizer = self.backend.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    @cached_property
    def lowercases(self) -> bool:
        """Whether it reads, and so writes, no capitals."""
        return self.normalize("A") == "a"

    def unknown_share(self, texts: Iterable[str], num_examples: int = 10) -> UnknownShare:
        """The share of unknown tokens in texts, which are read as a stream, with the commonest examples."""
        unknown, total, unknown_total = self._role_ids["unknown"], 0, 0
        examples: Counter[str] = Counter()
        for chunk in chunks(texts):
            encodings = self.backend.encode_batch(chunk, add_special_tokens=False)
            for text, encoding in zip(chunk, encodings, strict=True):
                total += len(encoding.ids)
                places = [at for i, at in zip(encoding.ids, encoding.offsets, strict=True) if i == unknown]
                unknown_total += len(places)
                examples.update(text[start:end].strip() for start, end in places)
        return UnknownShare(
            unknown_total / max(1, total), [text for text, _ in examples.most_common(num_examples)]
        )

    # -- ids to text

    def decode(self, ids: Sequence[int], style: Literal["tidy", "published"] = "tidy") -> str:
        """The text of ids. Pad, start, end and mask are dropped; an unknown token shows as such.

        `style` matters for BERT vocabularies alone, which forget spaces: `tidy` puts them back as English has
        them, `published` as the published systems do (see `diffuseq.text.cleanup`). Raises
        `InputError` for another.
        """
        if style not in ("tidy", "published"):
            raise unknown_name("decoding style", style, ("tidy", "published"))
        ids = [i for i in map(int, ids) if i not in self._silent]
        if isinstance(self.backend.decoder, decoders.WordPiece):
            text = cleanup.join_wordpieces((self._tokens[i] for i in ids), self.backend.decoder.prefix)
            return cleanup.tidy(text) if style == "tidy" else cleanup.published(text)
        if self.backend.decoder is None:
            return " ".join(self._tokens[i] for i in ids)
        parts = []
        for is_unknown, group in itertools.groupby(ids, key=self._role_ids["unknown"].__eq__):
            run = list(group)
            parts += [self.names["unknown"]] * len(run) if is_unknown else [self._decode_known(run)]
        return " ".join(" ".join(parts).split())

    def decode_batch(
        self, rows: Iterable[Sequence[int]], style: Literal["tidy", "published"] = "tidy"
    ) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row, style) for row in rows]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each id as a readable piece, with a leading space where it begins a word; specials by name."""
        return [self._piece(int(i)) for i in ids]

    def _piece(self, i: int) -> str:
        token = self._tokens[i]
        decoder = self.backend.decoder
        if i in self._role_ids.values() or decoder is None:
            return " " + token
        if isinstance(decoder, decoders.WordPiece):
            continues = token.startswith(decoder.prefix)
            return token[len(decoder.prefix) :] if continues else " " + token
        if isinstance(decoder, decoders.ByteLevel):
            return self._decode_known([i])
        return token.replace(SPACE, " ")

    def _decode_known(self, ids: list[int]) -> str:
        text: str = self.backend.decode(ids, skip_special_tokens=False)
        return text

    @cached_property
    def _tokens(self) -> list[str]:
        """Token by id; ids that the vocabulary leaves out are empty."""
        names = [""] * self.vocab_size
        for token, i in self.backend.get_vocab(with_added_tokens=True).items():
            names[i] = token
        return names

    @cached_property
    def _role_ids(self) -> dict[str, int]:
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        return {role: vocabulary[name] for role, name in self.names.items()}

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that carry no text: all roles but the unknown token's."""
        return frozenset(self._role_ids.values()) - {self._role_ids["unknown"]}


def _find_roles(backend: tokenizers.Tokenizer, names: Mapping[str, str]) -> dict[str, str]:
    """The token of every role: from `names`, else by its usual names, else a harmless stand-in."""
    found = {}
    for role, usual in _ROLES.items():
        candidates = [names[role], *usual] if role in names else list(usual)
        for token in candidates:
            if backend.token_to_id(token) is not None:
                found[role] = token
                break
    for role, what in (("pad", "padding"), ("unknown", "unknown")):
        if role not in found:
            raise InputError(
                f"The tokenizer has no {what} token; "
                f"its vocabulary must contain one of: {', '.join(_ROLES[role])}."
            )
    if "end" not in found and "start" not in found:
        raise InputError(
            "The tokenizer has no token for the start or the end of a text; "
            f"its vocabulary must contain one of: {', '.join(_ROLES['start'] + _ROLES['end'])}."
        )
    found.setdefault("start", found.get("end", ""))
    found.setdefault("end", found["start"])
    found.setdefault("mask", found["unknown"])
    return found
