"""Many clients at once: is every answer the right one, and how much do batches gain over one by one?

    python benchmarks/serve_load.py [MODEL] [--clients 64] [--requests 4]

A server is started on loopback in a process of its own. First one client watches some streams and asks some of
the questions one by one, then all clients ask at once; every answer of the crowd is compared with that of the lone
client. At last the lone client asks again beside three that have asked for as much as they may and never read it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
from counting import count
from local_server import served

SOURCES = [
    "how do i learn to {}?",
    "what is the best way to {}?",
    "why do people like to {} so much?",
    "where can i {} at the weekend?",
]
THINGS = ["cook", "swim", "draw", "sing", "read", "run", "dance", "travel", "paint", "write", "sleep", "work"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="grammar")
    parser.add_argument("--clients", type=count, default=64)
    parser.add_argument("--requests", type=count, default=4, help="of each client")
    parser.add_argument("--candidates", type=count, default=4)
    options = parser.parse_args()
    if options.clients * options.requests < 2:
        parser.error(
            "--clients 1 with --requests 1 is one answer, which has no quantiles; give more of either."
        )
    bodies = [
        {
            "source": SOURCES[i % len(SOURCES)].format(THINGS[i % len(THINGS)]),
            "settings": {"seed": i, "candidates": options.candidates},
        }
        for i in range(options.clients * options.requests)
    ]
    with served(options.model) as address:
        asyncio.run(measure(address, bodies, options.clients))


async def measure(address: str, bodies: list[dict[str, object]], clients: int) -> None:
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=300) as client:
        await ask(client, bodies[0])
        first_frames = [await first_frame(client, body) for body in bodies[:30]]
        few = bodies[: max(16, len(bodies) // 8)]
        alone, alone_times, alone_s = await crowd(client, few, 1)
        together, times, seconds = await crowd(client, bodies, clients)
        async with stuck(address, bodies[0]):
            _, beside_stuck, _ = await crowd(client, few, 1)
    for answers in (alone, together):
        if len(answers) < 2:
            raise SystemExit(
                f"The server gave {len(answers)} answers to {len(bodies)} requests; ask for less."
            )
    wrong = sum(i in together and together[i] != answer for i, answer in alone.items())
    mixed_up = sum(bodies[i]["source"] != source for i, (source, _) in together.items())
    report = {
        "clients": clients,
        "requests": len(bodies),
        "lost": len(bodies) - len(together),
        "mixed_up": mixed_up,
        "other_than_alone": wrong,
        "first_frame": {"p50_s": quantile(first_frames, 50), "p95_s": quantile(first_frames, 95)},
        "one_by_one": summary(alone_times, len(alone) / alone_s),
        "at_once": summary(times, len(together) / seconds),
        "one_by_one_beside_stuck_clients": summary(beside_stuck, len(beside_stuck) / sum(beside_stuck)),
        "throughput_ratio": round(len(together) / seconds / (len(alone) / alone_s), 2),
    }
    print(json.dumps(report, indent=2))


Answer = tuple[str, list[str]]


async def crowd(
    client: httpx.AsyncClient, bodies: list[dict[str, object]], clients: int
) -> tuple[dict[int, Answer], list[float], float]:
    """Answers by number, the seconds of each and of all; each client asks again when answered. What the server
    refuses, say since its line is full, or drops is lost."""
    answers: dict[int, Answer] = {}
    times: list[float] = []
    numbers = iter(range(len(bodies)))

    async def one() -> None:
        for number in numbers:
            began = time.perf_counter()
            with suppress(httpx.HTTPError):
                answers[number] = await ask(client, bodies[number])
                times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return answers, times, time.perf_counter() - began


async def ask(client: httpx.AsyncClient, body: dict[str, object]) -> Answer:
    answer = await client.post("/v1/generate", json=body)
    answer.raise_for_status()
    (told,) = answer.json()["answers"]
    return told["source"], told["candidates"]


async def first_frame(client: httpx.AsyncClient, body: dict[str, object]) -> float:
    """Seconds from asking for a stream to its first frame; the rest is read as well."""
    began, waited = time.perf_counter(), 0.0
    async with client.stream("POST", "/v1/stream", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "event: frame" and not waited:
                waited = time.perf_counter() - began
    assert waited, "the stream has no frame"
    return waited


@asynccontextmanager
async def stuck(address: str, body: dict[str, object], count: int = 3) -> AsyncIterator[None]:
    """Clients that ask for long streams and never read a byte."""
    host, port = address.removeprefix("http://").split(":")
    text = json.dumps({"source": body["source"], "settings": {"steps": 100, "candidates": 20}})
    head = f"POST /v1/stream HTTP/1.1\r\nHost: {host}\r\ncontent-type: application/json\r\n"
    sockets = [socket.create_connection((host, int(port))) for _ in range(count)]
    try:
        for each in sockets:
            each.sendall(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
        yield
    finally:
        for each in sockets:
            each.close()


def summary(times: list[float], throughput: float) -> dict[str, float]:
    return {
        "p50_s": quantile(times, 50),
        "p95_s": quantile(times, 95),
        "answers_a_second": round(throughput, 2),
    }


def quantile(times: list[float], percent: int) -> float:
    return round(statistics.quantiles(times, n=100)[percent - 1], 3)


if __name__ == "__main__":
    main()
