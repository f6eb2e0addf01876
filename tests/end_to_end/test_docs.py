"""What the documentation shows does what it says."""

import importlib
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from vitjax.cli import main
from vitjax.config import files as configs
from vitjax.training import experiment

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), REPOSITORY / "README.md"]


def test_maml_in_under_forty_lines_learns_sinusoids():
    (program, *_) = re.findall(r"```python\n(.*?)```", (DOCS / "few_shot.md").read_text(), re.S)
    assert len(program.splitlines()) < 40
    steps = "range(10_000)"
    assert steps in program
    names: dict = {}
    exec(compile(program.replace(steps, "range(400)"), "few_shot.md", "exec"), names)
    keys = jax.random.split(jax.random.key(1), 200)

    def error(params, steps):
        losses = jax.jit(jax.vmap(lambda key: names["meta_loss"](params, key, steps)))(keys)
        return float(np.mean(losses))

    fresh = [
        (jax.random.normal(names["key"], s) * s[0] ** -0.5, np.zeros(s[1])) for s in names["sizes"]
    ]
    # A sine of a random amplitude has 3.25 in the mean, whatever one knows of it beforehand.
    assert error(names["params"], 1) < 0.8 * error(fresh, 1)
    assert error(names["params"], 1) < 0.95 * error(names["params"], 0)


def examples(page):
    """The Python examples of a page that are complete config files, by what they register."""
    programs = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    complete = [p for p in programs if "def get_config" in p and p.startswith(("import", "from"))]
    names = [re.search(r'register\("(\w+)"', program) for program in complete]
    return {name[1]: p for name, p in zip(names, complete, strict=True) if name}


@pytest.mark.parametrize("name", examples("extending.md"))
def test_the_examples_of_extending_are_built(name, tmp_path):
    path = tmp_path / f"example_{name}.py"
    path.write_text(examples("extending.md")[name])
    assert experiment.build(configs.load(path)).run.steps > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", examples("extending.md"))
def test_the_examples_of_extending_train(name, tmp_path, capsys):
    path = tmp_path / f"example_{name}.py"
    path.write_text(examples("extending.md")[name])
    short = ["--config.train.epochs=None", "--config.train.steps=1", "--config.parallel.devices=1"]
    status = main(["train", f"--config={path}", f"--workdir={tmp_path / 'run'}", *short])
    assert status == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "code" / path.name).is_file()
    if name == "audited":
        assert (tmp_path / "run" / "figures" / "errors.tsv").read_text()


def test_extending_has_an_example_of_each_kind():
    assert set(examples("extending.md")) == {
        *("two_layers", "stripes", "focal", "brier", "median_confidence", "last_block", "audited")
    }


def anchor(heading):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            broken.append(f"{target}: no such file")
        elif fragment:
            found = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
            anchors = {anchor(h) for h in re.findall(r"^#+ (.*)$", found, re.M)}
            if fragment not in anchors:
                broken.append(f"{target}: no such heading")
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_configs_and_files_that_pages_name_exist(page):
    text = page.read_text()
    named = set(re.findall(r"--config=(?:configs/)?([\w/]+)(?:\.py)?[:\s`]", text))
    own = set(configs.names())
    folders = {name.partition("/")[0] for name in own}
    assert {name for name in named if name.partition("/")[0] in folders} <= own
    files = set(re.findall(r"`((?:vitjax|scripts|configs|tests)/[\w/.]+\.(?:py|sh|md))`", text))
    if page.name != "extending.md":  # which names files that the reader writes
        assert {file for file in files if not (REPOSITORY / file).exists()} == set()


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one."""
    found, *rest = name.split(".")
    value = importlib.import_module(found)
    for part in rest:
        found = f"{found}.{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(found)
            except ModuleNotFoundError:
                return False
        value = getattr(value, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_of_vitjax_in_pages_exist(page):
    text = page.read_text()
    if page.name == "changes.md":  # whose tables give the old name first
        text = "\n".join(line.split("|")[2] for line in text.splitlines() if line.count("|") > 2)
    names = set(re.findall(r"(?<![\w./-])vitjax(?:\.[A-Za-z_]\w*)+", text))
    assert {name for name in names if not resolves(name)} == set()
