"""One file from the web to the disk: resumed, checked, and complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
from tqdm import tqdm

from vitjax.core.atomic import replace
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import connection
from vitjax.weights.fetch.connection import Broken, Limits, NotThere, Refused, Watch

_ATTEMPTS = 5  # in a row without a new byte, or too slow
_POOR = 2**16  # bytes
_POOR_ATTEMPTS = 20  # with fewer bytes than those
_PAUSE = 0.5  # seconds, twice as many after each
_CHUNK = 2**20


def fetch(
    url: str,
    path: Path,
    checks: Mapping[str, str],
    *,
    locks: Path,
    say: Callable[[str], None],
    progress: bool,
    by_hand: str,
    limits: Limits | None = None,
) -> Path:
    """Downloads the file at ``url`` to ``path``, unless it exists.

    A broken download is resumed, also by a later call. Several processes may call this at once: one
    downloads, the others wait.

    Args:
        url: of http or https.
        path: the target; hidden files beside it have the part downloaded so far.
        checks: algorithm to the beginning of the digest that the file must have.
        locks: a folder in the cache for the locks of all downloads, which remain.
        say: receives a message about the download.
        progress: show a bar.
        by_hand: what to do without a network, for errors.
        limits: of size and time; None for those of the environment, see `Limits`.

    Returns:
        ``path``.

    Raises:
        NotThere: the server does not have the file.
        WeightsError: it cannot be reached, answers with a page or an error, is too large or too
            slow, or the file contradicts the server's checksum or one of ``checks``. A part that
            can be resumed remains.
    """
    limits = Limits.from_environment() if limits is None else limits
    part = path.with_name(f".{path.name}.part")
    try:
        with contextlib.suppress(FileNotFoundError):
            _note(part).stat()  # reports a name that is too long
        locks.mkdir(parents=True, exist_ok=True)
        with _alone(_lock(path, locks), say):
            if path.is_file():  # another process was faster
                return path
            say(f"Downloading {url} to {path}")
            try:
                stated = _receive(url, part, limits, checks, progress, by_hand)
                check(part, {**stated, **checks}, url)
                _refuse_page(part, url)
            except BaseException as error:
                if isinstance(error, Refused) or not _noted(part):  # it cannot be resumed
                    _discard(part)
                raise
            replace(part, path)
            _note(part).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def check(path: Path, checks: Mapping[str, str], name: str) -> None:
    """Compares the file at ``path`` with ``checks``, see `fetch`; ``name`` is for errors.

    Raises:
        Refused: a digest differs.
    """
    for algorithm, expected in checks.items():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if not found.startswith(expected):
            raise Refused(
                f"{name}: is not the expected file: its {algorithm} is {found}, and should be"
                f" {expected}"
            )


def _refuse_page(path: Path, url: str) -> None:
    with open(path, "rb") as file:
        begin = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if begin.startswith((b"<!doctype", b"<html")):
        raise Refused(
            f"{url}: the server answers with a web page, not a file: the address is of a page about"
            " the file, or requires a login"
        )


def _receive(
    url: str, part: Path, limits: Limits, checks: Mapping[str, str], progress: bool, by_hand: str
) -> dict[str, str]:
    """Downloads all of ``url`` to ``part``; returns the checksums that the server states."""
    started, fruitless, poor = time.monotonic(), 0, 0
    while True:
        with Watch(limits, started) as watch:
            try:
                return _continue(url, part, watch, checks, progress)
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"{error.code} {watch.reason(error.reason)}"
                if error.code in (403, 404, 410):  # Google's storage may answer 403 for a missing
                    raise NotThere(
                        f"{url}: the server does not have the file, or requires a login ({reason})"
                    ) from None
                if error.code == 416:  # the part is longer than the file
                    _discard(part)
                elif error.code < 500 and error.code not in (408, 429):
                    raise Refused(f"{url}: the server refuses ({reason}); {by_hand}") from None
            except urllib.error.URLError as error:
                reason = watch.reason(error.reason)
                if not (watch.slow or watch.late):
                    raise WeightsError(f"{url}: cannot be reached ({reason}); {by_hand}") from error
            except Broken as error:
                reason = str(error)
        fruitless = 0 if watch.received and not watch.slow else fruitless + 1
        poor += watch.received < _POOR
        if fruitless == _ATTEMPTS or poor == _POOR_ATTEMPTS or watch.late:
            raise WeightsError(f"{url}: cannot be downloaded ({reason}); {by_hand}")
        time.sleep(_PAUSE * 2**fruitless)


def _continue(
    url: str, part: Path, watch: Watch, checks: Mapping[str, str], progress: bool
) -> dict[str, str]:
    """One request for the rest of ``url`` that ``part`` lacks."""
    version = _noted(part)
    have = _size(part) if version else 0
    # The complete file if it has changed since.
    wanted = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with contextlib.ExitStack() as stack:
        answer = stack.enter_context(connection.request(url, wanted, watch))
        headers = answer.headers
        if answer.status == 206:
            if not have or not connection.continues(headers, have):
                _discard(part)
                raise Broken("the server sends another part of the file than the one asked for")
        elif answer.status != 200:
            raise Refused(f"{url}: the server answers with status {answer.status} and no file")
        else:
            have = 0
        connection.check_plain(headers, url)
        length, stated = connection.length(headers, url), connection.announced(headers, url)
        total = None if length is None else length + have
        if total is None and not answer.chunked and not {**stated, **checks}:
            raise Refused(
                f"{url}: the server states neither the length of the file nor a checksum, so that a"
                " part of it would look complete; add its checksum: #sha256=..."
            )
        watch.limits.check_size(total or 0, url)
        part.parent.mkdir(parents=True, exist_ok=True)  # now that there is something to put there
        if not have:
            _take_note(part, connection.version(headers))
        _check_disk(part, 0 if total is None else total - have, url)
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
        for chunk in connection.chunks(answer, watch, _CHUNK):
            watch.limits.check_size(have + watch.received, url)
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise Broken(f"the connection broke after {_size(part):,} of {total:,} bytes")
    if not _size(part):
        raise Refused(f"{url}: the server sends an empty file")
    return stated


def _check_disk(part: Path, size: int, url: str) -> None:
    """Raises WeightsError if the disk has no room for ``size`` more bytes."""
    free = shutil.disk_usage(part.parent).free
    if size > free:
        raise WeightsError(
            f"{url}: needs {size:,} bytes, but the disk of {part.parent} has {free:,} free; choose"
            " another one with VITJAX_CACHE"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    """The file with the version of the file that ``part`` is the beginning of."""
    return part.with_suffix(".version")


def _noted(part: Path) -> str:
    """The version in the note; empty if there is none that can be used."""
    if not _note(part).is_file():
        return ""
    text = _note(part).read_bytes()[:1000].decode("latin-1")
    return text if connection.is_version(text) else ""


def _take_note(part: Path, version: str) -> None:
    """Stores what identifies the version; without it, a part cannot be resumed."""
    # The part of another version is deleted before its note.
    _discard(part)
    if version:
        _note(part).write_text(version)


def _discard(part: Path) -> None:
    """Deletes a part, and then its note."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _lock(path: Path, locks: Path) -> Path:
    """The file in ``locks``, a folder in the cache, that is locked while ``path`` is downloaded."""
    name = hashlib.sha256(str(path.relative_to(locks.parent)).encode()).hexdigest()
    return locks / f"{name[:32]}.lock"


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
