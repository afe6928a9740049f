"""The HTTP API: answers, streams of frames, models, health, meters, and the page."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from diffuseq import __version__
from diffuseq.checks import REFUSED, check_changes, check_fit, idle
from diffuseq.config import WORD_BY_WORD, Config, DiffusionGeneration, Sampler
from diffuseq.errors import InputError, unknown_name
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.trace import Choice, Frame
from diffuseq.web.guard import Guard, has_head
from diffuseq.web.meters import Meters
from diffuseq.web.schema import (
    Answers,
    Ask,
    AskInQuery,
    AskMany,
    Dials,
    Health,
    Limits,
    ModelOut,
    Models,
    Problem,
)
from diffuseq.web.worker import Event, Failure, Job, LineFullError, Worker

T = TypeVar("T")
STATIC = Path(__file__).parent / "static"
PAGE = {"": "index.html", "style.css": "style.css", "app.js": "app.js", "icon.svg": "icon.svg"}
"""Files of the page by their path."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request is no JSON."},
    404: {"model": Problem, "description": "There is no such model."},
    413: {"model": Problem, "description": "The request is too large."},
    415: {"model": Problem, "description": "The request is not declared as JSON."},
    422: {"model": Problem, "description": "The request cannot be answered; `detail` says why."},
    500: {"model": Problem, "description": "The model failed; the server's log says why."},
    503: {"model": Problem, "description": "The line is full, or the server is shutting down."},
}
_NO_JSON = "The body is no JSON; send an object with a source."
_CLIENT_IS_GONE = 499
"""As web servers count it; HTTP has no status that nobody hears."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    **_PROBLEMS,
    200: {"content": {"text/event-stream": {}}, "description": "Events: frame …, then answer or problem."},
}


class Service:
    """What the routes share: the models, the worker and the limits."""

    def __init__(
        self,
        pipes: Mapping[str, DiffuSeqPipeline],
        titles: Mapping[str, str],
        limits: Limits,
        examples: Mapping[str, Sequence[str]],
    ) -> None:
        self.pipes, self.titles, self.limits = dict(pipes), dict(titles), limits
        self.examples = dict(examples)
        self.meters = Meters()
        self.worker = Worker(self.pipes, self.meters, most_waiting=limits.waiting)

    def submit(
        self, ask: Ask | AskMany, deliver: Callable[[int, Event], None], wants_frames: bool
    ) -> list[Job]:
        """Put the sources of a request into the line; `deliver` gets the source's number with each event.

        Raises HTTPException for what the client can mend, and when the line is full.
        """
        if ask.model not in self.pipes:
            raise HTTPException(404, "This server has no model to compare with; start it with --compare.")
        pipe = self.pipes[ask.model]
        sources = [ask.source] if isinstance(ask.source, str) else list(ask.source)
        try:
            settings = ask.settings.applied_to(pipe.config.generation)
            check_changes(pipe.config.system, pipe.config.generation, settings)
            prompts = pipe.prepare(sources, settings, ask.template)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        jobs = [
            Job(ask.model, prompt, settings, lambda event, i=i: deliver(i, event), wants_frames)  # type: ignore[misc]
            for i, prompt in enumerate(prompts)
        ]
        try:
            self.worker.submit(jobs)
        except LineFullError:
            self.meters.add("rejected")
            raise HTTPException(503, "Too many requests are waiting; ask again in a few seconds.") from None
        return jobs

    def describe(self, name: str) -> ModelOut:
        """What the page needs to know of a model."""
        pipe = self.pipes[name]
        own = dataclasses.asdict(pipe.config.generation)
        system: Any = pipe.config.system
        # a sampler can be chosen, and the page shows what it has
        never = {*REFUSED.get(system.kind, ())}
        never |= set() if "sampler" in own else idle(system, pipe.config.generation).keys()
        return ModelOut(
            name=name,
            title=self.titles[name],
            kind=system.kind,
            parameters=pipe.system.num_parameters(),
            dials={dial: own[dial] for dial in Dials.model_fields if dial in own and dial not in never},
            samplers=_samplers(pipe.config),
            can_guide=bool(getattr(system, "source_dropout", 0)),
            longest_answer=min(self.limits.length, pipe.config.text.max_target),
            examples=list(self.examples.get(name, ())),
        )


def _samplers(config: Config) -> list[str]:
    """Which samplers fit how a system was trained, those that go word by word first."""
    own = config.generation
    if not isinstance(own, DiffusionGeneration):
        return []
    names: tuple[Sampler, ...] = get_args(Sampler)
    return [name for name in (*WORD_BY_WORD[::-1], *names[: -len(WORD_BY_WORD)]) if _fits(config, name)]


def _fits(config: Config, sampler: Sampler) -> bool:
    try:
        check_fit(config.system, DiffusionGeneration(sampler=sampler))
    except InputError:
        return False
    return True


def create_app(
    pipes: Mapping[str, DiffuSeqPipeline],
    titles: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] | None = None,
    examples: Mapping[str, Sequence[str]] | None = None,
) -> FastAPI:
    """The app over models: "main", and perhaps "compare".

    hosts: names that it answers to; any by default. examples: sources that the page offers, by model.
    """
    service = Service(pipes, titles or {name: name for name in pipes}, limits or Limits(), examples or {})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop)

    app = FastAPI(
        title="diffuseq", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Text out of noise: answers, and every step on the way to them.",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(Guard, meters=service.meters, largest_body=service.limits.body_bytes, hosts=hosts)
    app.add_exception_handler(RequestValidationError, _explain_validation)  # type: ignore[arg-type]
    app.add_exception_handler(StarletteHTTPException, _explain_http)  # type: ignore[arg-type]
    _add_answers(app, service)
    _add_information(app, service)
    _add_page(app)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/generate", responses=_PROBLEMS, summary="Answer one source or several")
    async def generate(ask: AskMany, request: Request) -> Answers:
        began = time.monotonic()
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        answers: dict[int, Choice] = {}
        problems: list[Failure] = []
        num_sources = 1 if isinstance(ask.source, str) else len(ask.source)

        def take(number: int, event: Event) -> None:
            if isinstance(event, Failure):
                problems.append(event)
            elif isinstance(event, Choice):
                answers[number] = event
            if problems or len(answers) == num_sources:
                done.set()

        jobs = service.submit(ask, _from_thread(loop, take), wants_frames=False)
        try:
            await _unless_gone(request, done.wait())
        finally:
            for job in jobs:
                job.cancelled.set()
        if problems:
            raise HTTPException(problems[0].status, problems[0].message)
        service.meters.observe(time.monotonic() - began)
        parts = [{**_asked(job), **vars(answers[i])} for i, job in enumerate(jobs)]
        return Answers.model_validate({"answers": parts})

    @app.post(
        "/v1/stream",
        responses=_EVENTS,
        response_class=StreamingResponse,
        summary="Watch an answer",
    )
    async def stream(ask: Ask, request: Request) -> StreamingResponse:
        return await _stream(service, ask, request)

    @app.get(
        "/v1/stream",
        responses=_EVENTS,
        response_class=StreamingResponse,
        summary="Watch an answer",
    )
    async def stream_by_query(ask: Annotated[AskInQuery, Query()], request: Request) -> StreamingResponse:
        values = ask.model_dump(exclude_none=True)
        own = {name: values.pop(name) for name in ("source", "template", "model") if name in values}
        return await _stream(service, Ask(**own, settings=Dials(**values)), request)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Raises HTTPException, which nobody reads, once the client has left before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass  # the end of the body, where no route has read it

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(_CLIENT_IS_GONE, "The client has left.")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _stream(service: Service, ask: Ask, request: Request) -> StreamingResponse:
    """Server-sent events: `frame`s, then an `answer` or a `problem`; one that comes first has its status."""
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[Event] = asyncio.Queue()
    began = time.monotonic()
    jobs = service.submit(ask, _from_thread(loop, lambda _, event: line.put_nowait(event)), wants_frames=True)

    try:
        first = await _unless_gone(request, line.get())
    except BaseException:
        jobs[0].cancelled.set()
        raise
    if isinstance(first, Failure):
        raise HTTPException(first.status, first.message)

    async def events() -> AsyncIterator[str]:
        event: Event = first
        try:
            while True:
                if isinstance(event, Frame):
                    yield _event("frame", dataclasses.asdict(event))
                elif isinstance(event, Choice):
                    service.meters.observe(time.monotonic() - began)
                    yield _event("answer", {**_asked(jobs[0]), **dataclasses.asdict(event)})
                    return
                else:
                    yield _event("problem", {"detail": event.message})
                    return
                event = await line.get()
        finally:
            jobs[0].cancelled.set()

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _asked(job: Job) -> dict[str, Any]:
    return {"source": job.prompt.source, "unread": job.prompt.unread}


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _from_thread(
    loop: asyncio.AbstractEventLoop, take: Callable[[int, Event], None]
) -> Callable[[int, Event], None]:
    """`take` as the worker's thread may call it; a loop that is closed by then has nobody left to tell."""

    def deliver(number: int, event: Event) -> None:
        try:
            loop.call_soon_threadsafe(take, number, event)
        except RuntimeError:
            return

    return deliver


