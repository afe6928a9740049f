"""The server under load: what it does not answer is counted, and not a traceback."""

from __future__ import annotations

import asyncio
import json

import httpx
import serve_load


def test_what_the_server_refuses_is_lost_and_the_rest_is_measured() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        source = json.loads(request.content)["source"]
        if source == "1":
            return httpx.Response(503)
        return httpx.Response(200, json={"answers": [{"source": source, "candidates": [source]}]})

    async def ask() -> tuple[dict[int, serve_load.Answer], list[float], float]:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(base_url="http://server", transport=transport) as client:
            return await serve_load.crowd(client, [{"source": str(i)} for i in range(4)], 2)

    answers, times, _ = asyncio.run(ask())
    assert answers == {i: (str(i), [str(i)]) for i in (0, 2, 3)}
    assert len(times) == 3
