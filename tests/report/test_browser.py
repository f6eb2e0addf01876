"""A page in a browser, at two widths, with sorted tables; skipped where there is no Chromium."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from vitjax.report.blocks import Drawer
from vitjax.report.page import Card, Note, Page
from vitjax.training.page import (
    Chart,
    Charts,
    Confusions,
    Grid,
    Line,
    Picture,
    Pictures,
    Reliability,
    Words,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
LONG = "a_very_long_name_of_a_class_without_any_space_in_which_a_line_could_be_broken" * 2

# Both widths in one browser: the policy of a page lets nobody add a script to it, but the page
# around its frame may click on its buttons.
AROUND = """<!DOCTYPE html><body>
<iframe style="width:1280px;height:900px" srcdoc="{page}"></iframe>
<iframe style="width:400px;height:900px" srcdoc="{page}"></iframe>
<pre id="found"></pre><script>
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, view = frame.contentWindow;
    const texts = (row) => [...row.cells].map((cell) => cell.textContent);
    const column = (table, place) => [...table.tBodies[0].rows].map((row) => texts(row)[place]);
    const grid = page.querySelector("table.sortable");
    const matrix = page.querySelector("table.matrix");
    const needed = page.documentElement.scrollWidth;
    const result = {{width: view.innerWidth, needed: needed, sorted: []}};
    const wide = [...page.body.querySelectorAll("*")].filter((each) => {{
      const right = each.getBoundingClientRect().right;
      return !each.closest(".scroll *, nav *, svg") && right > view.innerWidth + 1;
    }});
    result.wide = wide.map((each) => each.outerHTML.slice(0, 80));
    result.first = [...page.querySelectorAll("tbody tr > :first-child")].map((cell) => {{
      return cell.getBoundingClientRect().width / view.innerWidth;
    }});
    const around = matrix.closest(".scroll");
    around.scrollLeft = 60;
    const left = (cell) => cell.getBoundingClientRect().left;
    const [head, body] = [matrix.tHead.rows[0], matrix.tBodies[0].rows[0]];
    result.moved = [around, head.cells[0], body.cells[0]].map(left);
    result.above = view.getComputedStyle(head.cells[0]).zIndex;
    result.below = view.getComputedStyle(head.cells[1]).zIndex;
    around.scrollLeft = 0;
    result.titles = [...matrix.tBodies[0].rows].map((row) => row.cells[0].title);
    const buttons = grid.querySelectorAll("thead button");
    for (const place of [1, 1, 0]) {{
      buttons[place].click();
      result.sorted.push(column(grid, place));
    }}
    for (const by of ["errors", "name", "total"]) {{
      page.querySelector(`[data-order=${{by}}]`).click();
      result[by] = [...matrix.rows].map(texts);
    }}
    result.images = [...page.images].every((image) => image.naturalWidth > 0);
    return result;
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""


def page():
    made = Page("kind", LONG, LONG, [Card(LONG, "98.3%", LONG)], [Note(LONG, LONG)])
    draw = Drawer()
    counts = np.array([[5, 0, 1], [2, 3, 0], [0, 4, 20]])
    picture = Picture(np.eye(8), LONG, "a line")
    blocks = [
        Words(LONG),
        Grid(
            ("name", "number", LONG), [("b10", 10, 1.0), ("b9", 9.5, None), ("a", float("nan"), 3)]
        ),
        Grid(("class", "number"), [(LONG, 1)] * 3),
        Confusions(counts, ["zebra", "ant", LONG]),
        Reliability(np.array([0.2, 0.9]), np.array([False, True])),
        Pictures([picture] * 15, LONG),
        Charts([Chart(LONG, [Line(LONG, [1, 2], [1.0, 3.0])])]),
    ]
    made.add(LONG, map(draw, blocks))
    return made.html()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
def test_a_page_fits_both_widths_and_sorts_its_tables(tmp_path):
    file = tmp_path / "around.html"
    file.write_text(AROUND.format(page=html.escape(page())))
    done = subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=1800,2000",
            ),
            *("--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"file://{file}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout)[1]))
    assert [each["width"] for each in found] == [1280, 400]
    for each in found:
        assert each["wide"] == []
        assert each["needed"] <= each["width"]
        assert each["images"]
        # Beside a long name there is room for numbers; in a matrix it stays where it is.
        assert max(each["first"]) <= 0.51
        around, head, body = each["moved"]
        assert abs(head - around) < 3
        assert abs(body - around) < 3
        assert int(each["above"]) > int(each["below"])
        assert each["titles"][2].startswith("a_very_long")
        # NaN stands last, then first; names by the numbers in them.
        assert each["sorted"] == [["9.5", "10", "–"], ["–", "10", "9.5"], ["a", "b9", "b10"]]
        # Errors are 1, 2 and 4; names ant, the long one, zebra; sizes 6, 5 and 24.
        heads = {by: [row[0][:4] for row in each[by][1:]] for by in ("errors", "name", "total")}
        assert heads == {
            "errors": ["a_ve", "ant", "zebr"],
            "name": ["a_ve", "ant", "zebr"],
            "total": ["a_ve", "zebr", "ant"],
        }
        # The columns follow the rows: hits stand on the diagonal.
        cells = [row[1:4] for row in each["total"][1:]]
        assert cells == [["20", "", "4"], ["1", "5", ""], ["", "2", "3"]]
        assert [text[:4] for text in each["total"][0][1:4]] == ["a_ve", "zebr", "ant"]
