from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.trace import Choice, Frame
from diffuseq.web.meters import Meters
from diffuseq.web.worker import Event, Failure, Job, LineFullError, Worker

Heard = list[Event]


@pytest.fixture
def worker(tiny_pipe: DiffuSeqPipeline) -> Iterator[Worker]:
    worker = Worker({"main": tiny_pipe}, Meters(), most_waiting=40, most_rows=24)
    yield worker
    worker.stop()


def make_job(
    pipe: DiffuSeqPipeline, source: str, deliver: Callable[[Event], Any], frames: bool = False, **changes: Any
) -> Job:
    settings = pipe.settings(**changes)
    return Job("main", pipe.prepare([source], settings)[0], settings, deliver, frames)


def collect(num_ends: int) -> tuple[Heard, Callable[[Event], None], threading.Event]:
    """A list that hears events, and a flag that is set after so many ends."""
    heard: Heard = []
    done = threading.Event()

    def deliver(event: Event) -> None:
        heard.append(event)
        if sum(not isinstance(e, Frame) for e in heard) == num_ends:
            done.set()

    return heard, deliver, done


def test_jobs_with_equal_settings_are_answered_in_one_batch_as_each_alone(
    worker: Worker, tiny_pipe: DiffuSeqPipeline
) -> None:
    sources = ["tea", "how do i cook rice?", "music"]
    heard, deliver, done = collect(3)
    worker.submit([make_job(tiny_pipe, s, deliver, seed=i) for i, s in enumerate(sources)])
    worker.start()
    assert done.wait(20)
    texts = [event.candidates for event in heard if isinstance(event, Choice)]
    assert texts == [tiny_pipe(s, seed=i).candidates for i, s in enumerate(sources)]
    assert "diffuseq_batches_total 1\n" in worker.meters.render(0)


def test_other_settings_wait_for_the_next_batch(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    _, deliver, done = collect(2)
    worker.submit([make_job(tiny_pipe, "tea", deliver, steps=steps) for steps in (1, 2)])
    worker.start()
    assert done.wait(20)
    assert "diffuseq_batches_total 2\n" in worker.meters.render(0)


def test_a_batch_has_a_largest_size(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    _, deliver, done = collect(9)
    worker.submit([make_job(tiny_pipe, "tea", deliver, candidates=3) for _ in range(9)])  # 24 rows are 8 jobs
    worker.start()
    assert done.wait(20)
    assert "diffuseq_batches_total 2\n" in worker.meters.render(0)


def test_who_asks_for_much_does_not_keep_the_others_waiting(
    worker: Worker, tiny_pipe: DiffuSeqPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffuseq.web.worker.PATIENCE_S", 0.0)
    heard, deliver, done = collect(2)
    worker.submit(
        [make_job(tiny_pipe, "tea", deliver, steps=60), make_job(tiny_pipe, "music", deliver, steps=2)]
    )
    worker.start()
    assert done.wait(20)
    assert [event.forwards for event in heard if isinstance(event, Choice)] == [2, 60]
    both = [event.candidates for event in heard if isinstance(event, Choice)]
    assert both == [tiny_pipe("music", steps=2).candidates, tiny_pipe("tea", steps=60).candidates]


def test_batches_that_run_in_turn_are_few(
    worker: Worker, tiny_pipe: DiffuSeqPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffuseq.web.worker.PATIENCE_S", 0.0)
    heard, deliver, done = collect(5)
    worker.submit([make_job(tiny_pipe, "tea", deliver, steps=30 - 5 * i) for i in range(5)])
    worker.start()
    assert done.wait(20)
    ends = [event.forwards for event in heard if isinstance(event, Choice)]
    assert ends == [20, 25, 30, 10, 15]  # the first three in turn, and then the others, the shortest first


def test_only_those_who_watch_get_frames(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    watched, watch, seen = collect(1)
    plain, take, taken = collect(1)
    worker.submit([make_job(tiny_pipe, "tea", watch, frames=True), make_job(tiny_pipe, "tea", take)])
    worker.start()
    assert seen.wait(20)
    assert taken.wait(20)
    assert [type(event) for event in watched] == [Frame] * 4 + [Choice]
    assert [type(event) for event in plain] == [Choice]


def test_a_full_line_takes_all_jobs_of_a_request_or_none(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    _, deliver, _ = collect(1)
    worker.submit([make_job(tiny_pipe, "tea", deliver) for _ in range(39)])
    with pytest.raises(LineFullError):
        worker.submit([make_job(tiny_pipe, "tea", deliver) for _ in range(2)])
    assert worker.num_waiting == 39


def test_cancelled_jobs_are_not_run(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    heard, deliver, done = collect(1)
    gone = make_job(tiny_pipe, "tea", deliver, frames=True)
    gone.cancelled.set()
    worker.submit([gone, make_job(tiny_pipe, "music", deliver)])
    worker.start()
    assert done.wait(20)
    assert [type(event) for event in heard] == [Choice]


def test_a_job_that_cannot_be_answered_spoils_no_other(worker: Worker, tiny_pipe: DiffuSeqPipeline) -> None:
    bad, hear_bad, bad_done = collect(1)
    good, hear_good, good_done = collect(1)
    # the system refuses what the pipeline cannot know: settle does not clamp
    worker.submit(
        [make_job(tiny_pipe, "tea", hear_bad, clamp_from=0.5), make_job(tiny_pipe, "tea", hear_good)]
    )
    worker.start()
    assert bad_done.wait(20)
    assert good_done.wait(20)
    assert isinstance(bad[0], Failure)
    assert bad[0].status == 422
    assert "clamp_from" in bad[0].message
    assert isinstance(good[0], Choice)


def test_a_bug_is_told_as_a_failure_and_the_thread_lives_on(
    worker: Worker, tiny_pipe: DiffuSeqPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    heard, deliver, done = collect(2)
    broken = make_job(tiny_pipe, "tea", deliver)
    broken.model = "gone"
    worker.submit([broken, make_job(tiny_pipe, "tea", deliver)])
    worker.start()
    assert done.wait(20)
    assert isinstance(heard[0], Failure)
    assert heard[0].status == 500
    assert "KeyError" in caplog.text
    assert isinstance(heard[1], Choice)


def test_stopping_tells_whoever_waits(tiny_pipe: DiffuSeqPipeline) -> None:
    worker = Worker({"main": tiny_pipe})
    heard, deliver, _ = collect(1)
    worker.submit([make_job(tiny_pipe, "tea", deliver)])
    worker.stop()
    assert isinstance(heard[0], Failure)
    assert heard[0].status == 503
    with pytest.raises(LineFullError):
        worker.submit([make_job(tiny_pipe, "tea", deliver)])
