"""Connections to servers that may be slow, endless or wrong: limits, redirects, headers."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import http.client
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any, Self

from vitjax.core.errors import UserError
from vitjax.core.text import duration, printable
from vitjax.weights.errors import WeightsError

_SIZE = "VITJAX_DOWNLOAD_GB"
_HOURS = "VITJAX_DOWNLOAD_HOURS"
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
# What an address has on the wire, and a host once its letters are ASCII.
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_SENT = re.compile(r"[\x21-\x7e]*", re.ASCII)
_HOST = re.compile(r"[0-9a-z_]([0-9a-z_.-]*[0-9a-z_.])?|[0-9a-f:.]+(%[0-9a-z]+)?", re.ASCII)
_VERSION = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,500}[\x21-\x7e])?", re.ASCII)


class NotThere(WeightsError):
    """The server does not have the file, or requires a login."""


class Refused(WeightsError):
    """What a server sends cannot be the file, so a part of it is of no use."""


class Broken(Exception):
    """The connection broke, or was too slow: trying again may help."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the download of one file may need.

    Attributes:
        size: bytes.
        seconds: in all.
        silence: seconds without a byte.
        slowest: bytes per second, on average over each ``window``.
        window: seconds.
    """

    size: float = 100e9
    seconds: float = 24 * 3600.0
    silence: float = 30.0
    slowest: float = 1000.0
    window: float = 60.0

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, with the size in VITJAX_DOWNLOAD_GB and the time in VITJAX_DOWNLOAD_HOURS.

        Raises:
            WeightsError: a variable is no number above 0.
        """
        size, hours = _number(_SIZE, cls.size / 1e9), _number(_HOURS, cls.seconds / 3600)
        return cls(size=size * 1e9, seconds=hours * 3600)

    def check_size(self, size: float, url: str) -> None:
        """Raises Refused for a file of more than `size` bytes."""
        if size > self.size:
            raise Refused(
                f"{url}: has more than {self.size / 1e9:,.4g} GB, the limit for a download; set"
                f" {_SIZE} to a larger number if this is the right file"
            )


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1e9:
            return float(text)
    raise WeightsError(f"{name} is {text!r}; it must be a number above 0")


class Watch:
    """Ends connections that are too slow, whatever they are waiting for.

    Use it as a context. The time in all counts over several connections, from ``started``.

    Attributes:
        received: bytes so far, which the reader counts.
        late: whether the time of the download is over.
        slow: whether a window passed with too few bytes.
    """

    def __init__(self, limits: Limits, started: float):
        self.limits, self._end = limits, started + limits.seconds
        self.received, self.late, self.slow = 0, False, False
        self._sockets: list[socket.socket] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def add(self, opened: socket.socket) -> None:
        """Watches a connection."""
        self._sockets.append(opened)

    def reason(self, error: object) -> str:
        """Why a connection ended: for being slow, or by ``error``."""
        if self.late:
            return f"it takes more than {duration(self.limits.seconds)}; {_HOURS} allows more"
        if self.slow:
            return (
                f"less than {self.limits.slowest:,.0f} bytes per second over"
                f" {duration(self.limits.window)}"
            )
        return printable(" ".join(str(error).split())) or type(error).__name__

    def _run(self) -> None:
        before = 0
        while not self._done.wait(max(min(self.limits.window, self._end - time.monotonic()), 0)):
            self.late = time.monotonic() >= self._end
            self.slow = self.received - before < self.limits.slowest * self.limits.window
            before = self.received
            if self.late or self.slow:
                for each in self._sockets:
                    # Not that of TLS, which another thread must not touch.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(each, socket.SHUT_RDWR)
                self._done.wait(0.05)  # a connection may be opening


def check_address(url: str, words: str = "") -> urllib.parse.SplitResult:
    """The parts of an address of http or https.

    Args:
        url: the address.
        words: the beginning of the error, before the address.

    Raises:
        WeightsError: it is none, or has a user name, which no message shows.
    """
    begin = f"{words} " if words else ""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
        if parts.hostname and not _is_host(parts.hostname):
            raise ValueError("its host is no name")
        # urlsplit leaves out line ends.
        if _BLANK.search(url) or not _SENT.fullmatch(parts.path + parts.query):
            raise ValueError("write spaces and letters beyond ASCII as %20 and the like")
    except ValueError as error:
        raise WeightsError(f"{begin}{url[:500]!r}: is no valid address ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise WeightsError(
            f"{begin}an address at {parts.hostname}: has a user name or password, which are not"
            " sent; download the file by other means and give its path"
        )
    if parts.scheme not in ("http", "https"):
        raise WeightsError(f"{begin}{url[:500]!r}: is no address of http or https")
    return parts


def _is_host(name: str) -> bool:
    try:
        return _HOST.fullmatch(name.encode("idna").decode()) is not None
    except UnicodeError:  # a part of it is empty or too long
        return False


