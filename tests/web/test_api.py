from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from diffuseq.baselines.configs import AutoregressiveGeneration, GruConfig, IterativeGeneration, LevTConfig
from diffuseq.baselines.gru import Gru
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.web.api import Service, create_app
from diffuseq.web.meters import Meters
from diffuseq.web.schema import Limits

SOURCE = "how do i learn to cook rice?"


@pytest.fixture(scope="module")
def client(tiny_pipe: DiffuSeqPipeline) -> Iterator[TestClient]:
    with TestClient(create_app({"main": tiny_pipe}, limits=Limits(body_bytes=20_000))) as client:
        yield client


def read_events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_one_source_is_answered_as_the_pipeline_answers_it(
    client: TestClient, tiny_pipe: DiffuSeqPipeline
) -> None:
    told = client.post("/v1/generate", json={"source": SOURCE, "settings": {"seed": 5}}).json()
    (answer,) = told["answers"]
    expected = tiny_pipe(SOURCE, seed=5)
    assert (answer["text"], answer["candidates"]) == (expected.text, expected.candidates)
    assert answer["candidates"][answer["chosen"]] == answer["text"]
    assert len(answer["agreement"]) == len(answer["agreement"][0]) == 3
    assert answer["forwards"] == 4


def test_several_sources_are_answered_in_their_order(client: TestClient) -> None:
    sources = ["tea", SOURCE, "music"]
    told = client.post("/v1/generate", json={"source": sources, "settings": {"candidates": 1}}).json()
    assert [answer["source"] for answer in told["answers"]] == sources


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stream_has_a_frame_for_each_step_and_ends_with_the_answer(client: TestClient, method: str) -> None:
    if method == "get":
        answer = client.get("/v1/stream", params={"source": SOURCE, "steps": 3, "candidates": 2})
    else:
        answer = client.post("/v1/stream", json={"source": SOURCE, "settings": {"steps": 3, "candidates": 2}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read_events(answer.text)
    assert [name for name, _ in events] == ["frame"] * 3 + ["answer"]
    frames = [data for _, data in events[:-1]]
    assert [(frame["index"], frame["total"], frame["forwards"]) for frame in frames] == [
        (0, 3, 1),
        (1, 3, 2),
        (2, 3, 3),
    ]
    last = [" ".join("".join(text for text, _, _ in row).split()) for row in frames[-1]["rows"]]
    assert last == events[-1][1]["candidates"]


@pytest.mark.filterwarnings("error")  # the answer says it; a server's log need not
def test_a_source_that_is_too_long_is_answered_and_what_was_not_read_is_told(client: TestClient) -> None:
    short, long = SOURCE, " ".join(["tea"] * 30)
    told = client.post("/v1/generate", json={"source": [short, long]}).json()
    assert [answer["unread"] for answer in told["answers"]] == [0, 30 - 24]
    assert told["answers"][1]["source"] == long
    streamed = client.post("/v1/stream", json={"source": long}).text
    assert read_events(streamed)[-1][1]["unread"] == 6


def test_pinned_words_appear(client: TestClient) -> None:
    told = client.post("/v1/generate", json={"source": SOURCE, "template": "what is [MASK]*3?"}).json()
    assert all(text.startswith("what is") and text.endswith("?") for text in told["answers"][0]["candidates"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"source": ""}, 422, "source"),
        ({"source": "  "}, 422, "is empty"),
        ({"source": "x" * 2001}, 422, "source"),
        ({"source": []}, 422, "source: The list has 0 texts; give 1 to 64."),
        ({"source": ["tea"] * 65}, 422, "source: The list has 65 texts; give 1 to 64."),
        ({"source": ["tea", 5]}, 422, "source: Text 2 of the list is no text; give a text"),
        ({"source": ["tea", "x" * 2001]}, 422, "Text 2 of the list has 2001 characters; give 1 to 2000."),
        ({"source": 3}, 422, "source: It is no text; give a text, or a list of 1 to 64 texts."),
        ({"source": "tea", "else": 1}, 422, "Unknown field 'else'; choose one of: model, settings, source"),
        ({"source": "tea", "settings": {"temperatur": 1}}, 422, "Did you mean 'temperature'?"),
        ({"source": "tea", "settings": {"candidates": 21}}, 422, "less than or equal to 20"),
        ({"source": "tea", "settings": {"steps": 101}}, 422, "less than or equal to 100"),
        ({"source": "tea", "settings": {"length": 257}}, 422, "less than or equal to 256"),
        ({"source": "tea", "settings": {"length": 25}}, 422, "writes up to 24"),
        ({"source": "tea", "settings": {"seed": 2**60}}, 422, "seed"),
        ({"source": "tea", "settings": {"sampler": "magic"}}, 422, "sampler"),
        ({"source": "tea", "settings": {"eta": 0.5}}, 422, "eta belongs to the sampler 'ddim'"),
        ({"source": "tea", "settings": {"churn": 0.5}}, 422, "churn belongs to the sampler 'ddim'"),
        ({"source": "tea", "settings": {"temperature": -1}}, 422, "temperature"),
        ({"source": "tea", "template": "no slot"}, 422, "leaves nothing to write"),
        ({"source": "tea", "model": "compare"}, 404, "start it with --compare"),
        ({"source": "tea", "model": "other"}, 422, "model"),
    ],
)
def test_a_request_that_cannot_be_answered_is_explained(
    client: TestClient, body: dict[str, Any], status: int, message: str
) -> None:
    for path in ("/v1/generate", "/v1/stream"):
        answer = client.post(path, json=body)
        assert answer.status_code == status or isinstance(body["source"], list)
        if path == "/v1/generate":
            assert message in answer.json()["detail"]


