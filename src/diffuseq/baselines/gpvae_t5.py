"""GPVAE-T5: diverse text by Gaussian-process priors (Du, Zhao, Wang and Ji, 2022, arXiv 2204.01227).

T5 with a latent z for every source position. The encoder's states h give the posterior
q(z | x) = N(A h, diag exp(B h)) and the prior p(z | x) = N(C h, K(h, h)), a Gaussian process; the decoder
sees h + W z. The network is transformers' own T5; the latent is ours.

Legend: b sources, k candidates, c rows a candidate, s source length, t target length, d width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffuseq import pretrained
from diffuseq.baselines.autoregressive import Autoregressive, closed, opened
from diffuseq.baselines.configs import GpvaeT5Config
from diffuseq.baselines.gaussian_process import covariance, kl_divergence
from diffuseq.data.batch import Batch
from diffuseq.errors import InputError
from diffuseq.system import Loss, Request, SpecialTokens


@dataclass(frozen=True)
class T5State:
    """memory: what the decoder sees of the source [n s d]; visible: bool [n s], where it has a token;
    cache: transformers' keys and values, written in place.
    """

    memory: Tensor
    visible: Tensor
    cache: Any

    @property
    def device(self) -> torch.device:
        return self.memory.device

    def select(self, rows: Tensor) -> T5State:
        # Rows move within a source only, so that what was read of it stays where it is.
        self.cache.self_attention_cache.reorder_cache(rows)
        return self


@dataclass(frozen=True)
class Encoded:
    """The encoder's states [b s d], where there is no token: bool [b s], and the posterior [b s d] each."""

    states: Tensor
    padding: Tensor
    mean: Tensor
    log_variance: Tensor