def request(
    url: str, headers: Mapping[str, str], watch: Watch
) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
    """Asks for ``url``.

    Raises:
        NotThere, WeightsError, Broken: there is no answer.
        urllib.error.HTTPError: the server answers with an error.
        urllib.error.URLError: it cannot be reached.
    """
    check_address(url)
    asked = {"User-Agent": "vitjax", "Accept-Encoding": "identity", **headers}
    try:
        opener = urllib.request.build_opener(_Redirect, _Http(watch), _Https(watch))
        answer: Any = opener.open(
            urllib.request.Request(url, headers=asked), timeout=watch.limits.silence
        )
    except (UserError, urllib.error.URLError):
        raise
    except (http.client.InvalidURL, ValueError, OverflowError) as error:
        # A host that is no name, a port that is no number, characters that are not ASCII.
        raise WeightsError(f"{url}: is no valid address ({watch.reason(error)})") from error
    except (http.client.HTTPException, OSError) as error:
        raise Broken(watch.reason(error)) from error
    if watch.slow or watch.late:  # what came so far looks like a complete header
        answer.close()
        raise Broken(watch.reason(""))
    found: contextlib.AbstractContextManager[http.client.HTTPResponse] = answer
    return found


def chunks(answer: http.client.HTTPResponse, watch: Watch, size: int) -> Iterator[bytes]:
    """Yields what arrives, at most ``size`` bytes at once.

    Raises:
        Broken: the connection broke.
    """
    while True:
        try:
            # Unlike read, it returns what is there, however little.
            chunk = answer.read1(size)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise Broken(watch.reason(error)) from error
        if watch.late or watch.slow:
            raise Broken(watch.reason(""))
        if not chunk:
            return
        watch.received += len(chunk)
        yield chunk


def check_plain(headers: Message, url: str) -> None:
    """Raises Refused if what the server sends is the file in another form, such as compressed."""
    sent = {
        "Content-Encoding": {"identity"},
        "Transfer-Encoding": {"identity", "chunked"},
    }
    for header, plain in sent.items():
        for value in headers.get_all(header, []):
            if str(value).strip().lower() not in {"", *plain}:
                raise Refused(
                    f"{url}: the server sends another form of the file, although it was asked for"
                    f" the file itself ({header}: {printable(value)[:80]})"
                )


def length(headers: Message, url: str) -> int | None:
    """The bytes that the server announces; None if it announces none.

    Raises:
        Refused: the header is no number, or there are several.
    """
    stated = set(headers.get_all("Content-Length", []))
    if not stated:
        return None
    (value, *others) = sorted(map(str, stated))
    if others or not _LENGTH.fullmatch(value.strip()):
        shown = printable(" and ".join([value, *others]))[:80]
        raise Refused(f"{url}: the server states a Content-Length of {shown!r}")
    return int(value)


def continues(headers: Message, begin: int) -> bool:
    """Whether a partial answer is the rest of a file from the byte ``begin``."""
    found = _RANGE.fullmatch(str(headers.get("Content-Range", "")).strip())
    if found is None or int(found[1]) != begin:
        return False
    rest, end = str(headers.get("Content-Length", "")).strip(), int(found[2])
    complete = found[3] == "*" or end + 1 == int(found[3])
    return complete and (not _LENGTH.fullmatch(rest) or int(rest) == end + 1 - begin)


def version(headers: Message) -> str:
    """What identifies the version of a file; empty if nothing does that could be sent back."""
    tag = str(headers.get("ETag", ""))
    if not tag or tag.startswith("W/"):  # a weak tag: the same page, possibly other bytes
        tag = str(headers.get("Last-Modified", ""))
    return tag if is_version(tag) else ""


def is_version(text: str) -> bool:
    """Whether ``text`` can be sent as the version of a file."""
    return _VERSION.fullmatch(text) is not None


def announced(headers: Message, url: str) -> dict[str, str]:
    """The MD5 that Google's storage states: ``x-goog-hash: crc32c=...,md5=<base64>``.

    Raises:
        Refused: it is none.
    """
    for value in headers.get_all("x-goog-hash", []):
        for item in str(value).split(","):
            algorithm, _, digest = item.strip().partition("=")
            if algorithm == "md5":
                try:
                    found = base64.b64decode(digest, validate=True)
                except (binascii.Error, ValueError):
                    found = b""
                if len(found) != 16:
                    raise Refused(f"{url}: the server states an MD5 of {printable(digest)[:80]!r}")
                return {"md5": found.hex()}
    return {}


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, except from an encrypted address to another one."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        _check_redirect(req, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        fp.close()  # the inherited method reads its body, which may have no end
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _check_redirect(asked: Any, target: str) -> None:
    """Raises WeightsError unless a server may redirect the request ``asked`` to ``target``."""
    shown = printable(target)[:500]
    scheme = check_address(target, f"{asked.full_url}: the server redirects to").scheme
    if asked.type == "https" and scheme != "https":
        raise Refused(
            f"{asked.full_url}: the server redirects to {shown}, which is not encrypted; give that"
            " address itself, with #sha256=..., if you trust it"
        )


class _Http(urllib.request.HTTPHandler):
    """Opens connections that are watched."""

    def __init__(self, watch: Watch):
        super().__init__()
        self._watch = watch

    def http_open(self, req: Any) -> Any:
        return self.do_open(_watched(http.client.HTTPConnection, self._watch), req)


class _Https(urllib.request.HTTPSHandler):
    """Likewise, encrypted."""

    def __init__(self, watch: Watch):
        super().__init__()
        self._watch = watch

    def https_open(self, req: Any) -> Any:
        return self.do_open(_watched(http.client.HTTPSConnection, self._watch), req)


def _watched(
    kind: type[http.client.HTTPConnection], watch: Watch
) -> Callable[..., http.client.HTTPConnection]:
    """A constructor of connections of ``kind`` that ``watch`` can end."""

    class Connection(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)

    return Connection
