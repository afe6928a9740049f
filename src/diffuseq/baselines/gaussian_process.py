"""Gaussian processes over the positions of a source: their kernel, and the KL divergence to them.

Every latent dimension is a process of its own; all of them share one kernel. Where a source has padding
the prior is an independent standard normal, so that padding adds nothing.

Legend: b sources, s positions, f features that the kernel compares, d latent dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

JITTER = 1e-4
"""Share of the kernel's variance that is added to its diagonal; equal positions would make it singular."""


def covariance(features: Tensor, padding: Tensor, variance: float, length: float) -> Tensor:
    """The squared exponential kernel v·exp(−|f_i − f_j|² / 2r²), as a matrix [b s s].

    features [b s f]; padding: bool [b s]; variance v and length r as in Du et al. (2022).
    """
    features = features.float()
    # The exact distances: the usual shortcut by products loses the small ones, which are all that count.
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    kernel = variance * torch.exp(-0.5 * (distance / length) ** 2)
    identity = torch.eye(features.shape[1], device=features.device)
    kernel = kernel + JITTER * variance * identity
    return torch.where(padding[:, :, None] | padding[:, None, :], identity, kernel)


def kl_divergence(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, root: Tensor, padding: Tensor
) -> Tensor:
    """KL(q ‖ p) in nats for each source [b], a sum over positions and latent dimensions.

    q: independent normals with `mean` and `log_variance` [b s d]; p: in every dimension a normal with
    `prior_mean` [b s d] and covariance L Lᵀ, L = `root` [b s s] lower triangular; padding: bool [b s].
    """
    hidden = padding[..., None]
    difference = (prior_mean - mean).float().masked_fill(hidden, 0.0)
    log_variance = log_variance.float().masked_fill(hidden, 0.0)
    inverse = torch.linalg.solve_triangular(root, torch.eye(root.shape[1], device=root.device), upper=False)
    precision = inverse.square().sum(1)  # the diagonal of the inverse covariance, [b s]
    trace = precision * log_variance.exp().sum(-1)
    # Solved, not multiplied: bf16 autocast would round the product.
    distance = torch.linalg.solve_triangular(root, difference, upper=False).square().sum(-1)
    log_determinant = 2 * root.diagonal(dim1=1, dim2=2).log()
    dims = mean.shape[-1]
    return 0.5 * (trace + distance - dims + dims * log_determinant - log_variance.sum(-1)).sum(1)
