"""Patterns of file names, such as ``"{split}/1st_manual/{stem[:2]}_manual1.gif"``."""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vitjax.core.errors import ConfigError
from vitjax.core.file_tree import is_left_behind
from vitjax.core.text import near_match
from vitjax.data.errors import DataError

FIELDS = ("stem", "parent", "split")

_PIECE = re.compile(r"\{([^{}]*)\}|([{}])")
_FIELD = re.compile(r"(\w+)(?:\[(-?\d+)?(:)?(-?\d+)?\])?")


class _Field(NamedTuple):
    """A place of a pattern that a text is put into, or a part of that text."""

    name: str
    part: slice


@dataclass(frozen=True)
class Pattern:
    """A path with fields and wildcards.

    Fields are ``{stem}`` (the name of the image's file without its suffix), ``{parent}`` (the name
    of the folder that it is in) and ``{split}``; ``{stem[:2]}``, ``{stem[4:]}`` and
    ``{stem[:-3]}`` are parts of them. ``*`` stands for any text within a name, ``?`` for one
    character, and ``**`` for any folders. Nothing in a pattern is evaluated.

    Attributes:
        text: as a person wrote it, with ``/`` between folders.
        pieces: what is between fields, and the fields.
    """

    text: str
    pieces: tuple[str | _Field, ...]

    @classmethod
    def parse(cls, text: str, key: str, allowed: tuple[str, ...] = FIELDS) -> Pattern:
        """The pattern in ``text``.

        Args:
            text: as a person wrote it.
            key: where, for errors.
            allowed: the fields that it may have.

        Raises:
            ConfigError: a bracket is left open, or a field is unknown.
        """
        pieces: list[str | _Field] = []
        place = 0
        for found in _PIECE.finditer(text):
            pieces.append(text[place : found.start()])
            place = found.end()
            if found[2]:
                raise ConfigError(f"{key} is {text!r}: a bracket {found[2]} stands alone")
            field = _FIELD.fullmatch(found[1])
            if field is None or field[1] not in allowed:
                name = re.split(r"\W", found[1].strip())[0]
                known = ", ".join(f"{{{each}}}" for each in allowed)
                raise ConfigError(
                    f"{key} is {text!r}: {{{found[1]}}} cannot stand in it"
                    f"{near_match(name, allowed)} (known: {known}, and parts of these, such as"
                    f" {{{allowed[0]}[:2]}})"
                )
            pieces.append(_Field(field[1], _slice(field)))
        pieces.append(text[place:])
        return cls(text, tuple(piece for piece in pieces if piece != ""))

    def has(self, field: str) -> bool:
        """Whether ``field`` occurs."""
        return any(isinstance(piece, _Field) and piece.name == field for piece in self.pieces)

    @property
    def wild(self) -> bool:
        """Whether it has wildcards."""
        return any(isinstance(piece, str) and re.search("[*?]", piece) for piece in self.pieces)

    def fill(self, **fields: str) -> str:
        """The path with texts in place of fields; of a pattern without wildcards."""
        return "".join(
            piece if isinstance(piece, str) else fields[piece.name][piece.part]
            for piece in self.pieces
        )

    def matches(self, root: str, **fields: str) -> list[str]:
        """The files that match below ``root``, sorted; a field not given matches any text."""
        wanted = _wildcards(self.pieces, fields)
        if (
            re.search(r"[*?]", wanted)
            and "**" not in wanted
            and not re.search(r"[*?]", os.path.dirname(wanted))
        ):
            return _matches_in_folder(root, wanted)
        found = glob.glob(wanted, root_dir=root, recursive=True)
        paths = [os.path.normpath(os.path.join(root, each)) for each in found]
        return sorted(path for path in paths if os.path.isfile(path))

    def words(self, root: str, field: str) -> list[str]:
        """The texts that ``field`` may stand for, by the names that exist below ``root``, sorted.

        They are looked for where the field first stands in full.
        """
        names: list[list[str | _Field]] = [[]]  # of the folders of the path, and of the file
        for piece in self.pieces:
            first, *more = piece.split("/") if isinstance(piece, str) else [piece]
            names[-1].append(first)
            names += [[each] for each in more]
        whole = _Field(field, slice(None))
        place = next((i for i, name in enumerate(names) if whole in name), None)
        if place is None:
            return []
        above = "/".join(_wildcards(name, {}) for name in names[:place])
        folders = glob.glob(above, root_dir=root, recursive=True) if place else []
        folders += [""] if above in ("", "**") else []
        before = names[place].index(whole)
        found = set()
        # Beside a wildcard, a shorter and a longer text may be meant: {split}_*.png.
        for text in ("(.+?)", "(.+)"):
            parts = (_expression(names[place][:before]), _expression(names[place][before + 1 :]))
            expression = re.compile(text.join(parts))
            for folder in folders:
                path = os.path.join(root, folder)
                for name in _names(path) if os.path.isdir(path) else ():
                    match = expression.fullmatch(name)
                    if match is not None and not is_left_behind(name):
                        found.add(match[1])
        return sorted(found)


