"""What stands before every route: sizes, names, headers that keep the page to itself, and counting."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffuseq.web.meters import Meters

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, and no script runs but the page's own file."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_PATHS = ("/", "/v1/generate", "/v1/stream", "/v1/models", "/health", "/metrics")


class TooLargeError(Exception):
    """A body that is larger than allowed."""


class Guard:
    """ASGI middleware: refuses large bodies and foreign host names (a web site that points its own name at
    this machine), adds `HEADERS`, and counts requests by path and status."""

    def __init__(
        self, app: ASGIApp, meters: Meters, largest_body: int, hosts: tuple[str, ...] | None = None
    ) -> None:
        self.app, self.meters, self.largest_body, self.hosts = app, meters, largest_body, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name for name, _ in message["headers"]}
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in extra if pair[0] not in given)]
                path = scope["path"] if scope["path"] in _PATHS else "other"
                self.meters.add("requests", 1, f'path="{path}",status="{message["status"]}"')
            await send(message)

        headers = dict(scope["headers"])
        if self.hosts is not None and _host(headers) not in self.hosts:
            await _refuse(send_guarded, 400, f"This server answers to {', '.join(self.hosts)} only.")
            return
        try:
            await self.app(scope, self._counted(headers, receive), send_guarded)
        except TooLargeError:
            if not started:
                await _refuse(
                    send_guarded, 413, f"The body is larger than {self.largest_body} bytes; send less."
                )

    def _counted(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """`receive`, which raises once more bytes have come than allowed."""
        total = 0
        announced = headers.get(b"content-length", b"0")

        async def counted() -> Message:
            nonlocal total
            if announced.isdigit() and int(announced[:20]) > self.largest_body:
                raise TooLargeError
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.largest_body:
                raise TooLargeError
            return message

        return counted


def _host(headers: dict[bytes, bytes]) -> str:
    """The name in the Host header, without the port."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _refuse(send: Any, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
