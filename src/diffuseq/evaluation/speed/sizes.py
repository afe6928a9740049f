"""What is compared with what: networks of equal size, at three sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diffuseq.config import Config, DiffuSeqConfig, PublishedConfig
from diffuseq.errors import unknown_name
from diffuseq.recipes import recipe
from diffuseq.system import SpecialTokens

BERT_WORDS = 30_522
"""Size of the vocabulary of the published systems."""
GPT2_WORDS = 50_257


@dataclass(frozen=True)
class Ranges:
    """The smallest to the largest of what cost is measured against."""

    length: tuple[int, ...] = (16, 32, 64, 128, 256)
    batch: tuple[int, ...] = (1, 4, 16, 64, 256)
    candidates: tuple[int, ...] = (1, 2, 5, 10, 20)
    calls: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    pairs: tuple[int, ...] = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Gpt2Size:
    layers: int
    heads: int
    width: int


@dataclass(frozen=True)
class Size:
    """The systems, their vocabularies, and how much is done in one repeat.

    training_rows, published_training_rows: pairs in one forward and backward pass; decoding_rows,
    published_decoding_rows: sentences decoded together; product: side of the largest matrix product.
    """

    name: str
    ours: Config
    published: Config
    gpt2: Gpt2Size
    words: tuple[int, int, int]
    training_rows: int
    published_training_rows: int
    decoding_rows: int
    published_decoding_rows: int
    repeats: int
    product: int
    onnx: bool = True
    """Whether ONNX Runtime is measured too; writing its graphs takes half a minute."""
    ranges: Ranges = Ranges()

    @property
    def special(self) -> SpecialTokens:
        return special_tokens(self.words[0])

    @property
    def published_special(self) -> SpecialTokens:
        return special_tokens(self.words[1])


def special_tokens(vocab_size: int) -> SpecialTokens:
    """The special tokens of a vocabulary of made-up words, which begin at 5."""
    return SpecialTokens(vocab_size, pad=0, unknown=1, start=2, end=3, mask=4)


def find_size(name: str, quick: bool = False) -> Size:
    """base (12 layers of 768), small (6 layers of 256) or tiny (a check that everything runs). Raises `InputError`
    for another name."""
    sizes = {"base": _base, "small": _small, "tiny": _tiny}
    if name not in sizes:
        raise unknown_name("size", name, sizes)
    size = sizes[name]()
    if not quick:
        return size
    ranges = replace(size.ranges, pairs=tuple(pairs // 10 for pairs in size.ranges.pairs))
    return replace(size, repeats=min(size.repeats, 2), ranges=ranges, onnx=False)


def _base() -> Size:
    return Size(
        "base",
        recipe("qqp-base"),
        recipe("qqp-paper"),
        Gpt2Size(layers=12, heads=12, width=768),
        (8192, BERT_WORDS, GPT2_WORDS),
        training_rows=64,
        published_training_rows=8,
        decoding_rows=64,
        published_decoding_rows=8,
        repeats=5,
        product=2048,
    )


def _small() -> Size:
    ours = recipe("qqp-small")
    published = recipe("qqp-paper")
    return Size(
        "small",
        ours,
        replace(published, system=_published_like(ours.system)),
        Gpt2Size(layers=6, heads=4, width=256),
        (8192, BERT_WORDS, GPT2_WORDS),
        training_rows=64,
        published_training_rows=8,
        decoding_rows=64,
        published_decoding_rows=8,
        repeats=7,
        product=1024,
    )


def _tiny() -> Size:
    ours, published = recipe("tiny"), recipe("qqp-paper")
    system = replace(ours.system, encoder_layers=1, decoder_layers=1, width=32, feed_forward=64, heads=2)
    return Size(
        "tiny",
        replace(ours, system=system),
        replace(published, system=replace(_published_like(system), sequence_length=64)),
        Gpt2Size(layers=2, heads=2, width=32),
        (64, 64, 64),
        training_rows=4,
        published_training_rows=2,
        decoding_rows=4,
        published_decoding_rows=2,
        repeats=1,
        product=128,
        ranges=Ranges((4, 8), (1, 2), (1, 2), (1, 2), (100, 1000)),
    )


def _published_like(ours: DiffuSeqConfig) -> PublishedConfig:
    """The published network with the depth and width of ours, and its own feed-forward of four widths."""
    return PublishedConfig(
        layers=ours.encoder_layers + ours.decoder_layers,
        heads=ours.heads,
        width=ours.width,
        feed_forward=4 * ours.width,
    )
