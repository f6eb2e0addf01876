"""Damaged copies of a file of weights in every format, read in every way: arrays, or words."""

import resource
import shutil
import time

import pytest
from damaging import damaged
from weight_files import FORMATS, answer

# Of each file; a whole copy of a card opens a network.
_COPIES = 150
_FEWER = {"card": 40}
_MOST_SECONDS = 10
_MOST_GROWTH = 3 * 10**8


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("form", FORMATS)
def test_every_damaged_copy_is_read_or_told_in_words_with_its_name(form, tmp_path, fuzz):
    if form in ("h5", "keras"):
        pytest.importorskip("h5py")
    path, target = FORMATS[form](tmp_path)
    content, told = target.read_bytes(), 0
    before = peak()
    for what, copy in damaged(content, count=fuzz * _FEWER.get(form, _COPIES), seed=fuzz):
        target.write_bytes(copy)
        started = time.process_time()
        found, messages = answer(path)
        assert time.process_time() - started < _MOST_SECONDS, what
        assert sum(array.nbytes for array in found.values()) < _MOST_GROWTH, what
        for message in messages:
            assert message.startswith(str(tmp_path)), (what, message)
            # The way out of a program in TorchScript has several lines.
            assert "\n" not in message or form == "TorchScript", (what, message)
        told += not found
    assert peak() - before < _MOST_GROWTH
    # Cards and numbers are used as far as they go.
    assert told or form == "card"


@pytest.mark.parametrize("form", ["npz", "safetensors", "pth", "msgpack", "h5"])
def test_a_file_that_is_removed_while_it_is_read_is_told(form, tmp_path, monkeypatch):
    """As on a network drive, or by a program that cleans up."""
    if form == "h5":
        pytest.importorskip("h5py")
    path, _ = FORMATS[form](tmp_path)
    from vitjax.weights.formats import files

    kind = files._kind

    def removing(path):
        found = kind(path)
        shutil.move(path, tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(files, "_kind", removing)
    with pytest.raises(files.WeightsError, match=r"cannot be read: No such file"):
        files.read(path)
