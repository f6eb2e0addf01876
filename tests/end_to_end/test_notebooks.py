"""The notebooks of docs/notebooks: their code runs, and they are saved with outputs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
MOST_BYTES = 1_500_000
TINY = {"width": 16, "num_heads": 2, "mlp_width": 16, "depth": 1, "patch_size": 8}
NARROW = {"stage_sizes": (1, 1, 1, 1, 1), "width": 2, "hidden": 8, "dropout": 0.0}
SMALL = {"STEPS": 1, "VAL_IMAGES": 8, "TEST_IMAGES": 8}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def executed(name, monkeypatch, tmp_path, **parameters):
    """The names of a notebook after all its code cells, and the number of its figures."""
    for variable in ("CIFAR10_NPZ", "CIFAR10_TFDS", "VGG16_WEIGHTS", "IMAGENET_CLASSES", "IMAGES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WORKDIR", str(tmp_path / "work"))
    figures = []

    def show():
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
            figures.append(number)
        plt.close("all")

    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", show)
    names = {"__name__": "__main__"}
    with plt.rc_context():
        for cell in code(NOTEBOOKS / f"{name}.ipynb"):
            exec(compile("".join(cell["source"]), f"{name}.ipynb, {cell['id']}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert parameters.keys() <= names.keys()
                names.update(parameters)
    return names, len(figures)


def test_attention_of_a_vit(monkeypatch, tmp_path, capsys):
    names, figures = executed(
        "vit_cifar10_attention", monkeypatch, tmp_path, **SMALL, BATCH_SIZE=8, VIT=TINY, OURS=TINY
    )
    assert figures == 7
    model, params = names["model"], names["variables"]["params"]
    assert (model.width, model.qkv_bias, model.position_stddev) == (16, False, 0.0)
    assert "bias" not in params["encoder"]["block_0"]["attention"]["query"]
    # The cells before the second run look at the first one.
    np.testing.assert_allclose(names["mean"].sum(-1), 1, rtol=1e-5)
    assert names["received"].shape == (4, 4)
    assert 0 < names["uniform"] < 32 * 2**0.5
    printed = capsys.readouterr().out
    assert "data: random pixels, not CIFAR-10" in printed
    table = printed[printed.index("test accuracy\n") :].splitlines()[1:3]
    assert [line.split("  ")[0] for line in table] == [
        "SGD 0.01, no qkv bias",
        "configs/cifar10/vit.py",
    ]


def test_grad_cam_of_a_vgg(monkeypatch, tmp_path, capsys):
    small = {"EXPLAINED": 2, "CURVE_STEPS": 2, "NARROW": NARROW, "SIDE": 32}
    names, figures = executed("grad_cam_vgg16", monkeypatch, tmp_path, **SMALL, **small)
    assert figures == 5
    assert names["A"].shape == (2, 2, 2, 16)
    # Each map is judged once by each measure.
    assert names["curves"].keys() == {*names["maps"], "centre", "random"}
    for both in names["curves"].values():
        assert [curve.probabilities.shape for curve in both] == [(2, 3), (2, 3)]
    assert "data: random pixels, not CIFAR-10" in capsys.readouterr().out


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_saved_notebooks_have_their_outputs(path):
    assert path.stat().st_size < MOST_BYTES
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["cell_type"] in ("code", "markdown")
        assert isinstance(cell["metadata"], dict)
        assert "".join(cell["source"]).strip()
    assert [cell["execution_count"] for cell in code(path)] == [*range(1, len(code(path)) + 1)]
    for cell in code(path):
        kinds = {output["output_type"] for output in cell["outputs"]}
        assert kinds <= {"stream", "display_data"}, kinds
        source = "".join(cell["source"])
        # No magic commands, which plain Python cannot execute.
        assert not [line for line in source.splitlines() if line.startswith(("%", "!"))]
        assert ("plt.show()" not in source) or "def " in source or "display_data" in kinds
        for output in cell["outputs"]:
            if output["output_type"] == "display_data":
                png = base64.b64decode("".join(output["data"]["image/png"]))
                assert png.startswith(b"\x89PNG")
    last = "".join("".join(output["text"]) for output in code(path)[-1]["outputs"])
    for word in ("machine: ", "seed: ", "data: CIFAR-10", "date: "):
        assert word in last


def test_both_notebooks_are_there():
    assert [path.stem for path in PATHS] == ["grad_cam_vgg16", "vit_cifar10_attention"]
