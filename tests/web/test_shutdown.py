from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for child processes")
def test_ctrl_c_ends_the_server_in_order_while_someone_is_watching(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "diffuseq", "serve", str(tiny_folder), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        port = int(server.stderr.readline().split(";")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as watcher:
            watcher.sendall(
                b"GET /v1/stream?source=tea&steps=100&candidates=20 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert watcher.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(0.05)
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0
        assert server.stderr.read() == ""
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
