"""A local server that speaks as much of the hub's protocol as pushing and opening a model takes.

Files are committed as the real client sends them: small ones inside the commit, large ones over LFS, whose
hash is held against the bytes that came. Writing needs the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_standin"
_SHA = "c0ffee" * 6 + "c0ff"


@dataclass
class Hub:
    """What was uploaded: files by repository, and whether the repository is private."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    over_lfs: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def stand_in() -> Iterator[Hub]:
    """Run the server on loopback; its address is that of the hub that is given."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._give({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._give({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            self._plan(json.loads(body)["files"])
        elif re.fullmatch(r"/.+\.git/info/lfs/objects/batch", self.path):
            self._offer_uploads(json.loads(body)["objects"])
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._give({"error": f"no such route: {self.path}"}, 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.path.rpartition("/")[2]
        fits = hashlib.sha256(body).hexdigest() == name
        if fits:
            self.hub.blobs[name] = body
        self._give({}, 200 if fits else 400)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(.+?)/tree/[^/]+", path):
            self._list(found[1])
        elif found := re.fullmatch(r"/api/models/(.+?)(/revision/[^/]+)?", path):
            self._describe(found[1])
        elif found := re.fullmatch(r"/(.+?)/resolve/[^/]+/(.+)", path):
            self._download(found[1], unquote(found[2]))
        else:
            self._give({"error": f"no such route: {path}"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        self.hub.repositories.setdefault(name, {})
        self.hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._give({"url": f"{self.hub.address}/{name}"})

    def _plan(self, files: list[dict[str, Any]]) -> None:
        def mode(path: str) -> str:
            return "lfs" if path.endswith(".safetensors") else "regular"

        plan = [
            {"path": file["path"], "uploadMode": mode(file["path"]), "shouldIgnore": False} for file in files
        ]
        self._give({"files": plan})

    def _offer_uploads(self, objects: list[dict[str, Any]]) -> None:
        offers = [
            {**item, "actions": {"upload": {"href": f"{self.hub.address}/upload/{item['oid']}"}}}
            for item in objects
        ]
        self._give({"transfer": "basic", "objects": offers})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
                self.hub.over_lfs.add(value["path"])
        self._give({"commitUrl": f"{self.hub.address}/{name}/commit/{_SHA}", "commitOid": _SHA})

    def _describe(self, name: str) -> None:
        if name not in self.hub.repositories:
            self._give({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        names = [{"rfilename": path} for path in self.hub.repositories[name]]
        self._give({"id": name, "sha": _SHA, "siblings": names, "private": self.hub.private[name]})

    def _list(self, name: str) -> None:
        files = self.hub.repositories.get(name, {})
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in files.items()
        ]
        self._give(entries)

    def _download(self, name: str, path: str) -> None:
        content = self.hub.repositories.get(name, {}).get(path)
        if content is None:
            self._give({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        etag = hashlib.sha256(content).hexdigest()
        self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": _SHA})

    def _give(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests are silent."""
