"""What stands before every route: sizes, names, headers that keep the page to itself, and counting."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
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


def has_head(path: str, methods: Collection[str]) -> bool:
    """Whether a path answers HEAD, as all do that answer GET, but for the one whose answers are made for it."""
    return "GET" in methods and path != "/v1/stream"


class TooLargeError(Exception):
    """A body that is larger than allowed."""


class Guard:
    """ASGI middleware: refuses large bodies and foreign host names (a web site that points its own name at
    this machine), adds `HEADERS`, answers HEAD, and counts requests by path and status."""

    def __init__(
        self, app: ASGIApp, meters: Meters, largest_body: int, hosts: tuple[str, ...] | None = None
    ) -> None:
        self.app, self.meters, self.largest_body, self.hosts = app, meters, largest_body, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Counted(receive, self.largest_body, dict(scope["headers"]))

        async def send_guarded(message: Message) -> None:
            if body.is_too_large:  # whatever the app makes of a body that broke off
                return
            await send(self._labelled(message, scope["path"]))

        if self.hosts is not None and _host(body.headers) not in self.hosts:
            await _refuse(send_guarded, 400, f"This server answers to {', '.join(self.hosts)} only.")
            return
        if scope["method"] == "HEAD" and has_head(scope["path"], ("GET",)):
            scope = {**scope, "method": "GET"}  # the server sends no body where it was asked for HEAD
        with suppress(TooLargeError):
            await self.app(scope, body, send_guarded)
        if body.is_too_large:
            body.is_too_large = False
            await _refuse(send_guarded, 413, f"The body is larger than {self.largest_body} bytes; send less.")

    def _labelled(self, message: Message, path: str) -> Message:
        """The message with the headers, and counted, if it opens a response."""
        if message["type"] != "http.response.start":
            return message
        given = {name for name, _ in message["headers"]}
        extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        message["headers"] = [*message["headers"], *(pair for pair in extra if pair[0] not in given)]
        known = path if path in _PATHS else "other"
        self.meters.add("requests", 1, f'path="{known}",status="{message["status"]}"')
        return message


class _Counted:
    """`receive`, which raises `TooLargeError` once more bytes were announced or have come than allowed.

    Bodies are read whole before anything is answered, so that a response has never begun by then.
    """

    def __init__(self, receive: Receive, most: int, headers: dict[bytes, bytes]) -> None:
        self.receive, self.most, self.headers = receive, most, headers
        announced = headers.get(b"content-length", b"0")[:20]
        self.total = 0
        self.announced = int(announced) if announced.isdigit() else 0
        self.is_too_large = False

    async def __call__(self) -> Message:
        message = await self.receive()
        self.total += len(message.get("body", b""))
        if max(self.total, self.announced) > self.most:
            self.is_too_large = True
            raise TooLargeError
        return message


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
