"""The three analyses of the DiffuSeq paper (Gong et al., ICLR 2023, Section 4.4), for any trained models.

    diversity  BLEU against the number of candidates that minimum Bayes risk chooses from, and quality against
               diversity over temperatures
    steps      how good and how diverse the intermediate texts are, and when each word settles
    speed      BLEU against sentences a second over numbers of calls, for every sampler that a model can serve

Each is a module with `measure`, which gives plain data, and `draw`, which makes figures of it; `analyse` runs
them and `write` puts figures, data as csv and captions into a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

from diffuseq.errors import InputError, unknown_name
from diffuseq.evaluation.analyses import diversity, speed, steps
from diffuseq.evaluation.analyses.result import Analysis, Limits, Progress, silent, write
from diffuseq.evaluation.analyses.subjects import HeldOut, Subject, open_subjects, read_test_set
from diffuseq.names import refuse_alone

__all__ = ["ANALYSES", "Analysis", "Limits", "analyse", "check", "open_subjects", "read_test_set", "write"]


Analyser = Callable[[Sequence[Subject], HeldOut, Limits, Progress], Analysis]

ANALYSES: dict[str, Analyser] = {
    "diversity": diversity.analyse,
    "steps": steps.analyse,
    "speed": speed.analyse,
}


def check(only: Sequence[str], limits: Limits) -> tuple[str, ...]:
    """The analyses to make, in their order. Raises `InputError` for what cannot be done, before any work."""
    refuse_alone(only, "only")
    for name in only:
        if name not in ANALYSES:
            raise unknown_name("analysis", name, ANALYSES)
    if find_spec("matplotlib") is None:
        raise InputError("The figures need matplotlib; install it with `pip install diffuseq[plots]`.")
    if limits.candidates < 2:
        raise InputError(
            f"candidates is {limits.candidates}; choosing needs at least 2, and the paper draws 20."
        )
    for name, values, least in (("calls", limits.calls, 1), ("temperatures", limits.temperatures, 0.01)):
        if not values or min(values) < least:
            raise InputError(f"{name} is {list(values)}; give one or more numbers from {least:g} on.")
    chosen = tuple(name for name in ANALYSES if name in only or not only)
    for name, analysis in (("candidates", "diversity"), ("temperatures", "diversity"), ("calls", "speed")):
        if analysis not in chosen and getattr(limits, name) != getattr(Limits, name):
            raise InputError(f"{name} is for {analysis}, which is not made; add it, or leave {name} out.")
    return chosen


def analyse(
    subjects: Sequence[Subject],
    test: HeldOut,
    only: Sequence[str] = (),
    limits: Limits | None = None,
    progress: Progress = silent,
) -> Iterator[Analysis]:
    """Yield each analysis as it is made. only: names of `ANALYSES`, all unless some are given.

    Raises `InputError` for unknown names and limits that make no sense.
    """
    limits = limits or Limits()
    if any(subject.is_uncased for subject in subjects):
        test = test.lower_cased()
    for name in check(only, limits):
        yield ANALYSES[name](subjects, test, limits, progress)
