"""Run the app with uvicorn."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from diffuseq.errors import InputError

_GRACE_S = 3
"""Seconds that open connections have to finish when the server stops."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `InputError` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # from here on visitors are let wait, not sent away
    except (OSError, OverflowError, TypeError, ValueError) as error:
        listener.close()
        is_host = isinstance(error, socket.gaierror | UnicodeError)
        is_host |= isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL
        remedy = (
            "give --host a name or an address of this machine, or 0.0.0.0 for all that it has"
            if is_host
            else "choose another --port, or 0 for a free one"
        )
        raise InputError(f"Cannot listen on {host}, port {port} ({error}); {remedy}.") from None
    return listener


class _Server(uvicorn.Server):
    """Stops the worker as soon as a signal comes, so that open streams end by themselves."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)
        threading.Thread(target=app.state.service.worker.stop).start()  # a signal handler must not wait
        super().handle_exit(sig, frame)


def run(app: FastAPI, listener: socket.socket, on_start: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_start` is told the address."""
    host, port = listener.getsockname()[:2]
    on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S, timeout_keep_alive=30
    )
    try:
        _Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has shut down in order by now and raises the signal again
    finally:
        listener.close()
