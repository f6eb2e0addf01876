"""Weights on the web: found by a short name, downloaded once, kept in a folder.

- ``hf:timm/vit_small_patch16_224.augreg_in1k``: a repository on Hugging Face, see `hub.local`.
- ``augreg:S_16-i21k-300ep-...``: Google's of arXiv:2106.10270, by name or its beginning.
- ``bit:BiT-M-R50x1``: Google's of arXiv:1912.11370, by name.
- ``https://...`` and ``gs://bucket/...``: any other file.

Files are kept under VITJAX_CACHE, by default ``~/.cache/vitjax/weights``, as
``<host>/<path of the address>``, or ``http+<host>/...`` for an address that is not encrypted; a
file that is copied there by hand is used as well. VITJAX_STORAGE is the address of a mirror of
https://storage.googleapis.com. A download ends with an error at VITJAX_DOWNLOAD_GB gigabytes (100)
or after VITJAX_DOWNLOAD_HOURS hours (24); one from Hugging Face has a limit of size alone.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from vitjax.core.paths import expanded
from vitjax.core.text import near_match, printable
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import connection, download
from vitjax.weights.fetch.connection import Limits

STORAGE = "https://storage.googleapis.com"
_SCHEMES = ("hf", "augreg", "bit", "https", "http", "gs")
_AUGREG = f"{STORAGE}/vit_models/augreg"
_BIT = f"{STORAGE}/bit_models"


def local(
    source: str,
    *,
    cache: Path | None = None,
    offline: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
    limits: Limits | None = None,
) -> Path:
    """The path on this machine of the weights that ``source`` names, downloaded if necessary.

    A checksum is compared if one is known: from the address's fragment
    (``#sha256=...``, ``#md5=...``), from the file's name as in torchvision
    (``resnet18-f37072fd.pth``), or from Google's storage and Hugging Face.

    Args:
        source: a path, which is returned unchanged, or a name as above.
        cache: a folder for files, in place of VITJAX_CACHE (and of HF_HOME).
        offline: use only files that are on this machine.
        say: receives a message about each download.
        progress: show a bar.
        limits: of the size and time of each download; None for those of the environment
            (VITJAX_DOWNLOAD_GB, VITJAX_DOWNLOAD_HOURS), see `Limits`.

    Raises:
        WeightsError: the name is invalid, the file cannot be downloaded (the message says which
            file to put where), or its checksum differs; it is then deleted.
    """
    source = expanded(source)
    scheme, colon, rest = source.partition(":")
    if not colon or os.path.exists(source) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return Path(source)
    if scheme not in _SCHEMES:
        raise WeightsError(
            f"{source}: unknown scheme {scheme!r}{near_match(scheme, _SCHEMES)}"
            f" (known: {', '.join(f'{known}:' for known in _SCHEMES)}, or the path of a file)"
        )
    if scheme == "hf":
        from vitjax.weights.fetch import hub

        return hub.local(
            rest, cache=cache, offline=offline, say=say, progress=progress, limits=limits
        )
    fetcher = _Fetcher(source, cache or default_cache(), offline, say, progress, limits)
    if scheme == "augreg":
        return fetcher.of_augreg(rest)
    if scheme == "bit":
        return fetcher.file(f"{_BIT}/{urllib.parse.quote(rest.removesuffix('.npz'))}.npz")
    if scheme == "gs":
        return fetcher.file(f"{STORAGE}/{urllib.parse.quote(rest.lstrip('/'))}")
    return fetcher.file(source)


def default_cache() -> Path:
    """The folder for downloaded files."""
    return Path(expanded(os.environ.get("VITJAX_CACHE") or "~/.cache/vitjax/weights"))


@dataclasses.dataclass(frozen=True)
class _Fetcher:
    """Downloads for one ``source``, with the arguments of `local`."""

    source: str
    cache: Path
    offline: bool
    say: Callable[[str], None]
    progress: bool
    limits: Limits | None = None

    def file(self, url: str) -> Path:
        """The file at ``url``, from the cache or downloaded into it."""
        url, _, fragment = url.partition("#")
        path = self.place(url)
        checks = _checksums(fragment, path.name, self.source)
        if os.path.isfile(path):  # False for a name that is too long
            if fragment:  # the user may have added it because of this very file
                download.check(path, checks, f"{path} (from the cache)")
            return path
        by_hand = f"download {url} elsewhere and copy it to {path}"
        if self.offline:
            raise WeightsError(
                f"{self.source}: is not on this machine, which is offline: {by_hand}"
            )
        mirror = (os.environ.get("VITJAX_STORAGE") or STORAGE).rstrip("/")
        address = mirror + url.removeprefix(STORAGE) if url.startswith(f"{STORAGE}/") else url
        return download.fetch(
            address,
            path,
            checks,
            locks=self.cache / ".locks",
            say=self.say,
            progress=self.progress,
            by_hand=by_hand,
            limits=self.limits,
        )

    def place(self, url: str) -> Path:
        """The path of the file at ``url`` in the cache."""
        parts = connection.check_address(url)
        names = [name for name in urllib.parse.unquote(parts.path).split("/") if name]
        # The names and the host become folders, and must stay within the cache.
        name = parts.hostname or ""
        odd = any(printable(each) != each for each in names) or "/" in name
        if odd or not names or {"", ".", ".."}.intersection({name, *names}):
            raise WeightsError(f"{self.source}: {url!r} is no address of a file")
        if parts.query:
            names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
        host = name if parts.port is None else f"{name}_{parts.port}"
        if parts.scheme == "http":  # anyone on the way may have sent it
            host = f"http+{host}"
        return self.cache.joinpath(host, *names)

    def of_augreg(self, name: str) -> Path:
        """AugReg's file ``name``, or the only one whose name begins with it."""
        name = name.removesuffix(".npz")
        url, index = f"{_AUGREG}/{urllib.parse.quote(name)}.npz", f"{_AUGREG}/index.csv"
        if not (self.offline and os.path.isfile(self.place(index))) or os.path.isfile(
            self.place(url)
        ):
            try:
                return self.file(url)
            except download.NotThere as error:
                self.say(f"No file has this name; looking for one that begins with it in {index}")
                try:
                    self.file(index)
                except download.NotThere:
                    raise error from None
        with open(self.file(index), newline="") as file:
            cells = {cell.removesuffix(".npz") for row in csv.reader(file) for cell in row}
        # A name has the model, the data and several settings, separated by dashes.
        names = sorted(cell for cell in cells if "-" in cell)
        found = [known for known in names if known.startswith(name)]
        if not found:
            model, models = name.split("-")[0], {known.split("-")[0] for known in names}
            near = "" if model in models else near_match(model, models)
            raise WeightsError(
                f"{self.source}: no name begins with it{near} (models: {', '.join(sorted(models))};"
                f" all names: {self.place(index)})"
            )
        if len(found) > 1:
            shown = "".join(f"\n  {known}" for known in found[:20])
            raise WeightsError(
                f"{self.source}: {len(found)} names begin with it; choose one:{shown}"
                + ("\n  ..." if len(found) > 20 else "")
            )
        return self.file(f"{_AUGREG}/{urllib.parse.quote(found[0])}.npz")


def _checksums(fragment: str, name: str, source: str) -> dict[str, str]:
    """Checksums in an address and a file name: algorithm to the beginning of the digest."""
    checks = {}
    if fragment:
        algorithm, _, digest = fragment.partition("=")
        if algorithm not in ("sha256", "md5") or not re.fullmatch("[0-9a-fA-F]{8,64}", digest):
            raise WeightsError(
                f"{source}: the part after # is {fragment!r}; it must be sha256=... or md5=..."
            )
        checks[algorithm] = digest.lower()
    # As in torch.hub. Eight digits that are a date of this century are a date.
    named = re.search(r"-(?!20\d{6}\.)([0-9a-f]{8,64})\.(pth|pt|th|bin|safetensors)$", name)
    if named:
        checks.setdefault("sha256", named[1])
    return checks
