"""A page of sections: its size, its file."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

import vitjax
from vitjax.core.atomic import write_text
from vitjax.core.errors import ConfigError
from vitjax.core.json_files import DamagedFileError, open_file
from vitjax.core.paths import check_writable
from vitjax.report.blocks import templates

# Of the whole page, with room for its frame.
_MOST_BYTES = 4_800_000
_GENERATOR = b'<meta name="generator" content="vitjax '
_READ = 2**30  # bytes of a file that stands in the way; of which the first are looked at
_HEAD = 2000


class Card(NamedTuple):
    """A number at the top of the page, with a remark."""

    name: str
    value: str
    note: str = ""


class Note(NamedTuple):
    """A remark at the top of the page, with the command that changes it."""

    text: str
    command: str = ""


class Section(NamedTuple):
    """A section of the page, and where links to it lead."""

    title: str
    html: Markup
    anchor: str


@dataclasses.dataclass
class Page:
    """A page that is being composed.

    Attributes:
        kind: what it is about, in few words.
        title: its heading.
        subtitle: the line below it.
        cards: numbers at the top.
        notes: remarks at the top.
        sections: those that are on the page.
    """

    kind: str
    title: str
    subtitle: str = ""
    cards: list[Card] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    sections: list[Section] = dataclasses.field(default_factory=list)
    _bytes: int = 0

    def add(self, title: str, blocks: Iterable[Markup]) -> None:
        """Adds a section; blocks with which the page would be too large are left out."""
        kept, lacking = [], 0
        for block in blocks:
            size = len(block.encode(errors="backslashreplace"))
            if self._bytes + size > _MOST_BYTES:
                lacking += 1
                continue
            self._bytes += size
            kept.append(block)
        if lacking:
            text = "<p class=note>{} more would make the page larger than 5 MB.</p>"
            kept.append(Markup(text).format(lacking))
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = {section.anchor for section in self.sections}
        while anchor in taken:
            anchor += "-"
        self.sections.append(Section(title, Markup("\n").join(kept), anchor))

    def html(self) -> str:
        """The page."""
        script = templates.get_template("script.js.html.j2").render()
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        now = datetime.datetime.now().astimezone()
        return templates.get_template("page.html.j2").render(
            kind=self.kind,
            title=self.title,
            subtitle=self.subtitle,
            cards=self.cards,
            notes=self.notes,
            sections=self.sections,
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            version=vitjax.__version__,
            written=f"{now:%Y-%m-%d %H:%M %Z}",
        )

    def write(self, path: Path) -> Path:
        """Writes the page, which replaces an earlier one when it is complete.

        Raises:
            ConfigError: see `check_output`.
        """
        check_output(path)
        write_text(path, self.html())
        return path


def check_output(path: Path) -> None:
    """Checks that a page can be written without loss.

    Raises:
        ConfigError: there is a folder, or a file that is not a page of vitjax; or its folder cannot
            be made or written.
    """
    if path.is_dir():
        raise ConfigError(f"output: {path} is a folder; it must be a file, such as report.html")
    check_writable(path.parent, path)
    try:
        with open_file(path, _READ) as file:
            ours = _GENERATOR in file.read(_HEAD)
    except FileNotFoundError:
        return
    except DamagedFileError:
        ours = False
    if not ours:
        raise ConfigError(
            f"output: {path} exists and is not a page that vitjax wrote; choose another --output,"
            " or move it away"
        )
