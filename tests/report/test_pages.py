"""Pages about runs: what they show, what hostile names do in them, where they are written."""

import base64
import hashlib
import html.parser
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import small_workdirs

import vitjax
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.report import groups, one_run, several_runs, svg, writing
from vitjax.report.blocks import Drawer
from vitjax.report.page import Page
from vitjax.report.saved import SavedFiles
from vitjax.training import workdir
from vitjax.training.finite import NotFiniteError
from vitjax.training.page import (
    Chart,
    Charts,
    Colors,
    Confusions,
    Grid,
    Line,
    Picture,
    Pictures,
    Reliability,
    Words,
)

HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>\" onload=\"alert(3)\n\x1b\udcff"


class Reader(html.parser.HTMLParser):
    """Collects tags, their attributes and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def check_harmless(text):
    """One script, which the policy names by its hash; no handlers; nothing from elsewhere."""
    page = Reader(text)
    assert len(page.all("script")) == 1
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    policy = next(
        m["content"] for m in page.all("meta") if "content" in m and "src" in m["content"]
    )
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/", "#")), (tag, attributes)
    assert all(image["alt"] for image in page.all("img"))
    assert all(drawing["aria-label"] for drawing in page.all("svg"))
    return page


def silent(text):
    pass


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of each task, made without training."""
    root = tmp_path_factory.mktemp("runs")
    return {
        name: small_workdirs.make(root / name, getattr(small_workdirs, name.upper()))
        for name in ("classification", "segmentation", "few_shot")
    }


def test_results_that_were_changed_by_hand_are_shown_as_they_are(folders, tmp_path):
    source = folders["few_shot"]
    results = {"transductive": {"accuracy": "high"}, "episodes": 3}
    before = (source / "summary.json").read_text()
    (source / "summary.json").write_text(json.dumps({"test": results, "checkpoint_step": 2}))
    said = []
    try:
        path = writing.report(source, tmp_path / "page.html", say=said.append)
    finally:
        (source / "summary.json").write_text(before)
    assert "episodes" in check_harmless(path.read_text()).text
    assert any(line.startswith("warning") for line in said)


SHOWN = {
    "classification": ("Confusion matrix", "expected calibration error", "Most certain hits"),
    "segmentation": ("Worst and best images", "The predicted masks", "iou"),
    "few_shot": ("after inner steps", "Example episodes", "95% low"),
}


@pytest.mark.parametrize("task", SHOWN)
def test_a_page_shows_what_the_task_declares(folders, task):
    said = []
    path = writing.report(folders[task], say=said.append)
    assert path == folders[task] / "report.html"
    text = path.read_text()
    page = check_harmless(text)
    for words in (*SHOWN[task], "Curves", "Model", "What was run", "step 1", "evaluated here"):
        if words == "after inner steps":
            words = "does not adapt in steps"  # protonet
        if task == "few_shot" and words == "step 1":
            continue
        assert words in page.text, words
    assert not [line for line in said if "cannot be shown" in line]
    assert len(text) < 5e6


def test_a_checkpoint_that_cannot_be_evaluated_has_a_page(folders, tmp_path, monkeypatch):
    def diverged(*arguments):
        raise NotFiniteError("the evaluation on val is not finite: loss is nan")

    monkeypatch.setattr(one_run.finite, "check_results", diverged)
    said = []
    output = tmp_path / "page.html"
    path = writing.report(folders["classification"], output, say=said.append)
    page = check_harmless(path.read_text())
    assert "cannot be evaluated: the evaluation on val is not finite" in page.text
    assert "There are no final results yet." in page.text
    assert any(line.startswith("warning") for line in said)


def test_without_checkpoints_the_page_has_what_the_files_say(folders, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "metrics.jsonl", "workdir.json"):
        (folder / name).write_bytes((folders["classification"] / name).read_bytes())
    page = check_harmless(writing.report(folder, say=silent).read_text())
    assert "has no checkpoint yet" in page.text
    assert "has not ended: its last report is of step 3" in page.text
    assert "Confusion matrix" not in page.text


