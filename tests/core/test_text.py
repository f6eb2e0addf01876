"""Names in messages: what a terminal would act on is escaped, and nothing else."""

import json
import os
import sys
import time
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies as st

from vitjax.core.text import is_printable, portable, printable, printable_lines


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("grün 日本 🌷 é", "grün 日本 🌷 é"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07\x7f", r"\x1b[31mred\x07\x7f"),
        ("\x85\x9b\u2028", r"\x85\x9b\u2028"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        (b"bad\xff".decode(errors="surrogateescape"), r"bad\udcff"),
        (r"back\slash", r"back\slash"),
        (3, "3"),
    ],
)
def test_a_name_is_shown_on_one_line(name, shown):
    assert printable(name) == shown


@hypothesis.given(st.text(st.characters()))
def test_a_shown_name_is_shown_as_it_is(name):
    shown = printable(name)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert printable_lines(f"{name}\n{name}").count("\n") == 2 * name.count("\n") + 1


def test_what_is_not_shown_is_what_unicode_calls_so():
    bidirectional = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    for character in map(chr, range(sys.maxunicode + 1)):
        hidden = (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(character) in bidirectional
            or character in "\u200e\u200f\u061c"
        )
        assert is_printable(character) != hidden, hex(ord(character))


def test_a_long_name_of_odd_letters_is_checked_quickly():
    started = time.process_time()
    assert is_printable("\u3000" * 10**6)  # which Python itself does not call printable
    assert time.process_time() - started < 0.05


def test_results_have_no_surrogates():
    odd, spelled = os.fsdecode(b"bad\xff"), "bad\\udcff"
    value = {odd: [odd, 1, None, (0.5, "日本")], "x": {"y": odd, "z": True}}
    expected = {spelled: [spelled, 1, None, [0.5, "日本"]], "x": {"y": spelled, "z": True}}
    assert portable(value) == expected
    json.dumps(portable(value), ensure_ascii=False).encode()
