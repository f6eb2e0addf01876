import pytest
import whole_runs
from whole_runs import READS_THE_CACHE, TINY


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(TINY)
    return path


def start(*arguments, environment=READS_THE_CACHE):
    return whole_runs.start(["-m", "vitjax", *arguments], environment)


@pytest.fixture(autouse=True)
def no_process_outlives_its_test():
    yield
    while whole_runs.STARTED:
        whole_runs.STARTED.pop().kill()


@pytest.fixture(scope="session")
def vitjax():
    """Runs the command line to its end: (status, standard output, standard error)."""

    def run(*arguments, environment=None):
        process = start(*arguments, environment=environment or {})
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    run.start = start
    return run


@pytest.fixture(scope="session")
def trained(vitjax, config, tmp_path_factory):
    """The folder of a run that was never stopped, and what it said."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    status, output, errors = vitjax("train", f"--config={config}", f"--workdir={workdir}")
    assert status == 0, errors
    return workdir, output, errors