def test_damaged_metrics_are_named_on_the_page(folders, tmp_path, caplog):
    folder = copied(folders["classification"], tmp_path / "run", 0, 1.0)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for content, curves in (
        (b"".join([lines[0], b"\xff\x00\n", *lines[1:]]), "val ends at 4"),
        (b"\x80abc\n", "metrics.jsonl has no record of it."),
    ):
        (folder / "metrics.jsonl").write_bytes(content)
        other = copied(folders["classification"], tmp_path / f"other{len(lines)}", 0, 1.0)
        said = []
        for given in (folder, [folder, other]):
            text = writing.report(given, tmp_path / "page.html", say=said.append).read_text()
            assert "left out 1 damaged line (" in check_harmless(text).text
            if given == folder:
                assert curves in text
        assert sum(line.startswith(f"warning: {folder / 'metrics.jsonl'}") for line in said) == 2
        lines.pop()
    assert not caplog.text


@pytest.mark.parametrize(
    "block",
    [
        Words(HOSTILE),
        Grid((HOSTILE, "number"), [(HOSTILE, 1.5), ("a", float("nan"))], ("number",)),
        Confusions(np.array([[3, 1], [0, 2]]), [HOSTILE, "b"]),
        Colors([HOSTILE], np.zeros((1, 3), np.uint8)),
        Reliability(np.array([0.5, 1.0]), np.array([True, False])),
        Pictures([Picture(np.zeros((4, 4)), HOSTILE, HOSTILE)], HOSTILE),
        Charts([Chart(HOSTILE, [Line(HOSTILE, [0, 1], [1.0, 2.0])], HOSTILE)]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_hostile_text_is_text(block):
    page = Page(HOSTILE, HOSTILE, HOSTILE)
    page.add(HOSTILE, [Drawer()(block)])
    text = page.html()
    text.encode()  # no surrogates
    assert check_harmless(text).text.count("<script>alert(1)") >= 3


def test_hostile_files_of_a_run_are_text(folders, tmp_path):
    folder = tmp_path / "<b onclick='x'>run"
    folder.mkdir()
    config = json.loads((folders["classification"] / "config.json").read_text())
    config["data"]["path"] = config["model"]["name"] = HOSTILE
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "workdir.json").write_bytes((folders["classification"] / "workdir.json").read_bytes())
    started = {"config_file": HOSTILE, "overrides": [HOSTILE, 3], "config": {HOSTILE: {"a": 1}}}
    (folder / "started.json").write_text(json.dumps(started))
    record = {"step": 1, "split": HOSTILE, "loss": 1e300, HOSTILE: None}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    summary = {"test": {HOSTILE: 1.0, "x": [1]}, "versions": {HOSTILE: HOSTILE}, "seconds_of": 3}
    summary |= {"steps": HOSTILE, "seconds": [], "parameters": {}, "skipped": 1, "val": 7}
    (folder / "summary.json").write_text(json.dumps({**summary, "git_revision": HOSTILE}))
    text = writing.report(folder, say=silent).read_text()
    assert "<script>alert(1)" in check_harmless(text).text


def test_differences_from_the_config_file_are_marked(folders, tmp_path):
    config = json.loads((folders["classification"] / "config.json").read_text())
    config["optimizer"]["learning_rate"] = 0.5
    del config["train"]["steps"]
    config["schedule"] = {"factor": 0.1, "nothing": None}  # which the run lacks
    files = SavedFiles.read(folders["classification"])
    object.__setattr__(
        files, "started", {"config_file": "a b.py", "overrides": ["--config.x=1"], "config": config}
    )
    from vitjax.report import about

    text = "".join(about.run(files))
    marked = re.findall(r'<tr class="changed"><th scope="row">(.*?)</th>', text)
    assert marked == ["optimizer.learning_rate", "schedule.factor", "train.steps"]
    assert "3 values differ" in text
    row = re.search(r'<th scope="row">schedule.factor</th>(.*?)</tr>', text)[1]
    assert re.sub("<.*?>", " ", row).split() == ["not", "set", "0.1"]
    assert "schedule.nothing" not in text
    assert "&#39;--config=a b.py&#39;" in text
    assert files.command.endswith("--config.x=1")


# ----------------------------------------------------------------------------------- several runs


def copied(source, folder, number, loss, **changes):
    """A run like another with other values in its config and results."""
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    config["seed"] = number
    for key, value in changes.items():
        section, _, name = key.partition("__")
        config.setdefault(section, {})[name] = value
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "workdir.json").write_bytes((source / "workdir.json").read_bytes())
    (folder / "data.json").write_bytes((source / "data.json").read_bytes())
    records = [{"step": s, "split": "val", "loss": loss + s} for s in (1, 2, 3 + number)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    results = {"loss": loss, "accuracy": loss / 10, "examples": 10}
    (folder / "summary.json").write_text(json.dumps({"test": results, "seconds": 1.0}))
    return folder


def test_runs_that_differ_in_the_seed_are_one_group(folders, tmp_path):
    source = folders["classification"]
    made = [
        copied(source, tmp_path / "a0", 0, 1.0),
        copied(source, tmp_path / "b0", 0, 5.0, optimizer__learning_rate=0.5, train__report=False),
        copied(source, tmp_path / "a1", 1, 2.0, train__log_every_steps=7),
        copied(source, tmp_path / "a2", 2, 4.0),
    ]
    files = [SavedFiles.read(folder) for folder in made]
    groups = several_runs.grouped(files)
    assert [[run.name for run in group.runs] for group in groups] == [["a0", "a1", "a2"], ["b0"]]
    assert [group.label for group in groups] == ["learning_rate=0.1", "learning_rate=0.5"]
    (line,) = several_runs._lines(groups[0], 0, ("loss", "val"))
    assert list(line.x) == [1, 2]  # the steps that all have
    values = np.array([[1.0, 2, 4]]) + np.array([[1], [2]])
    np.testing.assert_allclose(line.y, values.mean(axis=1))
    half = 4.302652729911275 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)  # t for two degrees
    np.testing.assert_allclose(line.half_width, [half, half])
    output = tmp_path / "page.html"
    # The command takes further folders after the first.
    first, *others = map(str, made)
    assert main(["report", f"--workdir={first}", *others, f"--output={output}"]) == 0
    page = check_harmless(output.read_text())
    assert "not independent" not in page.text
    assert f"{7 / 3:.4g} ± {half:.2g}" in page.text
    assert "4 runs in 2 groups" in page.text
    # Row by row: of loss the lower is better, of accuracy the higher.
    best = re.findall(r'<td class="n best" [^>]*>(.*?)</td>', output.read_text())
    assert best == [f"{7 / 3:.4g} ± {half:.2g}", "50.00%"]
    again = copied(source, tmp_path / "a3", 2, 4.0)
    text = writing.report([*made, again], output, say=silent).read_text()
    assert "a2, a3 have the same configs and seeds" in check_harmless(text).text


def best(path):
    return re.findall(r'<td class="n best" [^>]*>(.*?)</td>', path.read_text())


def test_a_best_is_marked_among_comparable_runs_alone(folders, tmp_path):
    source = folders["classification"]
    made = [
        copied(source, tmp_path / "a", 0, 1.0),
        copied(source, tmp_path / "b", 0, 2.0, objective__label_smoothing=0.1),
        copied(source, tmp_path / "c", 0, 3.0, data__batch_size=2, data__train_transforms=""),
    ]
    output = tmp_path / "page.html"
    # Batches and transforms leave the data as it is; one loss is of another objective's settings.
    writing.report(made, output, say=silent)
    assert best(output) == ["30.00%"]
    assert "share the charts of losses" in output.read_text()
    writing.report([made[0], made[2]], output, say=silent)
    assert sorted(best(output)) == ["1", "30.00%"]
    assert "cannot be compared" not in output.read_text()
    # Masks of another task, with metrics of the same names.
    others = [*made, copied(folders["segmentation"], tmp_path / "m", 0, 9.0)]
    page = check_harmless(writing.report(others, output, say=silent).read_text())
    assert best(output) == []
    assert "Numbers of different data cannot be compared" in page.text
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", output.read_text())
    assert len([title for title in titles if title.startswith("val loss: ")]) == 2
    # Another machine may have the folder elsewhere, and lack what builds the model.
    moved = [
        copied(source, tmp_path / "p", 0, 1.0, data__path="/home/a/pets"),
        copied(source, tmp_path / "q", 0, 2.0, data__path="/scratch/pets", model__name="no_model"),
    ]
    of_moved = groups.grouped([SavedFiles.read(folder) for folder in moved])
    one, other = groups.kinds(of_moved, ["of_theirs", None])
    assert one.data == other.data
    # Another number of examples is other data, too.
    fewer = copied(source, tmp_path / "f", 0, 9.0, data__batch_size=3)
    described = json.loads((fewer / "data.json").read_text())
    described["examples"]["val"] -= 1
    (fewer / "data.json").write_text(json.dumps(described))
    writing.report([made[0], fewer], output, say=silent)
    assert best(output) == []


def test_a_run_that_is_not_finite_hides_no_other(folders, tmp_path):
    source = folders["classification"]
    made = [copied(source, tmp_path / f"a{i}", i, loss) for i, loss in enumerate((1.0, 2.0))]
    for number, value in enumerate((float("nan"), float("inf")), 2):
        made.append(copied(source, tmp_path / f"lost{number}", number, value))
        records = [{"step": s, "split": "val", "loss": None if s == 2 else 3.0} for s in (1, 2)]
        (made[-1] / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    made.append(copied(source, tmp_path / "b", 0, 7.0, optimizer__learning_rate=0.5))
    groups = several_runs.grouped([SavedFiles.read(folder) for folder in made])
    (line,) = several_runs._lines(groups[0], 0, ("loss", "val"))
    np.testing.assert_allclose(line.y, [(2 + 3 + 3 + 3) / 4, (3 + 4) / 2])
    assert np.isfinite(line.half_width).all()
    output = tmp_path / "page.html"
    page = check_harmless(writing.report(made, output, say=silent).read_text())
    assert "no finite value" not in page.text
    assert "lost2 (test loss, test accuracy, val loss), lost3" in page.text
    half = 12.706204736 * np.std([1, 2], ddof=1) / np.sqrt(2)  # t for one degree
    assert f"1.5 ± {half:.2g}" in best(output)


def labels(*configs):
    files = [SavedFiles(Path(str(i)), config, {}, {}, {}) for i, config in enumerate(configs)]
    return [group.label for group in several_runs.grouped(files)]


def test_labels_begin_with_what_tells_groups_apart():
    vit = {"model.name": "vit", "model.depth": 4, "data.size": 64, "model.mlp_width": 128}
    resnet = {"model.name": "resnet", "data.size": 32, "checkpoint.best": "not set"}
    assert labels(vit, resnet) == [
        "model.name=vit, size=64, depth=4, mlp_width=128",
        "model.name=resnet, size=32, best=not set",
    ]
    # Of a long label what does not tell groups apart is cut, at the end of an item.
    wide = {f"model.option_{i}": "a" * 20 for i in range(9)}
    one, other = labels({**wide, "a.rate": 0.1}, {**wide, "a.rate": 0.2, "a.long": "b" * 99})
    assert (one, other[:9]) == ("rate=0.1", "rate=0.2,")
    assert len(other) <= 60
    assert labels({"a.x": 1}, {}) == ["x=1", "no x"]
    assert labels({"a.x": 1}, {"a.x": 1}) == ["all runs"]
    assert labels({"a.x": "c" * 99}, {"a.x": "c" * 98}) == [
        f"1: x={'c' * 23}…",
        f"2: x={'c' * 23}…",
    ]


def test_a_key_that_a_run_lacks_is_no_value(folders, tmp_path):
    source = folders["classification"]
    made = [
        copied(source, tmp_path / "a", 0, 1.0),
        copied(source, tmp_path / "b", 0, 2.0, init__from_checkpoint="not set"),
    ]
    text = writing.report(made, tmp_path / "page.html", say=silent).read_text()
    row = re.search(r'<th scope="row">init.from_checkpoint</th>(.*?)</tr>', text)[1]
    cells = [re.sub("<.*?>", "", cell) for cell in row.split("</td>")]
    assert cells == ["not set", "&#34;not set&#34;", ""]


def test_what_cannot_be_compared_or_written_is_an_error(folders, tmp_path):
    one = folders["classification"]
    foreign = tmp_path / "thesis.html"
    foreign.write_text("<html>")
    for workdirs, output, overrides, message in (
        ([], None, (), "at least one"),
        ([one, f"{one}/."], None, (), "given twice"),
        ([one, folders["few_shot"]], tmp_path / "x", ("--config.seed=1",), "for one run"),
        ([one], tmp_path, (), "is a folder"),
        ([one], foreign, (), "not a page that vitjax wrote"),
        ([one], foreign / "x" / "page.html", (), "thesis.html is a file"),
    ):
        with pytest.raises(ConfigError, match=message):
            writing.report(workdirs, output, overrides, silent)
    assert foreign.read_text() == "<html>"
    with pytest.raises(workdir.WorkdirError, match="no run there"):
        writing.report([one, tmp_path], tmp_path / "x", say=silent)
    # Nothing is said about a page in a folder that is no folder.
    with pytest.raises(workdir.WorkdirError, match=r"thesis.html is a file; a run is a folder"):
        writing.report(foreign, say=silent)
    assert not (tmp_path / "x").exists()


# ----------------------------------------------------------------------------------- end of a run


def test_a_run_ends_with_its_page_and_survives_a_failing_one(tmp_path, monkeypatch):
    said = []
    config = {**small_workdirs.CLASSIFICATION, "train": {"steps": 1, "log_every_steps": 1}}
    summary = vitjax.train(config, tmp_path / "run", say=said.append)
    assert f"Report: {tmp_path / 'run' / 'report.html'}" in said
    page = check_harmless((tmp_path / "run" / "report.html").read_text())
    for words in ("Confusion matrix", "Mistakes", "waiting for data", "This command adds it"):
        assert words in page.text
    assert "The same images over training" not in [s.strip() for s in page.text.splitlines()]
    assert set(summary["seconds_of"]) == {"steps", "data", "evaluation", "checkpoints"}
    started = json.loads((tmp_path / "run" / "started.json").read_text())
    assert started["config"]["train"] == config["train"]

    (tmp_path / "run" / "report.html").unlink()
    vitjax.train(None, tmp_path / "run", ["--config.train.report=False"], said.append)
    assert not (tmp_path / "run" / "report.html").exists()

    def fails(folder):
        raise RuntimeError("no page today")

    monkeypatch.setattr(one_run.SavedFiles, "read", fails)
    again = vitjax.train(None, tmp_path / "run", ["--config.train.report=True"], said.append)
    assert again["val"] == summary["val"]
    assert any("warning" in line and "no page today" in line for line in said)
    assert not (tmp_path / "run" / "report.html").exists()


# ----------------------------------------------------------------------------------------- drawing


def test_a_page_stays_below_its_limit():
    page = Page("kind", "title")
    page.add("large", [Drawer()(Words("é" * 1_500_000)) for _ in range(3)])
    text = page.html()
    assert len(text.encode()) < 5e6
    assert "2 more would make the page larger" in text


def test_the_places_of_a_chart_are_those_of_its_values():
    drawn = svg.chart(Chart("c", [Line("a", [0, 5, 10], [0.0, np.nan, 1.0])], fraction=True))
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)
    ends = [tuple(map(float, pair)) for pair in circles]
    assert len(ends) == 2  # NaN is a gap
    assert ends[0][0] < ends[1][0]
    assert ends[0][1] > ends[1][1]
    assert "no finite value" in svg.chart(Chart("c", [Line("a", [0], [np.inf])]))
    many = svg.chart(Chart("c", [Line("a", np.arange(100_000), np.linspace(1e-9, 1, 100_000))]))
    assert len(many) < 20_000


def test_values_at_the_end_of_a_line_are_optional():
    line, points = Line("truth", [0, 1], [0.25, 0.75]), [Line("support", [0.5], [0.5])]
    drawn = svg.chart(Chart("fit", [line], "input", points=points, y="out<put", ends=False))
    assert "ends at" not in drawn
    assert "<b" not in drawn
    assert re.search(r"rotate\(-90\).*?>out&lt;put</text>", drawn)
    drawn = svg.chart(Chart("loss", [line]))
    assert '<b title="last value">0.75</b>' in drawn
    assert "truth ends at 0.75" in drawn
    assert "rotate" not in drawn


def test_a_part_that_takes_long_is_named_meanwhile(monkeypatch):
    monkeypatch.setattr(one_run, "_PATIENCE", 0.01)
    said, heard = [], threading.Event()

    def say(text):
        said.append(text)
        heard.set()

    def blocks():
        assert heard.wait(20)
        return [Words("done")]

    (html,) = one_run._drawn("Layers", blocks, Drawer(), say)
    assert html == "<p>done</p>"
    assert said == ["The report's part 'Layers' is being computed"]


def test_bars_are_the_accuracy_of_their_bin():
    generator = np.random.default_rng(0)
    confidence, right = generator.random(200), generator.random(200) < 0.5
    titles = re.findall(r"<title>(.*?)</title>", svg.reliability(confidence, right, 5))
    expected = []
    for bin_ in range(5):
        inside = [i for i in range(200) if bin_ / 5 < confidence[i] <= (bin_ + 1) / 5]
        mean = sum(confidence[i] for i in inside) / len(inside)
        hits = sum(right[i] for i in inside) / len(inside)
        expected.append(
            f"{len(inside)} predictions of mean probability {mean:.1%}: {hits:.1%} are right"
        )
    assert titles == expected
