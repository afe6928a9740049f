"""GPT-2 (Radford et al., 2019) fine-tuned for sequence to sequence: source, separator, target, end.

The network is transformers' own. The start token is the separator, and the loss counts the target alone.

Legend: b sources, c rows a source, n = b·c rows, s source length, t target length, d width, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffuseq import pretrained
from diffuseq.baselines.autoregressive import Autoregressive
from diffuseq.baselines.configs import Gpt2Config
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.system import Request, SpecialTokens


@dataclass(frozen=True)
class Gpt2State:
    """cache: transformers' keys and values of source and tokens, n rows, written in place; real: bool
    [n s+t], where it has a token; positions: [n], of the next token.
    """

    cache: Any
    real: Tensor
    positions: Tensor

    @property
    def device(self) -> torch.device:
        return self.real.device

    def select(self, rows: Tensor) -> Gpt2State:
        # `real` and `positions` depend on the source alone, and rows move within a source only.
        self.cache.reorder_cache(rows)
        return self


class Gpt2(Autoregressive):
    """A decoder that reads the source as the beginning of its own text.

    `config` becomes one that builds the same network without `name`, so that a saved model opens offline.
    Raises `InputError` for weights that cannot be loaded or belong to another tokenizer.
    """

    config: Gpt2Config

    def __init__(self, config: Gpt2Config, special: SpecialTokens) -> None:
        dropout = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout)
        if config.weights == "pretrained":
            network = pretrained.load("GPT2Model", config.name, special, **dropout)
            config = _described(config, network.config)
        else:
            network = pretrained.transformers().GPT2Model(_architecture(config, special, dropout))
        super().__init__(config, special)
        self.label_smoothing = config.label_smoothing
        self.network = network

    def check_lengths(self, source: int, target: int) -> None:
        length = source + 1 + target
        if length > self.config.max_length:
            raise InputError(
                f"Source, separator and target have up to {length} tokens together, but this system takes "
                f"{self.config.max_length}; shorten them or build the system with a larger max_length."
            )

    def check_batch(self, batch: Batch) -> None:
        """Padding takes no position, so that the longest source and the longest target may be too long together."""
        # by the padded lengths first, which no GPU has to be waited for
        if batch.source.shape[1] + 1 + batch.target.shape[1] > self.config.max_length:
            lengths = torch.stack([(~batch.source_padding).sum(1), (~batch.target_padding).sum(1)])
            source, target = lengths[:, lengths.sum(0).argmax()].tolist()
            self.check_lengths(source, target)

    def longest_answer(self, source: int) -> int | None:
        return self.config.max_length - source - 1

    def read(self, tokens: Tensor, real: Tensor, positions: Tensor, cache: Any = None) -> Any:
        """The output for `tokens` [n t] at `positions` [n t]; real: bool [n s+t], with the cached ones."""
        return self.network(
            tokens,
            attention_mask=real,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )

    def decode(self, source: Tensor, source_padding: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        # Short sources leave a gap before the separator; the mask hides it and the positions skip it.
        real = torch.cat([~source_padding, ~input_padding], dim=1)
        output = self.read(torch.cat([source, inputs], dim=1), real, _positions(real))
        return output.last_hidden_state[:, source.shape[1] :]

    def project(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.network.wte.weight)

    def begin(self, request: Request, copies: int, room: int) -> Gpt2State:
        real = ~request.source_padding
        cache = pretrained.transformers().DynamicCache(config=self.network.config)
        self.read(request.source, real, _positions(real), cache)
        cache.batch_repeat_interleave(copies)
        return Gpt2State(cache, real.repeat_interleave(copies, dim=0), real.sum(1).repeat_interleave(copies))

    def step(self, tokens: Tensor, state: Gpt2State) -> tuple[Tensor, Gpt2State]:
        real = F.pad(state.real, (0, 1), value=True)
        output = self.read(tokens[:, None], real, state.positions[:, None], state.cache)
        return self.project(output.last_hidden_state[:, -1]), replace(
            state, real=real, positions=state.positions + 1
        )


def _positions(real: Tensor) -> Tensor:
    """The position [n t] of every token among the real ones of its row."""
    return (real.cumsum(1) - 1).clamp(min=0)


def _architecture(config: Gpt2Config, special: SpecialTokens, dropout: dict[str, float]) -> Any:
    if config.width % config.heads:
        raise InputError(
            f"A width of {config.width} cannot be split into {config.heads} heads; "
            "choose a width that is a multiple of heads."
        )
    return pretrained.transformers().GPT2Config(
        vocab_size=special.vocab_size,
        n_positions=config.max_length,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        bos_token_id=special.start,
        eos_token_id=special.end,
        pad_token_id=special.pad,
        **dropout,
    )


def _described(config: Gpt2Config, found: Any) -> Gpt2Config:
    """The config with the sizes of a loaded network. Raises `InputError` for a variant of GPT-2."""
    plain = pretrained.transformers().GPT2Config()
    for name in ("activation_function", "n_inner", "layer_norm_epsilon", "scale_attn_by_inverse_layer_idx"):
        if getattr(found, name) != getattr(plain, name):
            raise InputError(
                f"{config.name!r} differs from GPT-2 in {name} ({getattr(found, name)!r}); "
                "use a GPT-2 of OpenAI's architecture, such as 'gpt2' or 'gpt2-large'."
            )
    return replace(
        config,
        weights="saved",
        layers=found.n_layer,
        heads=found.n_head,
        width=found.n_embd,
        max_length=found.n_positions,
    )
