"""MAUVE (Pillutla et al. 2021): how close the distribution of answers is to that of the references.

Features of both sides are clustered together; the two histograms over clusters give a divergence frontier,
and MAUVE is the area under it, in 0…1. It needs some hundred texts to mean anything, and numbers are
comparable only between runs with the same language model, number of texts and seed.

Legend: n texts on one side, d width of the features, k clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SCALE = 5.0  # c of the paper
_VARIANCE = 0.9  # share of the variance that the principal components keep
_MIXTURES = 25
_ROUNDS = 50

Floats = NDArray[np.float64]


def mauve(ours: Floats, theirs: Floats, seed: int = 0, clusters: int | None = None) -> float:
    """MAUVE of features [n d] of the answers against [n d] of the references; k = n / 10 unless given."""
    k = max(2, round(min(len(ours), len(theirs)) / 10)) if clusters is None else clusters
    labels = _cluster(_project(np.concatenate([ours, theirs])), k, np.random.default_rng(seed))
    p = np.bincount(labels[: len(ours)], minlength=k) / len(ours)
    q = np.bincount(labels[len(ours) :], minlength=k) / len(theirs)
    return frontier_area(p, q)


def frontier_area(p: Floats, q: Floats) -> float:
    """The area under {(exp(−c·KL(q‖r)), exp(−c·KL(p‖r)))} for mixtures r of two histograms [k] (Eq. 2)."""
    shares = np.linspace(1e-6, 1 - 1e-6, _MIXTURES)[:, None]
    mixtures = shares * p + (1 - shares) * q
    first = np.r_[0.0, np.exp(-_SCALE * _divergence(q, mixtures)), 1.0]
    second = np.r_[1.0, np.exp(-_SCALE * _divergence(p, mixtures)), 0.0]
    order = np.lexsort((-second, first))
    return float(np.trapezoid(second[order], first[order]))


def _divergence(p: Floats, mixtures: Floats) -> Floats:
    """KL(p ‖ r) for every mixture: [_MIXTURES]."""
    there = p > 0
    return np.asarray((p[there] * np.log(p[there] / mixtures[:, there])).sum(axis=1))


def _project(features: Floats) -> Floats:
    """Unit-norm features on the principal components that keep most of the variance: [n c]."""
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    centred = features - features.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(scales**2) / max(float((scales**2).sum()), 1e-12)
    return np.asarray(centred @ axes[: int(np.searchsorted(share, _VARIANCE)) + 1].T)


def _cluster(points: Floats, k: int, random: np.random.Generator) -> NDArray[np.int64]:
    """k-means, started by k-means++ (Arthur and Vassilvitskii 2007): the cluster of each point [n]."""
    centres = points[random.integers(len(points))][None]
    nearest = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < k:
        total = nearest.sum()
        chance = nearest / total if total > 0 else None
        centres = np.concatenate([centres, points[random.choice(len(points), p=chance)][None]])
        nearest = np.minimum(nearest, ((points - centres[-1]) ** 2).sum(axis=1))
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        distances = (centres**2).sum(axis=1) - 2 * points @ centres.T
        updated = distances.argmin(axis=1)
        if (updated == labels).all():
            break
        labels = updated
        for i in range(k):
            if (labels == i).any():
                centres[i] = points[labels == i].mean(axis=0)
    return labels
