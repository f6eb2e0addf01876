"""A web server that serves files correctly or with faults."""

from __future__ import annotations

import dataclasses
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclasses.dataclass
class Page:
    """What the server has under one path.

    Attributes:
        content: the whole of it.
        headers: beside those that any answer has.
        status: other than 200, where the server refuses.
        breaks: for each of the first requests, after how many bytes the connection breaks.
    """

    content: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    status: int = 200
    breaks: list[int] = dataclasses.field(default_factory=list)


class Server:
    """The pages that are served, and the requests that came: (method, path, range)."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, str | None]] = []

    def serve(self, path: str, *page: Any, **keywords: Any) -> None:
        """Has a `Page` under ``path``, which may have a query."""
        self.pages[path] = Page(*page, **keywords)

    def gets(self) -> list[tuple[str, str | None]]:
        return [(path, part) for method, path, part in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served = self.server.served
        path = self.path.split("?")[0] if self.path not in served.pages else self.path
        asked = self.headers["Range"]
        served.requests.append((self.command, self.path, asked))
        page = served.pages.get(path, Page(b"<html>Not found</html>", status=404))
        content, status = page.content, page.status
        headers = {"Accept-Ranges": "bytes"} | page.headers
        unchanged = self.headers["If-Range"] in (None, headers.get("ETag"))
        if asked and status == 200 and unchanged:
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if begin >= len(content):
                content, status = b"", 416
            else:
                headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                content, status = content[begin:], 206
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: page.breaks.pop(0)] if page.breaks else content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.served = Server(web.server_address[1])
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        yield web.served
        web.shutdown()
        thread.join()
