"""Many clients at once: is every answer the right one, and how much do batches gain over one by one?

    python benchmarks/serve_load.py MODEL [--clients 64] [--requests 4]

A server is started on loopback in a process of its own. First one client asks everything one by one, then
all clients ask at once; every answer of the crowd is compared with that of the lone client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time

import httpx

SOURCES = [
    "how do i learn to {}?",
    "what is the best way to {}?",
    "why do people like to {} so much?",
    "where can i {} at the weekend?",
]
THINGS = ["cook", "swim", "draw", "sing", "read", "run", "dance", "travel", "paint", "write", "sleep", "work"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--candidates", type=int, default=4)
    options = parser.parse_args()
    bodies = [
        {
            "source": SOURCES[i % len(SOURCES)].format(THINGS[i % len(THINGS)]),
            "settings": {"seed": i, "candidates": options.candidates},
        }
        for i in range(options.clients * options.requests)
    ]
    command = [sys.executable, "-m", "diffuseq", "serve", options.model, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        words = server.stderr.readline().split()
        if not words or words[0] != "Open":
            raise SystemExit(" ".join(words) + server.stderr.read())
        asyncio.run(measure(words[1].rstrip(";"), bodies, options.clients))
    finally:
        server.terminate()
        server.wait(10)


async def measure(address: str, bodies: list[dict[str, object]], clients: int) -> None:
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=300) as client:
        await ask(client, bodies[0])
        few = bodies[: max(16, len(bodies) // 8)]
        alone, alone_times, alone_s = await crowd(client, few, 1)
        together, times, seconds = await crowd(client, bodies, clients)
    wrong = sum(together[i] != answer for i, answer in alone.items())
    mixed_up = sum(body["source"] != together[i][0] for i, body in enumerate(bodies))
    report = {
        "clients": clients,
        "requests": len(bodies),
        "lost": len(bodies) - len(together),
        "mixed_up": mixed_up,
        "other_than_alone": wrong,
        "one_by_one": summary(alone_times, len(few) / alone_s),
        "at_once": summary(times, len(bodies) / seconds),
        "throughput_ratio": round(len(bodies) / seconds / (len(few) / alone_s), 2),
    }
    print(json.dumps(report, indent=2))


Answer = tuple[str, list[str]]


async def crowd(
    client: httpx.AsyncClient, bodies: list[dict[str, object]], clients: int
) -> tuple[dict[int, Answer], list[float], float]:
    """Answers by number, the seconds of each and of all; each client asks again when answered."""
    answers: dict[int, Answer] = {}
    times: list[float] = []
    numbers = iter(range(len(bodies)))

    async def one() -> None:
        for number in numbers:
            began = time.perf_counter()
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


def summary(times: list[float], throughput: float) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {
        "p50_s": round(cuts[49], 3),
        "p95_s": round(cuts[94], 3),
        "answers_a_second": round(throughput, 2),
    }


if __name__ == "__main__":
    main()
