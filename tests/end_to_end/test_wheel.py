"""The wheel in an environment of its own, away from the repository: configs, commands, types."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = (
    "--config.model.depth=1",
    "--config.model.width=8",
    "--config.model.num_heads=2",
    "--config.train.epochs=None",
    "--config.train.steps=1",
)

pytestmark = pytest.mark.slow


def call(*command, cwd=None, environment=None):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a program of an environment that has the wheel, from a directory elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-deps", "--no-index", "--quiet")
    wheel = ("wheel", "--no-build-isolation", *options, "--wheel-dir", folder / "dist", REPOSITORY)
    for command in (
        (*pip, *wheel),
        (sys.executable, "-m", "venv", "--without-pip", folder / "venv"),
    ):
        status, _, errors = call(*command, cwd=folder)
        assert status == 0, errors
    (file,) = (folder / "dist").glob("vitjax-*.whl")
    status, _, errors = call(
        *pip, "--python", folder / "venv" / "bin" / "python", "install", *options, file, cwd=folder
    )
    assert status == 0, errors
    # The dependencies are those of the tests. A .pth file of theirs, as of an editable vitjax, is
    # not read there.
    packages = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}

    def run(program, *arguments, cwd=folder):
        return call(folder / "venv" / "bin" / program, *arguments, cwd=cwd, environment=environment)

    run.folder = folder
    return run


def test_the_package_is_the_wheel_s(installed):
    status, output, errors = installed("python", "-c", "import vitjax; print(vitjax.__file__)")
    assert status == 0, errors
    assert Path(output.strip()).is_relative_to(installed.folder / "venv")
    package = Path(output.strip()).parent
    assert (package / "py.typed").is_file()
    for pattern, source in (
        ("configs/**/*.py", REPOSITORY),
        ("data/episodes/splits/*.json", REPOSITORY / "vitjax"),
        ("report/templates/*.html.j2", REPOSITORY / "vitjax"),
    ):
        names = {path.relative_to(package) for path in package.glob(pattern)}
        assert names == {path.relative_to(source) for path in source.glob(pattern)}
        assert names


@pytest.mark.parametrize(
    "name", ["digits/vit", pytest.param("configs/digits/vit.py", marks=pytest.mark.slow)]
)
def test_a_config_of_the_wheel_trains(installed, tmp_path, name):
    status, output, errors = installed(
        "vitjax", "train", f"--config={name}", f"--workdir={tmp_path}", *TINY
    )
    assert status == 0, errors
    assert "accuracy" in output
    assert (tmp_path / "summary.json").is_file()
    assert (tmp_path / "report.html").is_file()


def test_a_config_of_the_wheel_takes_an_argument(installed):
    code = "from vitjax import config; print(config.load('cifar10/vit:tfds').data.source)"
    status, output, errors = installed("python", "-c", code)
    assert status == 0, errors
    assert output == "tfds\n"


def test_a_file_of_that_path_comes_first(installed, tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "vit.py").write_text("def get_config(): return {'mine': 1}")
    code = "from vitjax import config; print(config.load('digits/vit').mine)"
    status, output, errors = installed("python", "-c", code, cwd=tmp_path)
    assert status == 0, errors
    assert output == "1\n"


def test_the_near_match_of_a_config_is_named(installed):
    status, _, errors = installed("vitjax", "data", "--config=digits/vti")
    assert status == 2
    assert "no config file 'digits/vti'; did you mean 'digits/vit'?" in errors


def test_class_split_is_a_command(installed, tmp_path):
    path = tmp_path / "split.json"
    status, output, errors = installed("vitjax", "class_split", path, "source=digits")
    assert status == 0, errors
    assert output == f"{path}: 6 train, 2 val, 2 test\n"
