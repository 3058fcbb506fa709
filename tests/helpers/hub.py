"""A hub of models on the loopback, in the layout of the real one, with the faults that a hub can have."""

import hashlib
import http.server
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

SITE: Final = ""
"""In place of a repository in ``faults``: a fault of the probe, ``HEAD /``."""

TAG: Final = "v1"
"""A revision that each repository has beside ``main`` and its commit."""

LARGE: Final = (".safetensors", ".bin")
"""Endings of files in Git LFS, which the hub redirects to another host."""

Fault = Literal[
    "unauthorized",  # 401: private, or it does not exist
    "expired",  # 401: a token that has expired
    "gated",  # 403: conditions not accepted
    "gated-401",  # 401: the same without a login
    "forbidden",  # 403 of a proxy
    "busy",  # 429, with the seconds to wait
    "busy-content",  # 429 where the content is
    "down",  # 503
    "down-content",  # 503 where the content is
    "portal",  # the login page of a network, status 200
    "portal-redirect",  # a redirect to that page on another host
    "cut",  # the connection closes within the content
    "short",  # less content than the hub says, with a Content-Length that fits it
    "wrong",  # other bytes of the same length
    "plain",  # not a fault: no redirect to another host
    "silent",  # the connection is accepted, and nothing comes
    "silent-content",  # the same where the content is
    "drip",  # a byte of content now and then
]

_REFUSALS: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "unauthorized": (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}),
    "expired": (401, {"X-Error-Message": 'User Access Token "ci" is expired'}),
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}),
    "gated-401": (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}),
    "forbidden": (403, {"X-Error-Message": "Forbidden by policy"}),
    "busy": (429, {"RateLimit": '"resolvers";r=0;t=41', "RateLimit-Policy": '"fixed window";"resolvers";q=3000;w=300'}),
    "down": (503, {}),
}


def commit_of(repo: str) -> str:
    """Return the commit of a repository's only revision."""
    return hashlib.sha1(repo.encode()).hexdigest()  # noqa: S324 - git's hash


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """Return the environment of a process that uses this hub, with its cache in ``home``."""
    # The hub library reads its environment once, when it is imported. Proxies would get requests to the loopback too.
    inherited = {key: value for key, value in os.environ.items() if key not in {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}}
    return inherited | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@contextmanager
def serve(files: Mapping[str, bytes | Path], faults: Mapping[str, Fault] | None = None) -> Iterator[str]:
    """Serve files by ``owner/repository/name``, with faults by ``owner/repository``; yield the endpoint."""

    class Handler(_Handler):
        pass

    Handler.files, Handler.faults, Handler.ended = dict(files), dict(faults or {}), threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        Handler.ended.set()
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers to ``/``, ``/REPO/resolve/REVISION/NAME`` and, as the host of large files, ``/content/REPO/NAME``."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes | Path]
    faults: dict[str, Fault]
    ended: threading.Event

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path)
        if match := re.fullmatch(r"/content/(.+)/([^/]+)", path):
            self._content(match[1], match[2])
        elif match := re.fullmatch(r"/(.+)/resolve/([^/]+)/([^/]+)", path):
            self._resolve(match[1], match[2], match[3])
        else:
            self._with_fault(SITE, lambda: self._send(200, {}))

    def _with_fault(self, repo: str, answer: Callable[[], None]) -> None:
        fault = self.faults.get(repo)
        if fault in _REFUSALS:
            self._send(*_REFUSALS[fault])
        elif fault == "silent":
            self.ended.wait()
        elif fault == "portal":
            self._send(200, {"Content-Type": "text/html"}, b"<html>Welcome to our network</html>")
        elif fault == "portal-redirect":
            self._send(302, {"Location": f"http://localhost:{self.server.server_port}/login"})  # type: ignore[attr-defined]
        else:
            answer()

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        self._with_fault(repo, lambda: self._resolved(repo, revision, name))

    def _resolved(self, repo: str, revision: str, name: str) -> None:
        commit = {"X-Repo-Commit": commit_of(repo)}
        if not any(key.startswith(f"{repo}/") for key in self.files):
            # The real hub does not tell strangers what exists.
            status = 404 if "Authorization" in self.headers else 401
            self._send(status, {"X-Error-Code": "RepoNotFound"})
        elif revision not in {"main", TAG, commit_of(repo)}:
            self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        elif f"{repo}/{name}" not in self.files:
            self._send(404, commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        elif name.endswith(LARGE) and self.faults.get(repo) != "plain":
            data = self._read(repo, name)
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            # Another host name is another host to the library, whatever its address.
            host = f"http://localhost:{self.server.server_port}"  # type: ignore[attr-defined]
            self._send(302, commit | linked | {"Location": f"{host}/content/{repo}/{name}"})
        else:
            data = self._read(repo, name)
            etag = hashlib.sha256(data) if name.endswith(LARGE) else _git_hash(data)
            self._send(200, commit | {"ETag": f'"{etag.hexdigest()}"'}, data)

    def _content(self, repo: str, name: str) -> None:
        data, fault = self._read(repo, name), self.faults.get(repo)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if fault == "busy-content":
            self._send(429, {"Retry-After": "0"})
        elif fault == "down-content":
            self._send(503, {})
        elif fault == "wrong":
            self._send(200, {}, data[:-1] + bytes([data[-1] ^ 1]))
        elif fault == "short":
            self._send(200, {}, data[: len(data) // 2])
        elif fault in {"cut", "silent-content", "drip"}:
            self._interrupted(data, fault)
        elif start:
            self._send(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])
        else:
            self._send(200, {"Accept-Ranges": "bytes"}, data)

    def _interrupted(self, data: bytes, fault: str) -> None:
        """Announce all content, and send half of it, nothing, or a byte now and then."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.flush()
        if fault == "cut":
            self.wfile.write(data[: len(data) // 2])
        elif fault == "silent-content":
            self.ended.wait()
        for byte in data if fault == "drip" else b"":
            if self.ended.wait(0.2):
                return
            self.wfile.write(bytes([byte]))

    def _read(self, repo: str, name: str) -> bytes:
        file = self.files[f"{repo}/{name}"]
        return file if isinstance(file, bytes) else file.read_bytes()

    def _send(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


def _git_hash(data: bytes) -> "hashlib._Hash":
    return hashlib.sha1(b"blob %d\0" % len(data) + data)  # noqa: S324 - git's hash
