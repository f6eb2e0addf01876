"""One file from the web to the disk: in one or several goes, checked, whole or not there."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from pathlib import Path

import filelock
from tqdm import tqdm

from vitjax.weights.errors import WeightsError

_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 0.5  # seconds, twice as many after each
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 2**20


class NotThere(WeightsError):
    """The server has no such file, or does not show it."""


def fetch(
    url: str,
    path: Path,
    checks: Mapping[str, str],
    *,
    say: Callable[[str], None],
    progress: bool,
    by_hand: str,
) -> Path:
    """Brings the file at ``url`` to ``path``, if it is not there yet.

    A connection that breaks is taken up again where it broke off, also by a later call. Several
    processes may ask at once: one fetches, the others wait for it.

    Args:
        url: of http or https.
        path: where to; beside it, hidden files keep what has come so far.
        checks: algorithm to the beginning of the digest that the file must have.
        say: is told what is fetched.
        progress: show a bar.
        by_hand: in words, what a person can do who has no network.

    Returns:
        ``path``.

    Raises:
        NotThere: the server has no such file.
        WeightsError: it cannot be reached, answers with a page or an error, or sends what its own
            checksum, or one of ``checks``, contradicts.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_name(f".{path.name}.lock"), say):
            if path.is_file():  # another process was faster
                return path
            say(f"Fetching {url} to {path}")
            announced = _receive(url, part, progress, by_hand)
            try:
                check(part, {**announced, **checks}, url)
                _refuse_page(part, url)
            except WeightsError:
                part.unlink()
                raise
            os.replace(part, path)
            _note(part).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def check(path: Path, checks: Mapping[str, str], name: str) -> None:
    """Compares the file at ``path`` with ``checks``, see `fetch`; errors call it ``name``.

    Raises:
        WeightsError: it is another file.
    """
    for algorithm, expected in checks.items():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if not found.startswith(expected):
            raise WeightsError(
                f"{name}: is not the file that it should be: its {algorithm} is {found}, and should"
                f" be {expected}"
            )


def _refuse_page(path: Path, url: str) -> None:
    with open(path, "rb") as file:
        begin = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if begin.startswith((b"<!doctype", b"<html")):
        raise WeightsError(
            f"{url}: the server answers with a web page, not with a file: the address is of a page"
            " about it, or a login is wanted first"
        )


def _receive(url: str, part: Path, progress: bool, by_hand: str) -> dict[str, str]:
    """Brings all of ``url`` to ``part``; returns the checksums that the server tells."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            return _continue(url, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{error.code} {error.reason}"
            if error.code in (403, 404, 410):  # storage may say 403 of what is not there
                raise NotThere(
                    f"{url}: the server has no such file, or not for all ({reason})"
                ) from None
            if error.code == 416:  # what is there is longer than the file is
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise WeightsError(f"{url}: the server refuses ({reason}); {by_hand}") from None
        except urllib.error.URLError as error:
            raise WeightsError(f"{url}: cannot be reached ({error.reason}); {by_hand}") from error
        except _Broken as error:
            reason = str(error)
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless == _ATTEMPTS:
            raise WeightsError(f"{url}: cannot be fetched ({reason}); {by_hand}")
        time.sleep(_PAUSE * 2**fruitless)


def _continue(url: str, part: Path, progress: bool) -> dict[str, str]:
    """One request for what ``part`` lacks of ``url``."""
    request = urllib.request.Request(
        url, headers={"User-Agent": "vitjax", "Accept-Encoding": "identity"}
    )
    have = _size(part) if _note(part).is_file() else 0
    if have:
        request.add_header("Range", f"bytes={have}-")
        # The whole file, should it have changed since.
        request.add_header("If-Range", _note(part).read_text())
    with contextlib.ExitStack() as stack:
        try:
            opener = urllib.request.build_opener(_Redirect)
            answer = stack.enter_context(opener.open(request, timeout=_TIMEOUT))
        except http.client.InvalidURL as error:
            raise WeightsError(f"{url}: is no address ({error})") from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Broken(error) from error
        headers = answer.headers
        if answer.status != 206 or not headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        ):
            have = 0
            _take_note(part, headers)
        total = int(headers["Content-Length"]) + have if headers["Content-Length"] else None
        file = stack.enter_context(open(part, "ab" if have else "wb"))
        bar = stack.enter_context(
            tqdm(
                desc=part.name[1:].removesuffix(".part"),
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,  # None: where nobody watches
            )
        )
        while chunk := _chunk(answer):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise _Broken(f"the connection broke after {_size(part):,} of {total:,} bytes")
    return _announced(headers)


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to other addresses, but for one that leaves what protected this one behind."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.startswith("https:"):
            raise WeightsError(
                f"{req.full_url}: the server sends on to {newurl}, which is not encrypted; give"
                " that address itself, with #sha256=..., if it is to be trusted"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Broken(Exception):
    """The connection did not last."""


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    """The file that tells of which version of the web's file ``part`` is the beginning."""
    return part.with_suffix(".version")


def _take_note(part: Path, headers: Message) -> None:
    """Keeps what tells versions apart; where there is nothing, no beginning can be gone on with."""
    version = headers.get("ETag", "")
    if not version or version.startswith("W/"):  # weak: the same page, not the same bytes
        version = headers.get("Last-Modified", "")
    # Before the note of another version goes, so does what it was the note of.
    part.unlink(missing_ok=True)
    if version:
        _note(part).write_text(version)
    else:
        _note(part).unlink(missing_ok=True)


def _announced(headers: Message) -> dict[str, str]:
    """The MD5 that Google's storage tells: ``x-goog-hash: crc32c=...,md5=<base64>``."""
    for value in headers.get_all("x-goog-hash", []):
        for item in value.split(","):
            algorithm, _, digest = item.strip().partition("=")
            if algorithm == "md5":
                return {"md5": base64.b64decode(digest).hex()}
    return {}


@contextlib.contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock at ``path``, once nobody else does."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say("Another process is fetching the same file; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