def test_a_body_that_is_no_json_is_400_and_a_large_one_413(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for body in (b'{"source', b"[" * 10_000, b'{"source": "\xff"}', b'{"source": ' + b"1" * 5000 + b"}"):
        answer = client.post("/v1/generate", content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["detail"] == "The body is no JSON; send an object with a source."
    assert client.post("/v1/generate", content=b" " * 20_001, headers=headers).status_code == 413
    chunks = (b" " * 1000 for _ in range(30))
    assert client.post("/v1/generate", content=chunks, headers=headers).status_code == 413


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/stream"])
def test_a_body_that_is_not_declared_as_json_or_is_no_object_is_told_so(
    client: TestClient, path: str
) -> None:
    for kind in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"}):
        answer = client.post(path, content=b'{"source": "tea"}', headers=kind)
        assert answer.status_code == 415
        assert "content-type: application/json" in answer.json()["detail"]
    for body in (b"[1]", b'"tea"', b"3", b""):
        answer = client.post(path, content=body, headers={"content-type": "application/json; charset=utf-8"})
        assert answer.status_code == 422
        assert answer.json()["detail"] == "The body is no JSON object; send one with a source."


def test_head_is_answered_as_get_is_without_a_body_but_makes_no_answer(tiny_pipe: DiffuSeqPipeline) -> None:
    with TestClient(create_app({"main": tiny_pipe})) as client:
        for path in ("/", "/style.css", "/health", "/metrics", "/v1/models"):
            full, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == full.headers["content-type"]
            assert client.delete(path).headers["allow"] == "GET, HEAD"
        assert client.head("/v1/stream?source=tea").status_code == 405


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/stream"])
def test_sources_of_clients_who_have_left_are_not_answered(tiny_pipe: DiffuSeqPipeline, path: str) -> None:
    app = create_app({"main": tiny_pipe})
    service: Service = app.state.service
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask_and_leave() -> None:
        messages = [{"type": "http.request", "body": b'{"source": "tea"}'}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await asyncio.wait_for(app({**scope, "raw_path": path.encode()}, receive, send), 20)

    for _ in range(3):
        asyncio.run(ask_and_leave())
    assert sent[0]["status"] == 499
    with TestClient(app) as client:  # which starts the worker
        client.post("/v1/generate", json={"source": "music"})
        wanted = {"diffuseq_cancelled_total 3", "diffuseq_batches_total 1", "diffuseq_answers_total 1"}
        for _ in range(100):  # the worker counts after it has answered
            told = set(client.get("/metrics").text.splitlines())
            if wanted <= told:
                break
            time.sleep(0.05)
    assert service.worker.num_waiting == 0
    assert wanted <= told


def test_nan_in_the_settings_is_a_422(client: TestClient) -> None:
    body = b'{"source": "tea", "settings": {"temperature": NaN}}'
    answer = client.post("/v1/generate", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "settings.temperature: Input should be a finite number."
    answer = client.get("/v1/stream?source=tea&candidate=1")
    assert (
        "Unknown field 'candidate'" in answer.json()["detail"] and "'candidates'?" in answer.json()["detail"]
    )


def test_half_of_a_surrogate_pair_is_told_so(client: TestClient) -> None:
    for source, which in (('"a\\ud83d"', "It"), ('["tea", "a\\ud83d"]', "Text 2 of the list")):
        body = b'{"source": ' + source.encode() + b"}"
        answer = client.post("/v1/generate", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(f"source: {which} has half of a surrogate pair")


def test_a_full_line_is_a_503_that_says_when_to_come_again(tiny_pipe: DiffuSeqPipeline) -> None:
    app = create_app({"main": tiny_pipe}, limits=Limits(waiting=2))
    with TestClient(app) as client:
        answer = client.post("/v1/generate", json={"source": ["tea"] * 3})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "Too many requests" in answer.json()["detail"]


def test_models_tell_their_dials_and_the_limits(client: TestClient) -> None:
    told = client.get("/v1/models").json()
    (model,) = told["models"]
    assert model["kind"] == "diffuseq"
    assert model["dials"]["steps"] == 4
    assert model["samplers"] == ["settle", "ddim", "ancestral", "dpm-solver"]
    assert told["limits"]["candidates"] == 20


def test_a_dial_that_does_nothing_is_none(tiny_pipe: DiffuSeqPipeline) -> None:
    """A beam draws nothing; of samplers one can be chosen, and with it what it has."""
    system = Gru(GruConfig(layers=1, width=8, hidden=8), tiny_pipe.tokenizer.special)
    own = AutoregressiveGeneration(strategy="beam", max_length=8)
    config = dataclasses.replace(tiny_pipe.config, system=system.config, generation=own)
    written = DiffuSeqPipeline(system, tiny_pipe.tokenizer, config)
    with TestClient(create_app({"main": tiny_pipe, "compare": written})) as client:
        main, other = client.get("/v1/models").json()["models"]
    assert {"temperature", "churn", "order_noise"} <= set(main["dials"])
    assert "candidates" in other["dials"] and "temperature" not in other["dials"]


def test_a_second_model_is_asked_by_name(tiny_pipe: DiffuSeqPipeline) -> None:
    with TestClient(create_app({"main": tiny_pipe, "compare": tiny_pipe})) as client:
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["main", "compare"]
        answers = [
            client.post("/v1/generate", json={"source": SOURCE, "model": model}).json()["answers"][0]["text"]
            for model in ("main", "compare")
        ]
    assert answers[0] == answers[1]


def test_health_and_meters_are_told(client: TestClient) -> None:
    client.post("/v1/generate", json={"source": "tea"})
    health = client.get("/health").json()
    assert (health["status"], health["waiting"]) == ("ok", 0)
    lines = client.get("/metrics").text.splitlines()
    assert 'diffuseq_requests_total{path="/health",status="200"} 1' in lines
    assert any(
        line.startswith("diffuseq_latency_seconds_count") and not line.endswith(" 0") for line in lines
    )


def test_meters_lose_no_digit_however_long_a_server_runs() -> None:
    meters = Meters()
    for _ in range(2):
        meters.add("answers", 1_234_567)
        meters.observe(987_654.25)
    told = meters.render(num_waiting=0).splitlines()
    assert "diffuseq_answers_total 2469134" in told and "diffuseq_latency_seconds_sum 1975308.5" in told


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_but_its_own(client: TestClient) -> None:
    for path in ("/", "/app.js", "/style.css", "/icon.svg"):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
    script = client.get("/app.js").text
    assert not [
        name for name in ("innerHTML", "outerHTML", "insertAdjacent", "document.write") if name in script
    ]
    page = client.get("/").text
    assert "style=" not in page
    assert "onclick" not in page


def test_unknown_paths_and_methods_are_told_apart(client: TestClient) -> None:
    answer = client.get("/nothing")
    assert answer.status_code == 404 and "/openapi.json has all of them" in answer.json()["detail"]
    answer = client.get("/v1/generate")
    assert answer.status_code == 405
    assert answer.json()["detail"] == "This path does not answer GET, but POST."
    assert client.put("/v1/stream").headers["allow"] == "GET, POST"
    assert client.get("/static/../worker.py").status_code == 404


def test_foreign_host_names_are_refused_where_hosts_are_given(tiny_pipe: DiffuSeqPipeline) -> None:
    with TestClient(create_app({"main": tiny_pipe}, hosts=("localhost", "[::1]"))) as client:
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
        assert client.get("/health", headers={"host": "localhost:8000"}).status_code == 200
        assert client.get("/health", headers={"host": "[::1]:8000"}).status_code == 200


def test_the_schema_describes_every_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/generate", "/v1/stream", "/v1/models", "/health", "/metrics"}
    assert set(paths["/v1/stream"]) == {"get", "post"}
    assert {"200", "400", "413", "422", "500", "503"} <= set(paths["/v1/generate"]["post"]["responses"])


def test_there_is_no_dial_for_what_a_model_refuses(tiny_pipe: DiffuSeqPipeline) -> None:
    generation = IterativeGeneration()
    config = dataclasses.replace(tiny_pipe.config, system=LevTConfig(), generation=generation)
    levt = DiffuSeqPipeline(tiny_pipe.system, tiny_pipe.tokenizer, config)
    with TestClient(create_app({"main": levt})) as client:
        dials = client.get("/v1/models").json()["models"][0]["dials"]
    assert "candidates" in dials and not {"length", "length_beam"} & set(dials)
