"""Our denoiser: the source is encoded once, and only target positions are computed at every step.

    source ids ─ encoder ─► memory (keys and values for every decoder layer, once a sentence)
    x_t, noise level of every position, last estimate ─ decoder(memory) ─► word distribution, x_0 estimate

Words live on a sphere of radius √d (unit variance a dimension), one table for both sides and for the
output. The output is a mixture of the vocabulary's softmax and of a pointer to the source's words (See et
al., 2017): a sequence-to-sequence target repeats names and rare words of its source, and the pointer learns
to do so from few pairs.

Who sees whom: every position all others (`decode`), or only the words that settled before it, whatever their
places (`decode_in_order`). The second needs an `Order`: when every position settles. One pass then predicts every
word of a target from what was there before it, as an autoregressive network does for the order from left to right
(Uria et al., 2014; Yang et al., 2019, "XLNet", with two streams as here), and what is kept of a settled word never
has to be computed again. The end of a target settles like a word: what settles after it knows how many words are
to come, what settles before it does not.

Legend: b rows, l target length, s source length, m positions, d embedding width, w width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq import kernels
from diffuseq.chunks import parts, whole
from diffuseq.dropout import Dropout
from diffuseq.model.blocks import DecoderBlock, EncoderBlock, Memory, Neighbours, rotary
from diffuseq.model.embeddings import INITIAL_RADIUS, LevelEmbedding, WordEmbedding
from diffuseq.model.order import Order, is_at, take
from diffuseq.model.packing import Packing, slots_of


@dataclass(frozen=True)
class Encoded:
    """The encoded source: states [b s w], ids [b s], padding [b s], each decoder layer's memory, and what the
    pointer compares with [b s w] (None: no pointer)."""

    states: Tensor
    ids: Tensor
    padding: Tensor
    memories: list[Memory]
    pointer_key: Tensor | None

    def repeat(self, times: int) -> Encoded:
        """Every row `times` times in a row: candidates and noise draws share one encoding."""
        if times == 1:
            return self
        return self._each(lambda part: part.repeat_interleave(times, 0))

    def select(self, rows: Tensor) -> Encoded:
        """Some of the rows."""
        return self._each(lambda part: part[rows])

    def with_room(self, positions: int) -> Encoded:
        """Room in the memories for so many positions of a target and one that nothing attends to; see
        `Denoiser.decode_places`, which writes into it."""
        memories = [memory.with_room(positions + 1) for memory in self.memories]
        return replace(self, memories=memories)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Encoded:
        return Encoded(
            change(self.states),
            change(self.ids),
            change(self.padding),
            [Memory(*map(change, memory)) for memory in self.memories],
            None if self.pointer_key is None else change(self.pointer_key),
        )


class Level(NamedTuple):
    """What the network knows of noise levels: the scale of its input [… 1], features [… w], and the modulation of
    the decoder's blocks [… 4 w]."""

    scale: Tensor
    features: Tensor
    modulation: Tensor

    def at(self, index: Tensor | int) -> Level:
        """Of a table of levels, those that `index` says [n l], or one."""
        return Level(*(part[index] for part in self))


SMALLEST = 1e-20
"""Probabilities below are taken for this, so that every word has a finite log-probability."""


