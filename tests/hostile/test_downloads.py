"""Servers that are slow, endless, contradictory or redirect elsewhere, and odd addresses."""

import contextlib
import re
import resource
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest

from vitjax.core.errors import UserError
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import connection, download, fetching
from vitjax.weights.fetch.connection import Limits

CONTENT = np.random.default_rng(0).bytes(5_000)
QUICK = Limits(size=1e6, seconds=5.0, silence=0.3, slowest=1e4, window=0.15)
OK = b"HTTP/1.1 200 OK\r\n"
COMPLETE = OK + b"Content-Length: %d\r\n" % len(CONTENT)


class RawServer:
    """Answers each connection as ``answer(request, send, number)`` says, with any bytes."""

    def __init__(self):
        self.answer, self.asked, self.ended = None, [], threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/w.npz"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer):
        with peer, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (some := peer.recv(65_536)):
                request += some
            self.asked.append(request)
            self.answer(request, peer.sendall, len(self.asked))

    def close(self):
        self.ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def raw(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0)
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
def fetch(tmp_path):
    def fetch(source, limits=QUICK):
        return fetching.local(
            source, cache=tmp_path, say=lambda words: None, progress=False, limits=limits
        )

    return fetch


def left(folder):
    """The files below ``folder``, but for locks."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def constant(*parts):
    return lambda request, send, number: [send(part) for part in parts]


# Complete answers of a server, and words of the error that each gets.
ANSWERS = {
    "no HTTP": (b"\x00\xff" * 100, "cannot be downloaded"),
    "nothing": (b"", "cannot be downloaded"),
    "length is negative": (OK + b"Content-Length: -1\r\n\r\n" + CONTENT, "Content-Length of '-1'"),
    "length is a word": (OK + b"Content-Length: abc\r\n\r\n" + CONTENT, "Content-Length of 'abc'"),
    "length is a fraction": (OK + b"Content-Length: 1e3\r\n\r\n" + CONTENT, "of '1e3'"),
    "length is not ASCII": (
        OK + "Content-Length: ٣\r\n\r\n".encode() + CONTENT,
        "states a Content-Length of",
    ),
    "length twice": (
        COMPLETE + b"Content-Length: 7\r\n\r\n" + CONTENT,
        "Content-Length of '5000 and 7'",
    ),
    "length of 5000 digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "of '999"),
    "length is huge": (OK + b"Content-Length: 99999999999\r\n\r\n", "VITJAX_DOWNLOAD_GB"),
    "length is too long": (OK + b"Content-Length: 6000\r\n\r\n" + CONTENT, "5,000 of 6,000 bytes"),
    "length is 0": (OK + b"Content-Length: 0\r\n\r\n", "sends an empty file"),
    "no length": (OK + b"\r\n" + CONTENT, "add its checksum: #sha256="),
    "status 204": (b"HTTP/1.1 204 No Content\r\n\r\n", "answers with status 204"),
    "status 206 unasked": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4999/9999\r\n" + COMPLETE[17:] + b"\r\n",
        "another part of the file",
    ),
    "status 999": (b"HTTP/1.1 999 Odd\x1b[31m\r\nContent-Length: 0\r\n\r\n", "999 Odd"),
    "status is a word": (b"HTTP/1.1 abc\r\n\r\n", "cannot be downloaded"),
    "100 headers": (OK + b"X: y\r\n" * 100_000 + b"\r\n", "more than 100 headers"),
    "a header of 100 kB": (OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "cannot be downloaded"),
    "a header without a colon": (OK + b"nonsense\r\n\r\n" + CONTENT, "add its checksum"),
    "MD5 is no base64": (COMPLETE + b"x-goog-hash: md5=?\xff\r\n\r\n" + CONTENT, "states an MD5"),
    "MD5 is short": (COMPLETE + b"x-goog-hash: md5=AAAA\r\n\r\n" + CONTENT, "states an MD5"),
    "chunk is no number": (
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + CONTENT,
        "cannot be downloaded",
    ),
    "chunk is cut": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + CONTENT[:99],
        "cannot be downloaded",
    ),
    "packed": (COMPLETE + b"Content-Encoding: gzip\r\n\r\n" + CONTENT, "Content-Encoding: gzip"),
    "packed twice": (
        COMPLETE + b"Content-Encoding: identity\r\nContent-Encoding: br\r\n\r\n" + CONTENT,
        "Content-Encoding: br",
    ),
    "packed chunks": (
        COMPLETE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CONTENT,
        "Transfer-Encoding: gzip, chunked",
    ),
    "to ftp": (
        b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/w\r\n\r\n",
        "no address of http or https",
    ),
    "to a file": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "not allowed"),
    "to data": (b"HTTP/1.1 302 Found\r\nLocation: data:,abc\r\n\r\n", "not allowed"),
    "to itself": (b"HTTP/1.1 302 Found\r\nLocation: /w.npz\r\n\r\n", "infinite loop"),
    "to nowhere": (b"HTTP/1.1 302 Found\r\n\r\n", "refuses (302 Found)"),
    "to a port that is none": (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:abc/\r\n\r\n",
        "no valid address",
    ),
    "to a password": (
        b"HTTP/1.1 302 Found\r\nLocation: http://a:secret@127.0.0.1:1/\r\n\r\n",
        "has a user name or password",
    ),
    "to brackets": (b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n", "no valid address"),
    "to bytes": (b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\x01/\r\n\r\n", "w.npz"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_that_cannot_be_the_file_is_reported(kind, raw, fetch, tmp_path):
    answer, words = ANSWERS[kind]
    raw.answer = constant(answer)
    with pytest.raises(WeightsError) as caught:
        fetch(raw.url)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()  # on one line, without codes for the terminal
    assert "secret" not in message
    assert len(message) < 1000
    assert left(tmp_path) == []


def endless(begin, piece, pause=0.0):
    """An answer that never ends, with a ``pause`` in seconds after each piece."""

    def make(server):
        def answer(request, send, number):
            send(begin)
            while not server.ended.wait(pause):
                send(piece)

        return answer

    return make


ENDLESS = {
    "chunks": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + bytes(0x4000) + b"\r\n"),
        "limit",
    ),
    "a chunk of negative length": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", bytes(0x4000)),
        "w.npz",
    ),
    "a drip of content": (endless(COMPLETE + b"\r\n", b"x", 0.05), "bytes per second"),
    "a drip of a chunk's length": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", 0.05),
        "bytes per second",
    ),
    "a drip of a header": (endless(OK + b"X-Long: ", b"x", 0.05), "bytes per second"),
    "a drip of a status": (endless(b"HTTP/1.1 200 ", b"x", 0.05), "bytes per second"),
    "the body of a redirect": (
        endless(b"HTTP/1.1 302 Found\r\nLocation: /w.npz\r\n\r\n", bytes(0x4000)),
        "infinite loop",
    ),
    "the body of an error": (endless(b"HTTP/1.1 404 Gone\r\n\r\n", bytes(0x4000)), "does not have"),
    "silence": (endless(COMPLETE + b"\r\n" + CONTENT[:99], b"", 0.05), "cannot be downloaded"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_that_never_ends_is_ended(kind, raw, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 2)
    make, words = ENDLESS[kind]
    raw.answer = make(raw)
    started = time.monotonic()
    with pytest.raises(WeightsError, match=words):
        fetch(raw.url)
    assert time.monotonic() - started < 3
    assert left(tmp_path) == []


def test_a_download_has_a_time_in_all(raw, fetch, monkeypatch):
    raw.answer = endless(OK + b"Content-Length: 900000\r\n\r\n", bytes(100), 0.01)(raw)
    with pytest.raises(WeightsError, match="takes more than 0 s; VITJAX_DOWNLOAD_HOURS"):
        fetch(raw.url, Limits(seconds=0.3, slowest=1, window=0.1))


def test_a_connection_that_breaks_after_every_byte_is_given_up(raw, fetch, tmp_path):
    raw.answer = constant(COMPLETE + b'ETag: "v1"\r\n\r\nx')
    with pytest.raises(WeightsError, match="the connection broke after 1 of 5,000 bytes"):
        fetch(raw.url)
    assert len(raw.asked) == download._POOR_ATTEMPTS
    assert left(tmp_path) == [".w.npz.part", ".w.npz.version"]  # to be resumed


@pytest.mark.parametrize(
    "given",
    [
        b"bytes 7-4999/5000",
        b"bytes 100-4999/*, bytes 0-1/5",
        b"bytes 100-50/5000",
        b"bytes 100-4998/5000",
        b"bytes -1-4999/5000",
        b"items 100-4999/5000",
        b"\xff",
        b"",
    ],
)
def test_a_part_that_is_not_the_rest_is_not_taken_for_the_file(given, raw, fetch):
    def answer(request, send, number):
        if number == 1:
            send(COMPLETE + b'ETag: "v1"\r\n\r\n' + CONTENT[:100])
        elif b"Range" in request:
            rest = b"Content-Length: %d\r\nContent-Range: %b\r\n\r\n" % (len(CONTENT) - 100, given)
            send(b"HTTP/1.1 206 Partial Content\r\n" + rest + CONTENT[100:])
        else:
            send(COMPLETE + b"\r\n" + CONTENT)

    raw.answer = answer
    assert fetch(raw.url).read_bytes() == CONTENT
    assert len(raw.asked) == 3


@pytest.mark.parametrize("etag", [b'"a\r\n b"', b'"\xff"', b'"' + b"x" * 1000 + b'"', b'"\x1b"'])
def test_a_version_that_cannot_be_sent_back_is_not_used(etag, raw, fetch):
    def answer(request, send, number):
        send(COMPLETE + b"ETag: " + etag + b"\r\n\r\n" + CONTENT[: 100 if number == 1 else 5_000])

    raw.answer = answer
    assert fetch(raw.url).read_bytes() == CONTENT
    assert b"Range" not in raw.asked[-1]


@pytest.mark.parametrize("note", [b"", b"\xff\xfe", b"a\r\nX-Evil: 1", b"x" * 10**6, b"\0"])
def test_a_damaged_note_of_a_part_starts_it_again(note, raw, fetch, tmp_path):
    raw.answer = constant(COMPLETE + b"\r\n" + CONTENT)
    path = fetching._Fetcher(raw.url, tmp_path, False, print, False).place(raw.url)
    path.parent.mkdir(parents=True)
    (path.parent / ".w.npz.part").write_bytes(b"something else")
    (path.parent / ".w.npz.version").write_bytes(note)
    assert fetch(raw.url) == path
    assert path.read_bytes() == CONTENT
    assert b"Range" not in raw.asked[0]
    assert left(tmp_path) == ["w.npz"]


ADDRESSES = {
    "http://": "no address of a file",
    "http:///w.npz": "no address of a file",
    "http://?x": "no address of a file",
    "http://127.0.0.1:abc/w": "no valid address",
    "http://127.0.0.1:99999/w": "no valid address",
    "http://127.0.0.1:-1/w": "no valid address",
    "http://127.0.0.1:0/w": "cannot be reached",
    "http://[::1/w": "no valid address",
    "http://[nonsense]/w": "no valid address",
    "http://a b/w": "no valid address",
    "http://127.0.0.1:1/a b": "no valid address",
    "http://127.0.0.1:1/a\nb": "no valid address",
    "http://127.0.0.1:1/ä": "no valid address",
    f"http://{'ä' * 70}.org/w": "no valid address",
    f"http://{'a' * 70}.{'b' * 300}/w": "its host is no name",
    "http://..%2f..%2fw/w": "no valid address",
    "http://../w.npz": "its host is no name",
    "http://./w.npz": "its host is no name",
    "http://a..b/w.npz": "its host is no name",
    "http://.a/w.npz": "its host is no name",
    "http://x\0y/w.npz": "its host is no name",
    "http://x\x1by/w.npz": "its host is no name",
    "http://[::1%\0]/w.npz": "no valid address",
    "http://127.0.0.1:1/a?b c": "no valid address",
    "http://127.0.0.1:1/a?\0b": "no valid address",
    "https://127.0.0.1:1/w.npz": "cannot be reached",
    "http://127.0.0.1/%00": "no address of a file",
    "http://127.0.0.1/a%0ab": "no address of a file",
    "http://127.0.0.1/.": "no address of a file",
    f"http://127.0.0.1:1/{'x' * 5000}": "File name too long",
    "https://user:secret@127.0.0.1/w": "has a user name or password",
    "http://user@127.0.0.1/w": "has a user name or password",
    "file:///etc/passwd": "unknown scheme 'file'",
    "ftp://127.0.0.1/w": "unknown scheme 'ftp'; did you mean",
    "data:,x": "unknown scheme 'data'",
    "gs:": "no address of a file",
    "gs://../../w": "no address of a file",
    "bit:../../w": "no address of a file",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_none_is_reported(address, fetch, tmp_path, monkeypatch):
    if re.search("[a-z]{3}", address.partition(":")[2]):
        monkeypatch.setattr(socket, "getaddrinfo", _without_network(socket.getaddrinfo))
    with pytest.raises(UserError, match=re.escape(ADDRESSES[address])) as caught:
        fetch(address)
    assert "secret" not in str(caught.value)
    # No folder of a host that is none, or that nobody reached.
    asked = "cannot be reached" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"] * asked


def _without_network(known):
    """``getaddrinfo`` that knows this machine alone, and refuses names as the real one does."""

    def found(host, *arguments, **keywords):
        if host.replace(".", "").isdigit() or host.startswith("["):
            return known(host, *arguments, **keywords)
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    return found


@pytest.mark.parametrize("target", ["ftp://h/w", "http://h/w", "file:///w", "data:,x", "//["])
def test_no_redirect_leaves_encryption(target):
    asked = urllib.request.Request("https://example.org/w.npz")
    follow = connection._Redirect().redirect_request
    with pytest.raises((WeightsError, ValueError)):
        follow(asked, None, 302, "Found", {}, target)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "abc", "1e99"])
@pytest.mark.parametrize("name", ["VITJAX_DOWNLOAD_GB", "VITJAX_DOWNLOAD_HOURS"])
def test_a_limit_that_is_no_number_is_reported(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match=f"{name} is '{value}'; it must be a number above 0"):
        Limits.from_environment()


def test_limits_of_the_environment_hold(raw, fetch, monkeypatch):
    monkeypatch.setenv("VITJAX_DOWNLOAD_GB", "0.000001")
    raw.answer = constant(COMPLETE + b"\r\n" + CONTENT)
    with pytest.raises(WeightsError, match=r"has more than 1e-06 GB.*VITJAX_DOWNLOAD_GB"):
        fetch(raw.url, None)
    monkeypatch.setenv("VITJAX_DOWNLOAD_GB", "0.001")
    assert fetch(raw.url, None).read_bytes() == CONTENT


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(raw, fetch, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 4_999})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    raw.answer = constant(COMPLETE + b"\r\n" + CONTENT)
    with pytest.raises(WeightsError, match=r"needs 5,000 bytes, but the disk .* has 4,999 free"):
        fetch(raw.url)
    assert left(tmp_path) == []


@pytest.mark.parametrize("etag", [b'ETag: "v1"\r\n', b""])
def test_a_disk_that_fills_up_is_reported_and_the_part_is_resumed(etag, raw, fetch, tmp_path):
    def answer(request, send, number):
        if b"Range" in request:
            begin = int(re.search(rb"bytes=(\d+)-", request)[1])
            stated = b"Content-Range: bytes %d-4999/5000\r\nContent-Length: %d\r\n\r\n"
            send(b"HTTP/1.1 206 Rest\r\n" + stated % (begin, 5000 - begin) + CONTENT[begin:])
        else:
            send(COMPLETE + etag + b"\r\n" + CONTENT)

    raw.answer = answer
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, before[1]))
    try:
        with pytest.raises(WeightsError, match=r"w\.npz: cannot be written: File too large"):
            fetch(raw.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == ([".w.npz.part", ".w.npz.version"] if etag else [])
    assert fetch(raw.url).read_bytes() == CONTENT
    assert (b"Range: bytes=3000-" in raw.asked[-1]) == bool(etag)


def test_what_came_unencrypted_is_not_taken_for_the_encrypted_file(raw, fetch):
    raw.answer = constant(COMPLETE + b"\r\n" + CONTENT)
    assert fetch(raw.url).read_bytes() == CONTENT
    with pytest.raises(WeightsError, match=r"https://.* cannot be reached"):
        fetch(raw.url.replace("http:", "https:"), Limits(silence=0.2, seconds=1.0))