class GpvaeT5(Autoregressive):
    """Each candidate has a latent of its own, so that greedy and beam search give different candidates too.

    `config` becomes one that builds the same network without `name`, so that a saved model opens offline.
    Raises `InputError` for weights that cannot be loaded or belong to another tokenizer.
    """

    config: GpvaeT5Config

    def __init__(self, config: GpvaeT5Config, special: SpecialTokens) -> None:
        if config.weights == "pretrained":
            network = pretrained.load("T5Model", config.name, special, dropout_rate=config.dropout)
            config = _described(config, network.config)
        else:
            network = pretrained.transformers().T5Model(_architecture(config, special))
        super().__init__(config, special)
        self.label_smoothing = config.label_smoothing
        self.embedding = network.shared
        self.encoder, self.decoder = network.encoder, network.decoder
        # We look words up ourselves: one matrix under one name is saved once.
        self.encoder.embed_tokens = self.decoder.embed_tokens = None
        self.mean = nn.Linear(config.width, config.width)
        self.log_variance = nn.Linear(config.width, config.width)
        self.prior_mean = nn.Linear(config.width, config.width)
        self.write = nn.Linear(config.width, config.width, bias=False)
        for layer in (self.mean, self.log_variance, self.prior_mean, self.write):
            # Almost nothing at first, as released: training starts from T5 itself.
            for weight in layer.parameters():
                nn.init.normal_(weight, std=1e-4)

    @property
    def start(self) -> int:
        return self.special.pad  # T5 has no start token; its decoder opens with the padding token.

    @property
    def draws_latents(self) -> bool:
        return self.config.scalar > 0

    def encode(self, source: Tensor, source_padding: Tensor) -> Encoded:
        """Read the source with its end token."""
        tokens, padding = closed(source, source_padding, self.special)
        states = self.encoder(inputs_embeds=self.embedding(tokens), attention_mask=~padding).last_hidden_state
        return Encoded(states, padding, self.mean(states), self.log_variance(states))

    def prior(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """The Gaussian process's mean [b s d] and the root L [b s s] of its covariance L Lᵀ."""
        features = encoded.states
        if self.config.kernel_of == "positions":
            features = torch.arange(features.shape[1], device=features.device).expand(len(features), -1)[
                ..., None
            ]
        kernel = covariance(features, encoded.padding, self.config.kernel_variance, self.config.kernel_length)
        return self.prior_mean(encoded.states), torch.linalg.cholesky(kernel)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The negative evidence lower bound a target token; the latent's noise comes from `generator`."""
        encoded = self.encode(batch.source, batch.source_padding)
        noise = torch.randn(
            encoded.mean.shape, generator=generator, device=generator.device if generator else None
        )
        latent = encoded.mean + (0.5 * encoded.log_variance).exp() * noise.to(encoded.mean)
        inputs, padding = opened(batch.target, batch.target_padding, self.start)
        hidden = self.write_text(encoded, latent, inputs, padding)
        loss = self.target_loss(hidden, batch)
        mean, root = self.prior(encoded)
        kl = kl_divergence(encoded.mean, encoded.log_variance, mean, root, encoded.padding)
        kl = kl.sum() / (~padding).sum()
        value = loss.value + self.config.kl_weight * kl
        return Loss(value, {**loss.logs, "kl": kl.detach()}, weight=loss.weight)

    def write_text(self, encoded: Encoded, latent: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        """The decoder's hidden states [b t d] after each of `inputs` [b t]."""
        return self.decoder(
            inputs_embeds=self.embedding(inputs),
            attention_mask=~input_padding,
            encoder_hidden_states=encoded.states + self.write(latent),
            encoder_attention_mask=~encoded.padding,
            use_cache=False,
        ).last_hidden_state

    def decode(self, source: Tensor, source_padding: Tensor, inputs: Tensor, input_padding: Tensor) -> Tensor:
        """Teacher forcing with the latent at its posterior's mean."""
        encoded = self.encode(source, source_padding)
        return self.write_text(encoded, encoded.mean, inputs, input_padding)

    def project(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden * self.config.width**-0.5, self.embedding.weight)

    def draw(self, encoded: Encoded, seeds: list[int]) -> Tensor:
        """Latents [b·k s d] for the candidates side by side, each from its own seed; `scalar` widens them."""
        candidates = len(seeds) // len(encoded.states)
        noise = encoded.mean.new_zeros(len(seeds), *encoded.mean.shape[1:])
        lengths = (~encoded.padding).sum(1).repeat_interleave(candidates).tolist()
        for row, (seed, length) in enumerate(zip(seeds, lengths, strict=True)):
            # A stream of its own, apart from the one that chooses words.
            generator = torch.Generator().manual_seed((seed ^ 0x9E3779B97F4A7C15) % 2**63)
            noise[row, :length] = torch.randn(length, noise.shape[2], generator=generator).to(noise)
        if self.config.sample_from == "prior":
            mean, root = self.prior(encoded)
            spread = root.repeat_interleave(candidates, dim=0) @ noise
        else:
            mean = encoded.mean
            spread = (0.5 * encoded.log_variance).exp().repeat_interleave(candidates, dim=0) * noise
        return mean.repeat_interleave(candidates, dim=0) + self.config.scalar * spread

    def begin(self, request: Request, copies: int, room: int) -> T5State:
        encoded = self.encode(request.source, request.source_padding)
        if self.draws_latents:
            latent = self.draw(encoded, request.seeds)
        else:
            latent = (
                encoded.mean if self.config.sample_from == "posterior" else self.prior_mean(encoded.states)
            )
        repeats = len(latent) // len(encoded.states)
        memory = encoded.states.repeat_interleave(repeats, dim=0) + self.write(latent)
        visible = (~encoded.padding).repeat_interleave(repeats * copies, dim=0)
        package = pretrained.transformers()
        cache = package.EncoderDecoderCache(package.DynamicCache(), package.DynamicCache())
        return T5State(memory.repeat_interleave(copies, dim=0), visible, cache)

    def step(self, tokens: Tensor, state: T5State) -> tuple[Tensor, T5State]:
        output = self.decoder(
            inputs_embeds=self.embedding(tokens[:, None]),
            encoder_hidden_states=state.memory,
            encoder_attention_mask=state.visible,
            past_key_values=state.cache,
            use_cache=True,
        )
        return self.project(output.last_hidden_state[:, -1]), state


def _architecture(config: GpvaeT5Config, special: SpecialTokens) -> Any:
    return pretrained.transformers().T5Config(
        vocab_size=special.vocab_size,
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.feed_forward,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=config.dropout,
        pad_token_id=special.pad,
        eos_token_id=special.end,
        decoder_start_token_id=special.pad,
    )


def _described(config: GpvaeT5Config, found: Any) -> GpvaeT5Config:
    """The config with the sizes of a loaded network. Raises `InputError` for a later variant of T5."""
    plain = pretrained.transformers().T5Config(num_layers=found.num_layers)
    for name in ("feed_forward_proj", "scale_decoder_outputs", "num_decoder_layers", "layer_norm_epsilon"):
        if getattr(found, name) != getattr(plain, name):
            raise InputError(
                f"{config.name!r} differs from the T5 of 2020 in {name} ({getattr(found, name)!r}); "
                "use t5-small, t5-base or t5-large."
            )
    return replace(
        config,
        weights="saved",
        layers=found.num_layers,
        heads=found.num_heads,
        width=found.d_model,
        head_width=found.d_kv,
        feed_forward=found.d_ff,
    )
