"""The command ``vitjax plan``: its arguments, its table and its JSON."""

import json

import jax
import pytest

from vitjax.cli import main

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(
        name="vit_ti16", patch_size=4, width=16, depth=1, num_heads=2, scan_layers=True
    )
    config.data = dict(source="synthetic", image_size=8, examples=64, batch_size=16)
    config.optimizer = dict(name="sgd", learning_rate=0.1)
    config.train = dict(steps=6)
    return config
"""


@pytest.fixture
def config(tmp_path):
    assert len(jax.devices()) == 8  # started, so that no test here sets their number
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return f"--config={path}"


def test_a_plan_is_printed_and_written(config, tmp_path, capsys):
    path = tmp_path / "plan.json"
    arguments = ["--device=h100", "--mesh=data=4", f"--json={path}", "--mfu=0.5"]
    assert main(["plan", config, *arguments, "--config.data.batch_size=32"]) == 0
    out = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["devices"] == 4
    assert found["batch_size"] == 32
    assert found["batch_size_per_device"] == 8
    assert found["fits"] is True
    assert found["mfu"] == 0.5
    assert found["largest_batch_size"] == 64  # of all examples
    memory = found["memory_per_device"]
    assert memory.pop("total") == sum(memory.values())
    assert "4 x H100 of 80.00 GB (mesh data=4)" in out
    assert "fits" in out
    assert "XLA for cpu" in out
    assert list(tmp_path.iterdir()) != []


def test_without_a_file_json_alone_is_printed(config, capsys):
    assert main(["plan", config, "--device=cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"] == 1
    assert found["seconds_per_step"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device=h10"], "--device: unknown device 'h10'; did you mean 'h100'?"),
        (["--mesh=data=3"], "config.data.batch_size is 16, which does not divide evenly into 3"),
        (["--mesh=data=16"], "16 devices are needed, and JAX has started 8"),
        (["--classes=5"], "--image and --examples are missing"),
        (["--config.parallel.mode=pmap", "--mesh=data=2"], "config.parallel.mesh is"),
    ],
)
def test_errors_are_in_words(config, capsys, arguments, message):
    assert main(["plan", config, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--mesh=data", "'data' in 'data' must read AXIS=N, such as data=64,fsdp=8"),
        ("--mesh=data=0", "must read AXIS=N"),
        ("--mesh=data=2,data=4", "has the axis 'data' twice"),
        ("--mfu=2", "'2' must be a number above 0, at most 1"),
        ("--mfu=nan", "must be a number above 0, at most 1"),
        ("--image=224", "'224' must be three integers, such as 224,224,3"),
        ("--examples=0", "must be a positive integer"),
    ],
)
def test_malformed_arguments_are_named(config, capsys, argument, message):
    with pytest.raises(SystemExit):
        main(["plan", config, argument])
    assert message in capsys.readouterr().err