class Denoiser(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        *,
        width: int,
        heads: int,
        feed_forward: int,
        encoder_layers: int,
        decoder_layers: int,
        embedding_width: int,
        dropout: float,
        copy: bool,
        self_conditioned: bool,
        longest_in_order: int | None = None,
        reader: nn.Module | None = None,
    ) -> None:
        """self_conditioned: whether `decode` will be given its last estimate. longest_in_order: the longest target
        that `decode_in_order` will see; None for networks whose positions see all others. reader: (ids [b s],
        padding [b s]) → states [b s w], encodes the source in the place of the `encoder_layers` of our own."""
        super().__init__()
        self.width, self.head_size = width, width // heads
        self.word_embedding = WordEmbedding(vocab_size, embedding_width)
        if reader is None:
            self.source_up = nn.Linear(embedding_width, width)
            self.source_neighbours = Neighbours(width)
        self.encoder = nn.ModuleList(
            EncoderBlock(width, heads, feed_forward, dropout)
            for _ in range(encoder_layers if reader is None else 0)
        )
        self.encoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.target_up = nn.Linear(embedding_width, width)
        self.target_neighbours = Neighbours(width)
        if self_conditioned:
            self.estimate_up = nn.Linear(embedding_width, width, bias=False)
        self.in_order = longest_in_order is not None
        if longest_in_order is not None:
            self.remaining_embedding = nn.Embedding(longest_in_order + 1, width)  # the last: unknown
        self.level_embedding = LevelEmbedding(width)
        self.modulation_head = nn.Linear(width, 4 * width)
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, feed_forward, dropout) for _ in range(decoder_layers)
        )
        self.decoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.word_head = nn.Linear(width, embedding_width, bias=False)
        self.word_bias = nn.Parameter(torch.zeros(vocab_size))
        self.copy = copy
        if copy:
            self.pointer_query_head = nn.Linear(width, width, bias=False)
            self.pointer_key_head = nn.Linear(width, width, bias=False)
            self.copy_head = nn.Linear(width, 1)
        self.dropout = Dropout(dropout)
        self._initialise()
        self.reader = reader

    def _initialise(self) -> None:
        depth = len(self.encoder) + len(self.decoder)
        if self.in_order:
            nn.init.normal_(self.remaining_embedding.weight, std=INITIAL_RADIUS)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and name.endswith("weight") and not name.endswith("embedding.weight"):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
                if name.endswith(
                    ("out.weight", "down.weight")
                ):  # the residual stream keeps its scale at any depth
                    parameter.data.mul_((2 * depth) ** -0.5)
        # words stand at radius √d, so that logits begin at variance one
        self.word_head.weight.data.mul_(self.word_embedding.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.modulation_head.weight)
        nn.init.zeros_(self.modulation_head.bias)

    def encode(self, ids: Tensor, padding: Tensor) -> Encoded:
        """Source ids [b s] → everything that the decoder needs of them. One of nothing but padding counts as one
        token of it: attention and the pointer need something to look at."""
        padding = padding.clone()
        padding[:, 0] = False
        if self.reader is not None:
            return self.remember(self.reader(ids, padding), ids, padding)
        return self.remember(self.read(self.word_embedding(ids), padding), ids, padding)

    def read(self, words: Tensor, padding: Tensor) -> Tensor:
        """Our own encoder: the source's embeddings [b s d] → states [b s w]."""
        mask, turn = ~padding[:, None, None, :], rotary(words.shape[1], self.head_size, words.device)
        states = self.dropout(self.source_neighbours(self.source_up(words), padding))
        for block in self.encoder:
            states = block(states, mask, turn)
        return states

    def remember(self, states: Tensor, ids: Tensor, padding: Tensor) -> Encoded:
        """What decoder and pointer keep of the states [b s w] of a source."""
        states = self.encoder_norm(states)
        turn = rotary(states.shape[1], self.head_size, states.device)
        memories = [cast(DecoderBlock, block).remember(states, turn) for block in self.decoder]
        return Encoded(states, ids, padding, memories, self.pointer_key_head(states) if self.copy else None)

    def level(self, log_snr: Tensor) -> Level:
        """What `decode` is told of noise of log_snr […].

        scale is α: α·x is the best linear guess of words of unit variance from x_t = α·x_0 + σ·ε (α² + σ² = 1).
        What noise hides is not read (Karras et al., 2022, section 5, scale a network's input by the level too):
        a position of pure noise looks like any other, not like a random word that must be unlearned. Clean
        words stay as they are, but for the schedule's end.
        """
        features = self.level_embedding(log_snr)
        modulation = self.modulation_head(F.silu(features)).unflatten(-1, (4, self.width))
        return Level(torch.sigmoid(log_snr).sqrt()[..., None], features, modulation)

    def decode(
        self, x: Tensor, level: Level, padding: Tensor, encoded: Encoded, estimate: Tensor | None = None
    ) -> Tensor:
        """Noisy target x [b l d] at its levels, each [b l] or [b 1] → states [b l w] for `distribution`.

        estimate: the last x_0 estimate [b l d], for a self-conditioned network.
        """
        hidden = self.target_neighbours(self._enter(x, level, estimate), padding)
        turn = rotary(x.shape[1], self.head_size, x.device)
        mask = ~torch.cat((encoded.padding, padding), dim=1)[:, None, None, :]
        for block, memory in zip(self.decoder, encoded.memories, strict=True):
            hidden = block(hidden, level.modulation, mask, turn, memory)
        return self.decoder_norm(hidden)

    def decode_in_order(
        self, words: Tensor, noise: Tensor, levels: Level, encoded: Encoded, order: Order
    ) -> Tensor:
        """States [b l w] of every position as it is while still noise, seeing the words before it.

        Two streams: the clean words [b l d], each seeing those before it and itself, and the noise [b l d], each
        seeing the clean words before it and itself. levels: the table of both, clean and noise, [2 …].
        """
        rows, length = words.shape[:2]
        stream = torch.arange(2, device=words.device).repeat_interleave(length)
        places = torch.arange(length, device=words.device).repeat(2).expand(rows, -1)
        clean = self._enter(words, levels.at(0))
        shared = self._known(clean, order)
        hidden = torch.cat((clean + shared, self._enter(noise, levels.at(1)) + shared), dim=1)
        modulation = levels.modulation[None]
        cosine, sine = (part.repeat(2, 1) for part in rotary(length, self.head_size, words.device))
        source = ~encoded.padding[:, None, :].expand(-1, 2 * length, -1)
        mask = torch.cat((source, order.seen_in_two_streams(places, stream == 1)), dim=2)[:, None]
        for block, memory in zip(self.decoder[:-1], encoded.memories[:-1], strict=True):
            hidden = block(hidden, modulation, mask, (cosine, sine), memory)
        # after the last block only the noise is asked for its states
        end, memory = self.decoder[-1], encoded.memories[-1]
        hidden = end(hidden, modulation, mask[:, :, length:], (cosine, sine), memory, last=length)
        return self.decoder_norm(hidden)

    def decode_places_in_order(
        self,
        words: Tensor,
        noise: Tensor,
        levels: Level,
        encoded: Encoded,
        order: Order,
        stale: Tensor,
        asked: Tensor,
    ) -> Tensor:
        """As `decode_in_order`, for some positions only: the states [b m w] of the places that are asked for [b m].

        stale [b k]: places of clean words that are computed; those elsewhere are attended to as the last call that
        had them left them in `encoded`, which is that of `Encoded.with_room(2 l)` and of one generation. A row with
        fewer places has l for the rest, whose states mean nothing.
        """
        (rows, length), number = words.shape[:2], asked.shape[1]
        places = torch.cat((stale, asked), 1)
        is_noise = torch.arange(places.shape[1], device=places.device) >= stale.shape[1]
        clean = self._enter(words, levels.at(0))
        noisy = self._enter(take(noise, asked), levels.at(1))
        hidden = torch.cat((take(clean, stale), noisy), 1) + take(self._known(clean, order), places)
        modulation = levels.modulation[is_noise.long()].expand(rows, -1, -1, -1)
        source = ~encoded.padding[:, None, :].expand(-1, places.shape[1], -1)
        mask = torch.cat((source, F.pad(order.seen_in_two_streams(places, is_noise), (0, 1))), dim=2)
        slots = (places + length * is_noise).masked_fill(places == length, 2 * length)
        slots = slots + encoded.padding.shape[1]
        packing = self._packing(places, length)
        return self.decode_slots(
            hidden, modulation, places, slots, mask, encoded.memories, last=number, packing=packing
        )

    def decode_places(
        self,
        x: Tensor,
        level: Level,
        padding: Tensor,
        encoded: Encoded,
        places: Tensor,
        estimate: Tensor | None = None,
        order: Order | None = None,
    ) -> Tensor:
        """As `decode`, at some positions only: places [b m] → states [b m w].

        The other positions are attended to as the last call that had them left them in `encoded`, which is
        that of `Encoded.with_room(l)` and of one generation. A row with fewer than m positions has l for the
        rest, whose states mean nothing. level.modulation is that of the places [b m 4 w]. order: a position
        sees those before it and itself, as in `decode_in_order`, instead of all.
        """
        hidden = self._enter(x, level, estimate)
        if order is None:
            hidden = self.target_neighbours(hidden, padding)
            seen = ~padding[:, None, :].expand(-1, places.shape[1], -1)
        else:
            hidden = hidden + self._known(hidden, order)
            seen = order.before(places) | is_at(places, x.shape[1])
        hidden = take(hidden, places)
        source = ~encoded.padding[:, None, :].expand(-1, places.shape[1], -1)
        mask = torch.cat((source, F.pad(seen, (0, 1))), dim=2)
        slots = places + encoded.padding.shape[1]
        packing = self._packing(places, x.shape[1])
        return self.decode_slots(
            hidden, level.modulation, places, slots, mask, encoded.memories, packing=packing
        )

    def _packing(self, places: Tensor, length: int) -> Packing | None:
        """Which of the places [b m] are within the length; None where all are, and on a GPU, which would wait for
        the answer."""
        within = places < length
        return None if places.device.type != "cpu" or within.all() else Packing.of(within)

    def decode_slots(
        self,
        hidden: Tensor,
        modulation: Tensor,
        places: Tensor,
        slots: Tensor,
        mask: Tensor,
        memories: list[Memory],
        last: int | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """The decoder's blocks for what enters at the places [b m w]: slots [b m] are the places in the
        memories, which get new keys and values there, and mask [b m s+l+1] is True where there is a token that
        the place sees. last: the states of so many of the last places are asked for, of all by default. packing:
        the places that stand for something, where the others are to be left out; their states are zeros."""
        # as long as the memories, which is longer than any place: what is exported knows no other size
        cosine, sine = rotary(mask.shape[2], self.head_size, mask.device)
        if packing is None:
            turn = cosine[places][:, None], sine[places][:, None]
        else:
            hidden, modulation, places = (packing.pack(part) for part in (hidden, modulation, places))
            turn = cosine[places], sine[places]
        at = slots_of(slots, packing)
        for block, memory in zip(self.decoder[:-1], memories[:-1], strict=True):
            hidden = block(hidden, modulation, mask[:, None], turn, memory, at, None, packing, packing)
        ending = packing if packing is None or last is None else packing.last(last)
        mask = mask[:, None] if last is None else mask[:, None, -last:]
        states = self.decoder_norm(
            self.decoder[-1](hidden, modulation, mask, turn, memories[-1], at, last, packing, ending)
        )
        return states if ending is None else ending.unpack(states)

    def _enter(self, x: Tensor, level: Level, estimate: Tensor | None = None) -> Tensor:
        """What positions bring along [b l w], before they hear of others."""
        hidden = self.target_up(x * level.scale.to(x.dtype))
        if estimate is not None:
            hidden = hidden + self.estimate_up(estimate)
        return hidden + level.features

    def _known(self, clean: Tensor, order: Order) -> Tensor:
        """What every position knows of others before attention [b l w]: how many words follow, or that this is not
        known yet, for who does not see the others cannot count them; and what it hears of its neighbours."""
        unknown = self.remaining_embedding.num_embeddings - 1
        place = torch.arange(order.rank.shape[1], device=order.rank.device)
        after = (order.length[:, None] - 1 - place).clamp(0, unknown - 1)
        remaining = torch.where(order.rank > order.end[:, None], after, unknown)
        return self.remaining_embedding(remaining) + self.target_neighbours.before(
            clean, order.seen, order.rank
        )

    def logits(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """Scores of the vocabulary [… v] for states [… w].

        table: the word table [v d] where it is at hand already; normalising it takes an eighth of the time of a
        call for one sentence, and no call of a generation changes it.
        """
        table = self.word_embedding.table() if table is None else table
        return self._scores(hidden, table) + self.word_bias

    def _scores(self, hidden: Tensor, table: Tensor) -> Tensor:
        """`logits` less their bias."""
        return self.word_head(hidden) @ table.T.to(hidden.dtype)

    def pointing(
        self, hidden: Tensor, encoded: Encoded
    ) -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
        """log_copy and log_generate [b l], log-probabilities of taking a word from the source or from the
        vocabulary, and the pointer [b l s] over the source's positions."""
        if encoded.pointer_key is None:
            return None, None, None
        query = self.pointer_query_head(hidden)
        score = query @ encoded.pointer_key.transpose(1, 2) / math.sqrt(self.width)
        score = score.float().masked_fill(encoded.padding[:, None, :], float("-inf"))
        choice = self.copy_head(hidden).float().squeeze(-1)
        return F.logsigmoid(choice), F.logsigmoid(-choice), score.softmax(-1)

    def nats_of_words(self, hidden: Tensor, target: Tensor, with_uniform: bool) -> tuple[Tensor, Tensor]:
        """−log p [n] of words [n] by the vocabulary's softmax alone, of states [n w], and its mean over all words;
        the first once more where that is not wanted, for it takes another look at every score."""
        if kernels.fit(hidden) and kernels.are_few(self.word_bias):
            return kernels.word_nats(
                self._scores(hidden, self.word_embedding.table()), self.word_bias, target
            )
        logits = self.logits(hidden).float()
        if not with_uniform:
            plain = F.cross_entropy(logits, target, reduction="none")
            return plain, plain
        log_p = logits.log_softmax(-1)
        return -log_p.gather(-1, target[:, None])[:, 0], -log_p.mean(-1)

    def nats_of_labels(
        self, hidden: Tensor, target: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By the vocabulary's softmax alone, of states [n w]: −log p [n] of words [n], the cross-entropy [n] with
        labels [n v], and log p [n s] of other words [n s]."""
        log_p = self.logits(hidden).float().log_softmax(-1)
        return -log_p.gather(-1, target[:, None])[:, 0], -(labels * log_p).sum(-1), log_p.gather(-1, ids)

    def compile_parts(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks and the losses, for training; one block's code serves all of its kind, so that this
        takes seconds where the whole network would take minutes."""

        def in_training(plain: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *given, **named: (compiled if self.training else plain)(*given, **named)

        for block in (*self.encoder, *self.decoder):
            block.forward = in_training(block.forward, torch.compile(block.forward, *args, **kwargs))
        for name in ("nats_of_words", "nats_of_labels"):
            plain = getattr(self, name)
            setattr(self, name, in_training(plain, torch.compile(plain, *args, **kwargs)))

    def distribution(
        self, hidden: Tensor, encoded: Encoded, where: Tensor | None = None, table: Tensor | None = None
    ) -> Tensor:
        """p of every word [m v] at the positions `where` [b l] of the states, or at all, row by row: softmax and
        pointer together."""
        return whole(self.distributions(hidden, encoded, where, table))

    def distributions(
        self, hidden: Tensor, encoded: Encoded, where: Tensor | None = None, table: Tensor | None = None
    ) -> Iterator[Tensor]:
        """`distribution`, a part of the positions at a time (`diffuseq.chunks`)."""

        def asked(part: Tensor) -> Tensor:
            return part.flatten(0, 1) if where is None else part[where]

        states, table = asked(hidden), self.word_embedding.table() if table is None else table
        log_copy, log_generate, pointer = self.pointing(hidden, encoded)
        pointed = None
        if log_copy is not None and log_generate is not None and pointer is not None:
            given = encoded.ids[:, None, :].expand_as(pointer), pointer * log_copy.exp()[..., None]
            pointed = [asked(part) for part in (*given, log_generate.exp()[..., None])]
        for part in parts(len(states), len(table), states.device):
            probability = self.logits(states[part], table).float().softmax(-1)
            if pointed is not None:
                ids, copied, generated = (each[part] for each in pointed)
                probability.mul_(generated).scatter_add_(-1, ids, copied)
            yield probability.clamp_min_(SMALLEST)
