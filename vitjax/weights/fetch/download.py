"""One file from the web to the disk: resumed, checked, and complete or absent."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from pathlib import Path

import filelock
from tqdm import tqdm

from vitjax.core.atomic import replace
from vitjax.weights.errors import WeightsError

_ATTEMPTS = 5  # in a row without a new byte
_PAUSE = 0.5  # seconds, twice as many after each
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 2**20


class NotThere(WeightsError):
    """The server does not have the file, or requires a login."""


def fetch(
    url: str,
    path: Path,
    checks: Mapping[str, str],
    *,
    say: Callable[[str], None],
    progress: bool,
    by_hand: str,
) -> Path:
    """Downloads the file at ``url`` to ``path``, unless it exists.

    A broken download is resumed, also by a later call. Several processes may call this at once: one
    downloads, the others wait.

    Args:
        url: of http or https.
        path: the target; hidden files beside it have the part downloaded so far.
        checks: algorithm to the beginning of the digest that the file must have.
        say: receives a message about the download.
        progress: show a bar.
        by_hand: what to do without a network, for errors.

    Returns:
        ``path``.

    Raises:
        NotThere: the server does not have the file.
        WeightsError: it cannot be reached, answers with a page or an error, or the file contradicts
            the server's checksum or one of ``checks``.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_name(f".{path.name}.lock"), say):
            if path.is_file():  # another process was faster
                return path
            say(f"Downloading {url} to {path}")
            announced = _receive(url, part, progress, by_hand)
            try:
                check(part, {**announced, **checks}, url)
                _refuse_page(part, url)
            except WeightsError:
                part.unlink()
                raise
            replace(part, path)
            _note(part).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def check(path: Path, checks: Mapping[str, str], name: str) -> None:
    """Compares the file at ``path`` with ``checks``, see `fetch`; ``name`` is for errors.

    Raises:
        WeightsError: a digest differs.
    """
    for algorithm, expected in checks.items():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if not found.startswith(expected):
            raise WeightsError(
                f"{name}: is not the expected file: its {algorithm} is {found}, and should be"
                f" {expected}"
            )


def _refuse_page(path: Path, url: str) -> None:
    with open(path, "rb") as file:
        begin = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if begin.startswith((b"<!doctype", b"<html")):
        raise WeightsError(
            f"{url}: the server answers with a web page, not a file: the address is of a page about"
            " the file, or requires a login"
        )


def _receive(url: str, part: Path, progress: bool, by_hand: str) -> dict[str, str]:
    """Downloads all of ``url`` to ``part``; returns the checksums that the server states."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            return _continue(url, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{error.code} {error.reason}"
            if error.code in (403, 404, 410):  # Google's storage may answer 403 for a missing file
                raise NotThere(
                    f"{url}: the server does not have the file, or requires a login ({reason})"
                ) from None
            if error.code == 416:  # the part is longer than the file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise WeightsError(f"{url}: the server refuses ({reason}); {by_hand}") from None
        except urllib.error.URLError as error:
            raise WeightsError(f"{url}: cannot be reached ({error.reason}); {by_hand}") from error
        except _Broken as error:
            reason = str(error)
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless == _ATTEMPTS:
            raise WeightsError(f"{url}: cannot be downloaded ({reason}); {by_hand}")
        time.sleep(_PAUSE * 2**fruitless)


def _continue(url: str, part: Path, progress: bool) -> dict[str, str]:
    """One request for the rest of ``url`` that ``part`` lacks."""
    request = urllib.request.Request(
        url, headers={"User-Agent": "vitjax", "Accept-Encoding": "identity"}
    )
    have = _size(part) if _note(part).is_file() else 0
    if have:
        request.add_header("Range", f"bytes={have}-")
        # The complete file if it has changed since.
        request.add_header("If-Range", _note(part).read_text())
    with contextlib.ExitStack() as stack:
        try:
            opener = urllib.request.build_opener(_Redirect)
            answer = stack.enter_context(opener.open(request, timeout=_TIMEOUT))
        except http.client.InvalidURL as error:
            raise WeightsError(f"{url}: is no valid address ({error})") from error
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
                disable=None if progress else True,  # None: hidden without a terminal
            )
        )
        while chunk := _chunk(answer):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise _Broken(f"the connection broke after {_size(part):,} of {total:,} bytes")
    return _announced(headers)


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except from an encrypted address to one that is not."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.startswith("https:"):
            raise WeightsError(
                f"{req.full_url}: the server redirects to {newurl}, which is not encrypted; give"
                " that address itself, with #sha256=..., if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Broken(Exception):
    """The connection broke."""


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    """The file with the version of the file that ``part`` is the beginning of."""
    return part.with_suffix(".version")


def _take_note(part: Path, headers: Message) -> None:
    """Stores what identifies the version; without it, a part cannot be resumed."""
    version = headers.get("ETag", "")
    if not version or version.startswith("W/"):  # a weak tag: the same page, possibly other bytes
        version = headers.get("Last-Modified", "")
    # The part of another version is deleted before its note.
    part.unlink(missing_ok=True)
    if version:
        _note(part).write_text(version)
    else:
        _note(part).unlink(missing_ok=True)


def _announced(headers: Message) -> dict[str, str]:
    """The MD5 that Google's storage states: ``x-goog-hash: crc32c=...,md5=<base64>``."""
    for value in headers.get_all("x-goog-hash", []):
        for item in value.split(","):
            algorithm, _, digest = item.strip().partition("=")
            if algorithm == "md5":
                return {"md5": base64.b64decode(digest).hex()}
    return {}


@contextlib.contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock at ``path``, waiting for other processes."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say("Another process is downloading the same file; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