def fields_of(path: str, split: str, stem: str | None = None) -> Mapping[str, str]:
    """The fields for the masks of the image in ``path``."""
    known = os.path.splitext(os.path.basename(path))[0] if stem is None else stem
    return {"stem": known, "parent": os.path.basename(os.path.dirname(path)), "split": split}


def one_file(pattern: Pattern, root: str, fields: Mapping[str, str], key: str, image: str) -> str:
    """The file that a pattern gives for an image.

    Raises:
        DataError: it does not exist, or there are several.
    """
    if not pattern.wild:
        path = os.path.normpath(os.path.join(root, pattern.fill(**fields)))
        if not os.path.isfile(path):
            folder = os.path.dirname(path)
            inside = _names(folder) if os.path.isdir(folder) else ()
            there = "" if inside else f" ({folder} does not exist)"
            raise DataError(
                f"{image}: no {path}, where {key}={pattern.text!r} looks for it"
                f"{near_match(os.path.basename(path), inside)}{there}"
            )
        return path
    found = pattern.matches(root, **fields)
    if len(found) != 1:
        many = ", ".join(found[:3]) or "none"
        raise DataError(
            f"{image}: {key}={pattern.text!r} must match one file for it, and matches"
            f" {len(found)} ({many})"
        )
    return found[0]


def _wildcards(pieces: Sequence[str | _Field], fields: Mapping[str, str]) -> str:
    """Pieces as `glob` takes them; brackets and characters of fields are no wildcards."""
    return "".join(
        piece.replace("[", "[[]")
        if isinstance(piece, str)
        else glob.escape(fields[piece.name][piece.part])
        if piece.name in fields
        else "*"
        for piece in pieces
    )


def _expression(pieces: Sequence[str | _Field]) -> str:
    """Pieces of one name as a regular expression."""
    wild = {"*": ".*", "?": "."}
    return "".join(
        "".join(wild.get(character, re.escape(character)) for character in piece)
        if isinstance(piece, str)
        else ".*"
        for piece in pieces
    )


def _slice(field: re.Match[str]) -> slice:
    if "[" not in field[0]:
        return slice(None)
    first, last = (None if field[g] is None else int(field[g]) for g in (2, 4))
    if field[3] is None:  # one character
        first = first or 0
        return slice(first, first + 1 or None)
    return slice(first, last)


def _matches_in_folder(root: str, wanted: str) -> list[str]:
    """As of `Pattern.matches`, with wildcards in the name of the file only."""
    folder = os.path.normpath(os.path.join(root, _unescaped(os.path.dirname(wanted))))
    if not os.path.isdir(folder):
        return []
    names = fnmatch.filter(_names(folder), os.path.basename(wanted))
    paths = [os.path.join(folder, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in paths if os.path.isfile(path)]


def _unescaped(text: str) -> str:
    return re.sub(r"\[([\[*?])\]", r"\1", text)


@functools.lru_cache(maxsize=8)
def _listed(folder: str, changed: int) -> tuple[str, ...]:
    del changed  # so that a folder is listed again after a change
    return tuple(os.listdir(folder))


def _names(folder: str) -> tuple[str, ...]:
    """The names in a folder; one that was listed before is not listed again."""
    return _listed(folder, os.stat(folder).st_mtime_ns)
