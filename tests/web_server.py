"""A web server on 127.0.0.1 for tests: files, folders as pages of links, and the same files as S3."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class WebServer:
    """What the server holds and what it was asked.

    Attributes:
        files: contents by path, such as ``/photos/a.jpg``.
        stated_bytes: the length it claims for a path, instead of the right one.
        seconds_between_bytes: how slowly it sends a path.
        kinds: the kind of content it says a path has, instead of a JPEG.
        statuses: the status with which it refuses a path.
        passwords: the name and password, ``ann:secret``, that it wants for a path.
        held: paths that it answers only once their event is set.
        asked: the paths of all GET requests.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    stated_bytes: dict[str, int] = field(default_factory=dict)
    seconds_between_bytes: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    held: dict[str, threading.Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, query: str) -> tuple[int, str, bytes]:
        """Status, kind of content, and content."""
        if path in self.statuses:
            return self.statuses[path], "text/plain", b"no"
        if path in self.files:
            return 200, self.kinds.get(path, "image/jpeg"), self.files[path]
        if "list-type" in parse_qs(query):
            return 200, "application/xml", self._s3_listing(path, parse_qs(query))
        inside = [name for name in self.files if name.rpartition("/")[0] == path.rstrip("/")]
        if path.endswith("/") and inside:
            return 200, "text/html", "".join(f'<a href="{name}">{name}</a>' for name in inside).encode()
        return 404, "text/plain", b"no such file"

    def _s3_listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        folder, prefix = f"{bucket.rstrip('/')}/", query.get("prefix", [""])[0]
        sizes = {
            name.removeprefix(folder): len(content)
            for name, content in self.files.items()
            if name.startswith(folder + prefix)
        }
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>0</ETag></Contents>"
            for key, size in sizes.items()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


@contextmanager
def serving() -> Iterator[WebServer]:
    """A server that runs while the block does."""
    web = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._send(with_content=False)

        def do_GET(self) -> None:
            web.asked.append(unquote(self.path))
            self._send(with_content=True)

        def _send(self, *, with_content: bool) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            if path in web.held:
                web.held[path].wait()
            wanted = base64.b64encode(web.passwords.get(path, "").encode()).decode()
            if path in web.passwords and self.headers["Authorization"] != f"Basic {wanted}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, kind, content = web.answer(path, parts.query)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(web.stated_bytes.get(path, len(content))))
            self.end_headers()
            pause = web.seconds_between_bytes.get(path, 0.0)
            try:
                for start in range(0, len(content) if with_content else 0, 1 if pause else 1 << 20):
                    self.wfile.write(content[start : start + (1 if pause else 1 << 20)])
                    time.sleep(pause)
            except OSError:  # the other side has hung up
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield web
    finally:
        for event in web.held.values():
            event.set()
        server.shutdown()
        server.server_close()
