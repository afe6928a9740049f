"""A wish to stop: something long ends at once, and only within."""

import os
import signal

import pytest

from diffuseq.training.signals import StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_heeds_it_and_what_begins_after_it(number: int) -> None:
    stop, done = StopSignal(), []

    def work() -> bool:
        done.append("begun")
        os.kill(os.getpid(), number)
        done.append("ended")
        return True

    with stop.caught():
        assert stop.heeded_in(lambda: 3) == 3
        assert stop.heeded_in(work) is None and done == ["begun"]
        assert stop.number == number
        assert stop.heeded_in(work) is None and done == ["begun"]


def test_a_signal_outside_is_only_remembered() -> None:
    stop = StopSignal()
    with stop.caught():
        assert stop.heeded_in(lambda: True)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.number == signal.SIGTERM