def _add_information(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="What is served, with its dials and limits")
    async def models() -> Models:
        return Models(
            models=[service.describe(name) for name in service.pipes],
            limits=dataclasses.asdict(service.limits),
        )

    @app.get("/health", responses={503: _PROBLEMS[503]}, summary="Whether answers are being made")
    async def health() -> Health:
        if not service.worker.is_alive:
            raise HTTPException(503, "The worker has stopped; start the server again.")
        return Health(status="ok", waiting=service.worker.num_waiting, version=__version__)

    @app.get("/metrics", response_class=PlainTextResponse, summary="Meters in the format of Prometheus")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.meters.render(service.worker.num_waiting))


def _add_page(app: FastAPI) -> None:
    for path, file in PAGE.items():

        async def page(file: str = file) -> FileResponse:
            return FileResponse(STATIC / file, headers={"Cache-Control": "no-cache"})

        app.add_api_route(f"/{path}", _without_parameters(page), include_in_schema=False)


def _without_parameters(page: Callable[[], Awaitable[FileResponse]]) -> Callable[[], Awaitable[FileResponse]]:
    """The route without its default argument, which would otherwise be a query parameter."""

    async def route() -> FileResponse:
        return await page()

    return route


async def _explain_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    """The first thing that is wrong with a request, in one sentence, without what was sent."""
    first = error.errors()[0]
    if first.get("type") == "json_invalid":
        return JSONResponse({"detail": _NO_JSON}, 400)
    if first["loc"] == ("body",):  # it is missing, or came as bytes or as another value than an object
        if not _is_json(request.headers.get("content-type", "")):
            detail = (
                "The body is not declared as JSON; send it with the header content-type: application/json."
            )
            return JSONResponse({"detail": detail}, 415)
        return JSONResponse({"detail": "The body is no JSON object; send one with a source."}, 422)
    if first.get("type") == "extra_forbidden":
        return JSONResponse({"detail": _unknown(first["loc"])}, 422)
    place = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str | int))
    message = first["msg"].removeprefix("Value error, ")
    return JSONResponse({"detail": f"{place or 'The body'}: {message}."}, 422)


def _unknown(place: Sequence[str | int]) -> str:
    """What to say of a name that a request has and should not have."""
    is_dial, name = place[1:-1] == ("settings",), str(place[-1])
    model = Dials if is_dial else AskInQuery if place[0] == "query" else Ask
    return str(unknown_name("setting" if is_dial else "field", name, model.model_fields))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _explain_http(request: Request, error: StarletteHTTPException) -> JSONResponse:
    headers = dict(error.headers or {})
    if error.status_code == 503:
        headers["Retry-After"] = "2"
    if error.status_code == 405:  # the methods of all routes of a path, not of the first alone
        path = request.url.path
        routes = (route for route in request.app.routes if getattr(route, "path", None) == path)
        methods = {method for route in routes for method in route.methods}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if has_head(path, methods) else set())))
    detail = {
        (400, error.detail): _NO_JSON,  # what is nested too deep, or no UTF-8
        (404, "Not Found"): "There is no such path here; /openapi.json has all of them.",
        (405, error.detail): f"This path does not answer {request.method}, but {headers.get('Allow')}.",
    }.get((error.status_code, error.detail), str(error.detail))
    return JSONResponse({"detail": detail}, error.status_code, headers)
