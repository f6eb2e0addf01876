"""What ``scripts/launch/slurm.sh`` does when its tasks end, with Slurm's commands replaced."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

SLURM = Path(__file__).resolve().parents[2] / "scripts" / "launch" / "slurm.sh"
# As srun: the tasks run side by side, and the highest status is that of all.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
tasks=()
for number in $(seq 0 $((TASKS - 1))); do
    SLURM_PROCID=$number "$@" & tasks+=($!)
done
[ -z "${TERMINATE:-}" ] || { sleep 0.5; kill -TERM "${tasks[@]}"; }
highest=0
for task in "${tasks[@]}"; do
    wait "$task"; status=$?
    [ "$status" -le "$highest" ] || highest=$status
done
exit "$highest"
"""
# A task ends with its status of the list; "killed" takes the shell around it along.
VITJAX = """#!/usr/bin/env bash
echo "$@" >>arguments
read -ra ends <<<"$ENDS"
end=${ends[$SLURM_PROCID]}
case $end in
    killed) kill -KILL $PPID $$;;
    saves) sleep 1.5; exit 143;;
    *) exit "$end";;
esac
"""
SCONTROL = '#!/usr/bin/env bash\necho "$@" >>requeued\n'


def launched(folder, ends, **variables):
    """The status of the job whose tasks end so, and whether it was queued again."""
    for path, text in (
        ("bin/srun", SRUN),
        ("bin/scontrol", SCONTROL),
        (".venv/bin/vitjax", VITJAX),
    ):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        **{"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"},
        **{"TASKS": str(len(ends.split())), "ENDS": ends, **variables},
    }
    command = ["bash", str(SLURM), "--config=a b", "--workdir=c"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=30, check=False
    )
    arguments = (folder / "arguments").read_text().splitlines()
    assert arguments == ["train --distributed --config=a b --workdir=c"] * len(ends.split())
    assert sorted(path.name for path in folder.glob("slurm-*")) == []
    return done.returncode, (folder / "requeued").exists()


@pytest.mark.parametrize(
    ("ends", "status", "again"),
    [
        ("0 0", 0, False),
        ("75 75", 75, True),
        ("143 143", 143, True),
        ("75 killed", 137, True),
        ("137 75", 137, True),
        ("2 75", 75, False),
        ("75 1 137", 137, False),
        ("12 75", 75, True),
    ],
)
def test_a_slurm_job_is_queued_again_unless_a_task_has_an_error(tmp_path, ends, status, again):
    assert launched(tmp_path, ends) == (status, again)


def test_a_slurm_job_is_not_queued_again_for_ever(tmp_path):
    assert launched(tmp_path, "75 75", SLURM_RESTART_COUNT="20") == (75, False)


def test_the_tasks_of_a_slurm_job_may_save_when_they_are_told_to_stop(tmp_path):
    assert launched(tmp_path, "saves saves", TERMINATE="1") == (143, True)
