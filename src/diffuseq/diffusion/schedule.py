"""Noise schedules: time → alpha, sigma and log-SNR, and back.

A schedule is a small immutable value computed in float64, never a buffer of a network. The forward process
at time u is x_u = alpha(u)·x_0 + sigma(u)·ε with alpha² + sigma² = 1; u = 0 is the clean end and u = 1 the
noisy one; log-SNR means log(alpha²/sigma²). Every method takes a float or a tensor of any shape and gives a
float64 tensor of that shape (float32 on a device that has no other).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from diffuseq.devices import finest_float
from diffuseq.errors import InputError, unknown_name

_LEAST_ALPHA_BAR = 1e-20
"""Some published schedules end at ᾱ = 0 exactly; its logarithm is taken here instead of at −∞."""
_LARGEST_BETA = 0.999


class Schedule(ABC):
    """How much signal and how much noise there is at a time u in [0, 1]."""

    @abstractmethod
    def log_snr(self, u: float | Tensor) -> Tensor:
        """log(alpha²/sigma²) at time u, falling in u."""

    @abstractmethod
    def time(self, log_snr: float | Tensor) -> Tensor:
        """The time at which the schedule has this log-SNR: the inverse of `log_snr`."""

    def alpha(self, u: float | Tensor) -> Tensor:
        """Share of the signal at time u."""
        return torch.sigmoid(self.log_snr(u)).sqrt()

    def sigma(self, u: float | Tensor) -> Tensor:
        """Standard deviation of the noise at time u."""
        return torch.sigmoid(-self.log_snr(u)).sqrt()

    @property
    def lowest_time(self) -> float:
        """Time of the lowest noise level that a network is trained on."""
        return 0.0


@dataclass(frozen=True)
class LogLinearSchedule(Schedule):
    """log-SNR falls linearly in time, from `log_snr_max` at u = 0 to `log_snr_min` at u = 1.

    Uniform times then spread the training evenly over noise levels (Kingma et al., 2021, "Variational
    Diffusion Models", section 5.1: only the ends of the schedule matter to the objective).
    """

    log_snr_max: float
    log_snr_min: float

    def __post_init__(self) -> None:
        _check_ends(self.log_snr_max, self.log_snr_min)

    def log_snr(self, u: float | Tensor) -> Tensor:
        return self.log_snr_max + (self.log_snr_min - self.log_snr_max) * _finely(u)

    def time(self, log_snr: float | Tensor) -> Tensor:
        return (_finely(log_snr) - self.log_snr_max) / (self.log_snr_min - self.log_snr_max)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """alpha = cos φ with the angle φ linear in time, cut off at two log-SNRs.

    The continuous form of Nichol & Dhariwal (2021), as in Hoogeboom et al. (2023, "simple diffusion"):
    log-SNR = −2·log tan φ.
    """

    log_snr_max: float = 15.0
    log_snr_min: float = -15.0

    def __post_init__(self) -> None:
        _check_ends(self.log_snr_max, self.log_snr_min)

    def log_snr(self, u: float | Tensor) -> Tensor:
        first, last = self._angles
        return -2 * torch.tan(first + (last - first) * _finely(u)).log()

    def time(self, log_snr: float | Tensor) -> Tensor:
        first, last = self._angles
        return (torch.atan(torch.exp(-0.5 * _finely(log_snr))) - first) / (last - first)

    @property
    def _angles(self) -> tuple[float, float]:
        return math.atan(math.exp(-0.5 * self.log_snr_max)), math.atan(math.exp(-0.5 * self.log_snr_min))


@dataclass(frozen=True, eq=False)
class DiscreteSchedule(Schedule):
    """A chain of T steps given by its β (Ho et al., 2020, "Denoising Diffusion Probabilistic Models").

    betas: float64 [T], step t adds noise of variance betas[t]. All other attributes are float64 [T] too.
    As a continuous `Schedule`, index t stands at time u = (t + 1)/T and log alpha is linear between the
    indices (Lu et al., 2022, "DPM-Solver", its discrete schedule); u = 0 is clean data.
    """

    betas: Tensor

    @classmethod
    def named(cls, name: str, num_steps: int) -> DiscreteSchedule:
        """A published schedule: sqrt, linear, cosine, trunc_cos, trunc_lin or pw_lin with T = `num_steps`.

        Raises `InputError` for an unknown name, or for a T with which the formula has no valid β.
        """
        if name not in _NAMED_BETAS:
            raise unknown_name("noise schedule", name, _NAMED_BETAS)
        least = 11 if name == "pw_lin" else 1
        if num_steps < least:
            raise InputError(f"diffusion_steps is {num_steps}; the {name} schedule needs at least {least}.")
        with torch.device("cpu"):  # so that a network can be built on the meta device, for its sizes alone
            betas = _NAMED_BETAS[name](num_steps)
        if betas.max() > 1:
            raise InputError(
                f"diffusion_steps is {num_steps}; the {name} schedule then has β above 1, use 20 or more."
            )
        return cls(betas)

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """ᾱ_t, the product of 1 − β up to and with t: alpha² at index t."""
        return torch.cumprod(1 - self.betas, dim=0)

    @cached_property
    def alpha_bar_previous(self) -> Tensor:
        """ᾱ_{t−1}, with 1 (clean data) before index 0."""
        return torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])

    @cached_property
    def posterior_variance(self) -> Tensor:
        """Variance of q(x_{t−1} | x_t, x_0), Eq. 7: the "small" one; the "large" one is β itself."""
        return self.betas * (1 - self.alpha_bar_previous) / (1 - self.alpha_bar)

    @cached_property
    def posterior_mean_coef1(self) -> Tensor:
        """Weight of x_0 in the mean of q(x_{t−1} | x_t, x_0), Eq. 7."""
        return self.betas * self.alpha_bar_previous.sqrt() / (1 - self.alpha_bar)

    @cached_property
    def posterior_mean_coef2(self) -> Tensor:
        """Weight of x_t in the mean of q(x_{t−1} | x_t, x_0), Eq. 7."""
        return (1 - self.alpha_bar_previous) * (1 - self.betas).sqrt() / (1 - self.alpha_bar)

    def time_of_index(self, index: float | Tensor) -> Tensor:
        """The time u of an index t of the chain (fractions allowed; −1 is clean data)."""
        return (_finely(index) + 1) / len(self)

    def index_of_time(self, u: float | Tensor) -> Tensor:
        """The index t of the chain at a time u, the inverse of `time_of_index`."""
        return _finely(u) * len(self) - 1

    def log_snr(self, u: float | Tensor) -> Tensor:
        log_alpha_squared = 2 * self._log_alpha_at(u)
        return log_alpha_squared - torch.log(-torch.expm1(log_alpha_squared))

    def time(self, log_snr: float | Tensor) -> Tensor:
        log_alpha = 0.5 * torch.nn.functional.logsigmoid(_finely(log_snr))
        return _interpolate(-log_alpha, -self._log_alpha, self._times)

    def alpha(self, u: float | Tensor) -> Tensor:
        return self._log_alpha_at(u).exp()

    def sigma(self, u: float | Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha_at(u))).sqrt()

    @property
    def lowest_time(self) -> float:
        return 1 / len(self)

    @cached_property
    def _times(self) -> Tensor:
        return torch.arange(len(self) + 1, dtype=torch.float64) / len(self)

    @cached_property
    def _log_alpha(self) -> Tensor:
        known = 0.5 * self.alpha_bar.clamp_min(_LEAST_ALPHA_BAR).log()
        return torch.cat([known.new_zeros(1), known])

    def _log_alpha_at(self, u: float | Tensor) -> Tensor:
        return _interpolate(_finely(u), self._times, self._log_alpha)


def _finely(value: float | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(finest_float(value.device))
    return torch.tensor(value, dtype=torch.float64)


def _check_ends(log_snr_max: float, log_snr_min: float) -> None:
    if not math.inf > log_snr_max > log_snr_min > -math.inf:
        raise InputError(
            f"The log-SNR runs from {log_snr_max} to {log_snr_min}; give finite ends, the larger one first."
        )


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (knots, values), both [k] with rising knots; held at the ends beyond them."""
    knots, values = knots.to(x), values.to(x)
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    share = ((x - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])


def _betas_of(alpha_bars: list[float]) -> Tensor:
    """β of the chain that passes through ᾱ = alpha_bars [T+1], each at most 0.999."""
    ratios = [now / before for before, now in pairwise(alpha_bars)]
    return torch.tensor([min(1 - ratio, _LARGEST_BETA) for ratio in ratios], dtype=torch.float64)


def _line(first: float, last: float, num_steps: int) -> Tensor:
    return torch.linspace(first, last, num_steps, dtype=torch.float64)


def _sqrt_betas(num_steps: int) -> Tensor:
    """ᾱ(u) = 1 − √(u + 0.0001) (Li et al., 2022, "Diffusion-LM", appendix A)."""
    return _betas_of([1 - math.sqrt(i / num_steps + 0.0001) for i in range(num_steps + 1)])


def _cosine_betas(num_steps: int) -> Tensor:
    """ᾱ(u) = cos²(π/2·(u + 0.008)/1.008) (Nichol & Dhariwal, 2021, Eq. 17)."""
    return _betas_of(
        [math.cos((i / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_steps + 1)]
    )


def _truncated_cosine_betas(num_steps: int) -> Tensor:
    """ᾱ_t = cos²(π/2·(t/T + 0.1)/1.1): the cosine without its cleanest part; index t has the ᾱ of t/T."""
    curve = [math.cos((i / num_steps + 0.1) / 1.1 * math.pi / 2) ** 2 for i in range(num_steps)]
    return _betas_of([1.0, *curve])


def _linear_betas(num_steps: int) -> Tensor:
    """β from 0.1/T to 20/T (Ho et al., 2020, section 4, for any T)."""
    return _line(0.1 / num_steps, 20 / num_steps, num_steps)


def _truncated_linear_betas(num_steps: int) -> Tensor:
    """The linear β plus 0.01; where that passes 1 the released code ends at 1/T + 0.01 instead."""
    last = 20 / num_steps + 0.01
    return _line(0.1 / num_steps + 0.01, last if last <= 1 else 1 / num_steps + 0.01, num_steps)


def _piecewise_linear_betas(num_steps: int) -> Tensor:
    """β falls from 0.1/T + 0.01 to 0.1/T over ten steps, then rises to 20/T."""
    lowest = 0.1 / num_steps
    return torch.cat([_line(lowest + 0.01, lowest, 10), _line(lowest, 20 / num_steps, num_steps - 10)])


_NAMED_BETAS = {
    "sqrt": _sqrt_betas,
    "linear": _linear_betas,
    "cosine": _cosine_betas,
    "trunc_cos": _truncated_cosine_betas,
    "trunc_lin": _truncated_linear_betas,
    "pw_lin": _piecewise_linear_betas,
}
