"""What the words of a target cost a denoiser: −log p, and what training descends in its place.

The output is a mixture of the vocabulary's softmax and of a pointer to the source's words; either is asked once.
Where there would be more than `SCORES` scores of the vocabulary, only so many are there at once, and again in the
backward pass: the vocabulary never decides how much memory a step takes.

Legend: b rows, l target length, s source length, n positions, w width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffuseq.model.denoiser import Denoiser, Encoded

SCORES = 1 << 27
"""Scores of words that a step of training holds at once on a CPU: half a gigabyte in single precision."""
SCORES_ON_GPU = 1 << 29
"""And on a GPU, where computing them twice costs more than two gigabytes do."""


def negative_log_likelihood(
    network: Denoiser, hidden: Tensor, encoded: Encoded, target: Tensor, where: Tensor | None = None
) -> Tensor:
    """−log p of the target ids [b l], flattened; only at the positions `where` [b l], if given: the softmax of
    the vocabulary is the dearest part of a step."""
    return word_losses(network, hidden, encoded, target, where)[0]


def word_losses(
    network: Denoiser,
    hidden: Tensor,
    encoded: Encoded,
    target: Tensor,
    where: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    vocabulary: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """`negative_log_likelihood`, and what training descends in its place, as many.

    smoothing: label smoothing (Szegedy et al., 2016); what the pointer gives to other words is left out of it.
    vocabulary: weight of the softmax alone beside its mixture with the pointer.
    """

    def asked(part: Tensor) -> Tensor:
        return part.flatten(0, 1) if where is None else part[where]

    nats = partial(network.nats_of_words, with_uniform=smoothing > 0)
    plain, uniform = _in_parts(network, nats, asked(hidden), asked(target))
    plain_loss = torch.lerp(plain, uniform, smoothing)
    log_copy, log_generate, pointer = network.pointing(hidden, encoded)
    if log_copy is None or log_generate is None or pointer is None:
        return plain, plain_loss
    same = target[:, :, None] == encoded.ids[:, None, :]
    pointed = asked((pointer * same).sum(-1))
    log_generate = asked(log_generate)
    mixed = -_mixture(log_generate, -plain, asked(log_copy), pointed)
    mixed_loss = torch.lerp(mixed, uniform - log_generate, smoothing)
    return mixed, (mixed_loss + vocabulary * plain_loss) / (1 + vocabulary)


def label_losses(
    network: Denoiser,
    hidden: Tensor,
    encoded: Encoded,
    target: Tensor,
    labels: Tensor,
    *,
    vocabulary: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """`negative_log_likelihood` of the target ids [b l], and what training descends in its place where every
    word of the vocabulary has a probability to learn, labels [b l v]: the cross-entropy with them.

    Only the words of the source have more than the softmax gives them, so that the pointer is asked for these.
    vocabulary: as in `word_losses`.
    """
    ids = encoded.ids[:, None, :].expand(-1, hidden.shape[1], -1)
    given = [part.flatten(0, 1) for part in (hidden, target, labels, ids)]
    plain, plain_loss, of_source = _in_parts(network, network.nats_of_labels, *given)
    log_copy, log_generate, pointer = network.pointing(hidden, encoded)
    if log_copy is None or log_generate is None or pointer is None:
        return plain, plain_loss
    pointed = (pointer * (target[:, :, None] == ids)).sum(-1)
    mixed = -_mixture(log_generate.flatten(), -plain, log_copy.flatten(), pointed.flatten())
    same = (encoded.ids[:, :, None] == encoded.ids[:, None, :]) & ~encoded.padding[:, :, None]
    log_softmax = of_source.unflatten(0, target.shape)
    known = _mixture(log_generate[..., None], log_softmax, log_copy[..., None], pointer @ same.float())
    gained = known - (log_generate[..., None] + log_softmax)
    # a word that stands in the source several times counts once
    weight = (labels.gather(-1, ids) / same.sum(1).clamp_min(1)[:, None, :]).masked_fill(
        encoded.padding[:, None, :], 0.0
    )
    mixed_loss = plain_loss - ((weight * gained).sum(-1) + log_generate).flatten()
    return mixed, (mixed_loss + vocabulary * plain_loss) / (1 + vocabulary)


def _in_parts(
    network: Denoiser, compute: Callable[..., tuple[Tensor, ...]], *given: Tensor
) -> tuple[Tensor, ...]:
    """`compute` of tensors [n …], which makes the scores of the vocabulary for each of the n, part by part."""
    most = SCORES if given[0].device.type == "cpu" else SCORES_ON_GPU
    rows = max(1, most // len(network.word_bias))
    if len(given[0]) <= rows:
        return compute(*given)
    again = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)  # nothing is random
    parts = zip(*(tensor.split(rows) for tensor in given), strict=True)
    found = [cast(tuple[Tensor, ...], again(*part)) for part in parts]
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def _mixture(log_generate: Tensor, log_softmax: Tensor, log_copy: Tensor, pointed: Tensor) -> Tensor:
    """log p of a word, which the vocabulary gives log_softmax and the pointer `pointed`."""
    return torch.logaddexp(log_generate + log_softmax, log_copy + pointed.clamp_min(1e-9).log())
