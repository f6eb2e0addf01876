"""The page on the architecture names what there is, in the order of the rooms."""

import re
from pathlib import Path

import pytest
from rooms import ROOMS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:vitjax|tests|configs|scripts|docs)/[\w/.]*)`", PAGE)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_on_the_page_exists(path):
    assert (REPOSITORY / path).exists()


def test_the_rooms_on_the_page_are_those_of_the_import_order():
    table = re.search(r"\| room \|.*?\n\n", PAGE, re.S)[0]
    rooms = re.findall(r"^\| `(\w+)` \|", table, re.M)
    folders = {path.name for path in (REPOSITORY / "vitjax").iterdir() if path.is_dir()}
    assert rooms == [room for room in ROOMS if room in folders]


def test_every_interface_is_where_the_page_says():
    table = re.search(r"\| interface \|.*?\n\n", PAGE, re.S)[0]
    for names, files in re.findall(r"^\| (`.*?`) \| (`.*?`) \|", table, re.M):
        pairs = zip(re.findall(r"`(\w+)`", names), re.findall(r"`(.*?)`", files) * 2, strict=False)
        for name, file in pairs:
            assert re.search(rf"^class {name}\b", (REPOSITORY / file).read_text(), re.M), name
