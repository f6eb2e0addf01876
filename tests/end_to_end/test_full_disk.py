"""A run whose files cannot be written ends with one line that names the file."""

import json

import whole_runs

# Limits the size of each file, as a quota does; the process itself continues.
LIMITED = """
import resource, sys
from vitjax.cli.entry import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


def test_a_checkpoint_that_does_not_fit_ends_the_run_in_one_line(config, tmp_path):
    process = whole_runs.start(
        [*("-c", LIMITED, 16_384), "train", f"--config={config}", f"--workdir={tmp_path / 'run'}"],
        whole_runs.READS_THE_CACHE,
    )
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors
    assert "checkpoints: a checkpoint cannot be written" in errors
    # What was reported until then is complete. Checkpoints are written while training continues.
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 10
    assert all(json.loads(line) for line in lines)
