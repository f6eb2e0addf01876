"""Weights from repositories on Hugging Face, by its own library and cache."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vitjax.core.text import near_match
from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import download
from vitjax.weights.fetch.connection import Limits
from vitjax.weights.formats import files

try:
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.file_download
    import huggingface_hub.utils
except ImportError:  # the extra "hub" is not installed
    huggingface_hub = None  # type: ignore[assignment, unused-ignore]

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^:]+))?(:(?P<file>.+))?")

_TIMEOUT = 10.0  # seconds


def local(
    name: str,
    *,
    cache: Path | None,
    offline: bool,
    say: Callable[[str], None],
    progress: bool,
    limits: Limits | None = None,
) -> Path:
    """The path of the weights in a repository on Hugging Face, on this machine.

    Args:
        name: ``owner/name``, ``owner/name@revision`` or ``owner/name:file``; without a file,
            the first of `vitjax.weights.formats.files.IN_FOLDERS` that it has, or its only
            file of weights.
        cache: a folder for them; None for Hugging Face's own (HF_HOME), which other tools share.
        offline: use only files in the cache, as with HF_HUB_OFFLINE.
        say: receives a message about each download.
        progress: show bars.
        limits: of the size of a file; None for that of the environment.

    Raises:
        WeightsError: huggingface_hub is not installed; the repository, revision or file does not
            exist, or several files could be meant; or the file is neither in the cache nor
            reachable.
    """
    if huggingface_hub is None:
        raise WeightsError(
            f"hf:{name}: requires the library huggingface_hub: pip install 'vitjax[hub]'"
        )
    match = _NAME.fullmatch(name)
    if not match:
        raise WeightsError(f"hf:{name}: must have the form hf:owner/name[@revision][:file]")
    folder = Path(cache / "huggingface" if cache else huggingface_hub.constants.HF_HUB_CACHE)
    with _bars(progress):
        found = _Repository(match["repo"], match["revision"], folder, offline)
        found.limits = Limits.from_environment() if limits is None else limits
        return found.bring(match["file"], say)


class _Repository:
    """A repository, on the server or, if that is not reachable, in the cache."""

    def __init__(self, name: str, revision: str | None, folder: Path, offline: bool):
        self.name, self.revision, self.folder = name, revision, folder
        self.offline = offline or huggingface_hub.constants.HF_HUB_OFFLINE
        self.source = f"hf:{name}" + (f"@{revision}" if revision else "")
        self.limits = Limits()
        self._sizes: dict[str, int] = {}  # of files, as far as the server states them

    def bring(self, wanted: str | None, say: Callable[[str], None]) -> Path:
        """The path of the file ``wanted``, or of the one with the weights."""
        names, reason = (None, "offline") if self.offline else self._listed()
        if names is None:
            names = self._kept()
            if names is None:
                raise self._missing(wanted, reason)
            if not self.offline:
                say(f"Hugging Face cannot be reached ({reason}); using {self.source} in the cache")
                self.offline = True
        file = self._chosen(names, wanted, reason)
        path = self._file(file, say)
        if PurePosixPath(file).name in files.IN_FOLDERS:
            for card in (str(PurePosixPath(file).with_name(name)) for name in files.BESIDE):
                if card in names:
                    self._file(card, say)
        if file.endswith(".index.json"):
            for shard in files.shards(path):
                self._file(str(PurePosixPath(file).with_name(shard)), say)
        return path

    def _listed(self) -> tuple[list[str] | None, str]:
        """The names of all files, or None and why the server did not list them."""
        errors = huggingface_hub.errors
        try:
            # Not list_repo_files, which retries for half a minute without a network.
            told = huggingface_hub.HfApi().model_info(
                self.name, revision=self.revision, timeout=_TIMEOUT, files_metadata=True
            )
            self._sizes = {f.rfilename: f.size or 0 for f in told.siblings or ()}
            return [file.rfilename for file in told.siblings or ()], ""
        except errors.RevisionNotFoundError as error:
            raise WeightsError(f"{self.source}: has no revision {self.revision!r}") from error
        except errors.RepositoryNotFoundError as error:
            raise WeightsError(
                f"{self.source}: the repository does not exist or requires a login: use 'hf auth"
                " login' or set HF_TOKEN"
            ) from error
        except errors.HFValidationError as error:
            raise WeightsError(f"{self.source}: is no name of a repository: {error}") from error
        except Exception as error:  # of whichever HTTP library it uses
            return None, _reason(error)

    def _kept(self) -> list[str] | None:
        """The names of the files in the cache; None if the repository is not in it."""
        try:
            repositories = huggingface_hub.scan_cache_dir(self.folder).repos
        except huggingface_hub.errors.CacheNotFound:
            return None
        wanted = self.revision or "main"
        for kept in repositories:
            if (kept.repo_type, kept.repo_id) == ("model", self.name):
                for revision in kept.revisions:
                    if wanted in revision.refs or wanted == revision.commit_hash:
                        begin = revision.snapshot_path
                        return [str(f.file_path.relative_to(begin)) for f in revision.files]
        return None

    def _chosen(self, names: Sequence[str], wanted: str | None, reason: str) -> str:
        """The one of ``names`` with the weights."""
        suffixes = tuple(suffix for known in files.SUFFIXES.values() for suffix in known)
        candidates = [name for name in names if name.endswith(suffixes)]
        shown = ", ".join(sorted(candidates)) or "none"
        if wanted is not None:
            if wanted in names:
                return wanted
            if self.offline:
                raise self._missing(wanted, reason)
            raise WeightsError(
                f"{self.source}: has no file {wanted!r}{near_match(wanted, names)} (files of"
                f" weights: {shown})"
            )
        for name in (*files.IN_FOLDERS, *(candidates if len(candidates) == 1 else ())):
            if name in names:
                return name
        if not candidates and self.offline:
            raise self._missing(wanted, reason)
        raise WeightsError(
            f"{self.source}: has {len(candidates)} files of weights; choose one as"
            f" {self.source}:FILE: {shown}"
            if candidates
            else f"{self.source}: has no file of weights (it has {', '.join(names[:20])})"
        )

    def _file(self, name: str, say: Callable[[str], None]) -> Path:
        """The file ``name``, downloaded if necessary and compared with its SHA-256."""
        where: Any = {"revision": self.revision, "cache_dir": self.folder}
        before = huggingface_hub.try_to_load_from_cache(self.name, name, **where)
        if not isinstance(before, str):
            self.limits.check_size(self._sizes.get(name, 0), f"{self.source}:{name}")
            say(f"Downloading {self.source}:{name} to {self.folder}")
        try:
            path = Path(
                huggingface_hub.hf_hub_download(
                    self.name, name, **where, local_files_only=self.offline
                )
            )
        except Exception as error:  # as above
            raise self._missing(name, _reason(error)) from error
        # The cache names large files by their SHA-256 and links to them.
        content = path.resolve()
        fresh = not isinstance(before, str) or Path(before).resolve() != content
        if fresh and re.fullmatch("[0-9a-f]{64}", content.name):
            try:
                download.check(content, {"sha256": content.name}, f"{self.source}:{name}")
            except WeightsError:
                content.unlink()
                path.unlink()
                raise
        return path

    def _missing(self, wanted: str | None, reason: str) -> WeightsError:
        file = wanted or files.IN_FOLDERS[0]
        url = huggingface_hub.hf_hub_url(self.name, file, revision=self.revision)
        kept = self.folder / huggingface_hub.file_download.repo_folder_name(
            repo_id=self.name, repo_type="model"
        )
        return WeightsError(
            f"{self.source}: is not on this machine, and cannot be downloaded ({reason}): download"
            f" {url} elsewhere and give its path, or copy the folder {kept} from a machine that has"
            " it"
        )


def _reason(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Hides the library's progress bars within the context, unless ``shown``."""
    utils = huggingface_hub.utils
    if shown or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
