"""One thread that runs the models: requests wait in a bounded line and are answered in batches.

A job is one source. The oldest waiting job decides what the next batch is; all others with the same model,
settings and shape join it. One seed gives one answer whatever the batch, but for rounding, which now and then
decides for another word. A job's events are handed over by a callback that must not block, so a slow client delays
nobody. Nor does one who asks for much: when a batch has taken a while and others wait, theirs is run too, step by
step in turn.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.prompts import Prompt
from diffuseq.system import Draft
from diffuseq.trace import UNSURE, Choice, Frame, Piece, explain, make_frame
from diffuseq.web.meters import Meters

LOG = logging.getLogger("diffuseq.web")


PATIENCE_S = 0.3
"""Whoever waits lets a batch run alone for so long. Waiting makes larger batches, which are faster for all."""
MOST_AT_ONCE = 3
"""Batches that are run in turn; each holds its tensors."""


class LineFullError(Exception):
    """Too many jobs are waiting."""


@dataclass(frozen=True)
class Failure:
    """A job that has no answer: the status that HTTP has for the reason, and a sentence."""

    status: int
    message: str


Event = Frame | Choice | Failure
_END = object()


@dataclass(eq=False)
class Job:
    """A source to be answered by a model.

    deliver is called from the worker's thread: with each frame if `wants_frames`, and with a choice or a
    failure at the end.
    """

    model: str
    prompt: Prompt
    settings: Any
    deliver: Callable[[Event], None]
    wants_frames: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    rows: list[list[Piece]] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> tuple[Any, ...]:
        """Jobs with equal keys can be answered together; each has its own seed anyway."""
        return self.model, dataclasses.replace(self.settings, seed=0), self.prompt.shape


class Worker:
    """The thread with its line of waiting jobs."""

    def __init__(
        self,
        pipes: Mapping[str, DiffuSeqPipeline],
        meters: Meters | None = None,
        *,
        most_waiting: int = 512,
        most_rows: int = 256,
    ) -> None:
        """most_waiting: jobs in the line; most_rows: candidates of all jobs of a batch together."""
        self.pipes, self.meters = pipes, meters or Meters()
        self.most_waiting, self.most_rows = most_waiting, most_rows
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="diffuseq-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        """Stop after the step at hand; whoever still waits is told so."""
        with self._changed:
            self._stopping = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.deliver(Failure(503, "The server is shutting down; ask again later."))
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the line, all or none. Raises `LineFullError`."""
        with self._changed:
            if self._stopping or len(self._waiting) + len(jobs) > self.most_waiting:
                raise LineFullError
            self._waiting.extend(jobs)
            self._changed.notify_all()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        """Run batches step by step in turn until `stop`, which the batches at hand hear of as well."""
        running: list[tuple[float, Iterator[None]]] = []
        while running or not self._stopping:
            now = time.monotonic()
            if len(running) < MOST_AT_ONCE and all(now - began > PATIENCE_S for began, _ in running):
                batch = self._next_batch(may_wait=not running)
                running += [(time.monotonic(), self._answer(batch))] if batch else []
            running = [(began, steps) for began, steps in running if next(steps, _END) is not _END]

    def _next_batch(self, may_wait: bool) -> list[Job]:
        """The oldest job and those that can join it; none if nobody waits, or at the end."""
        with self._changed:
            while may_wait and not self._waiting and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return []
            jobs = [job for job in self._waiting if not job.cancelled.is_set()]
            self.meters.add("cancelled", len(self._waiting) - len(jobs))
            if not jobs:
                self._waiting.clear()
                return []
            most = max(1, self.most_rows // jobs[0].settings.candidates)
            key = jobs[0].key
            batch = [job for job in jobs if job.key == key][:most]
            taken = set(map(id, batch))
            self._waiting = deque(job for job in jobs if id(job) not in taken)
            return batch

    def _answer(self, batch: list[Job]) -> Iterator[None]:
        """Answer a batch, a step at a time; whatever goes wrong, every job hears of it and the thread lives on."""
        try:
            yield from self._run(batch)
        except InputError as error:
            if len(batch) == 1:
                batch[0].deliver(Failure(422, str(error)))
                return
            for job in batch:  # one of them cannot be answered: the others must not suffer
                job.rows = []
                yield from self._answer([job])
        except Exception:
            LOG.exception("a batch of %d sources failed", len(batch))
            for job in batch:
                job.deliver(Failure(500, "The model failed on this request; the server's log says why."))

    def _run(self, batch: list[Job]) -> Iterator[None]:
        pipe, settings = self.pipes[batch[0].model], batch[0].settings
        prompts = [job.prompt for job in batch]
        seconds = 0.0
        drafts = pipe.run(prompts, settings)
        draft: Draft | None = None
        while True:
            began = time.perf_counter()
            following = next(drafts, None)
            seconds += time.perf_counter() - began
            if following is None:
                break
            draft = following
            if self._stopping:
                for job in batch:
                    job.deliver(Failure(503, "The server is shutting down; ask again later."))
                return
            if all(job.cancelled.is_set() for job in batch):
                self.meters.add("cancelled", len(batch))
                return
            self._deliver_frames(pipe, batch, prompts, draft, seconds)
            yield
        assert draft is not None, "a system yields at least one draft"
        texts, log_p = pipe.texts(draft, len(batch)), pipe.log_p(draft, len(batch))
        for job, candidates, values in zip(batch, texts, log_p, strict=True):
            source = job.prompt.source
            job.deliver(explain(source, candidates, values, settings, seconds, draft.forwards))
        self.meters.add("batches")
        self.meters.add("answers", len(batch))
        self.meters.add("batch_seconds", seconds)

    def _deliver_frames(
        self, pipe: DiffuSeqPipeline, batch: list[Job], prompts: list[Prompt], draft: Draft, seconds: float
    ) -> None:
        if not any(job.wants_frames for job in batch):
            return
        # systems that write a word once (they have no steps) have no noise to show
        unsure = UNSURE if hasattr(batch[0].settings, "steps") else 0.0
        for job, text in zip(batch, pipe.readable(draft, prompts), strict=True):
            if job.wants_frames and not job.cancelled.is_set():
                frame = make_frame(text, job.rows, seconds, unsure)
                job.rows = frame.rows
                job.deliver(frame)
