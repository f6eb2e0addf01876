"""Processes that make batches, when the process that reads them is killed."""

import json
import time
from pathlib import Path

import pytest
import whole_runs

# Batches large enough to travel in shared memory. The workers are found by their parent.
READER = """
import json, os, sys
import numpy as np
from vitjax.data import create

if __name__ == "__main__":
    folder = sys.argv[1]
    images = np.zeros((512, 32, 32, 3), np.uint8)
    np.savez(f"{folder}/x.npz", x_train=images, y_train=np.arange(512) % 2)
    data = create(source="npz", path=f"{folder}/x.npz", batch_size=256, workers=2)
    batches = data.train_batches()
    kept = [next(batches) for _ in range(3)]
    me = os.getpid()
    children = [int(name) for name in os.listdir("/proc") if name.isdigit()
                if open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[1] == str(me)]
    print(json.dumps(children), flush=True)
    while True:
        kept = [*kept[-2:], next(batches)]
"""

SHARED = Path("/dev/shm")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def shared(before):
    """Blocks of shared memory that are new, those of other tests left aside when they end."""
    return {path for path in SHARED.iterdir() if path.name.startswith("psm_")} - before


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not SHARED.is_dir() or not Path("/proc/self/stat").exists(), reason="Linux")
def test_workers_and_their_memory_end_with_a_killed_reader(tmp_path):
    script = tmp_path / "reader.py"
    script.write_text(READER)
    before = set(SHARED.iterdir())
    reader = whole_runs.start([script, tmp_path])
    children = json.loads(reader.stdout.readline() or "[]")
    assert len(children) >= 2, reader.stderr.read()
    reader.kill()
    reader.communicate()
    assert within(20, lambda: not any(map(alive, children))), "a worker goes on"
    assert within(20, lambda: not shared(before)), shared(before)


# Each worker sends its group the signals as soon as its process exists, before it reads anything.
STARTER = """
import os, signal, sys
import numpy as np

if __name__ == "__mp_main__":
    for name in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), name)

from vitjax.data import create

if __name__ == "__main__":
    images = np.zeros((512, 32, 32, 3), np.uint8)
    path = f"{sys.argv[1]}/x.npz"
    np.savez(path, x_train=images, y_train=np.arange(512) % 2)
    with create(source="npz", path=path, batch_size=256, workers=2).train_batches() as batches:
        for _ in range(3):
            print(next(batches)["image"].shape, flush=True)
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    os.kill(os.getpid(), signal.SIGTERM)
    print(heard)
"""


def test_workers_survive_signals_while_they_start(tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    reader = whole_runs.start([script, tmp_path])
    try:
        out, err = reader.communicate(timeout=60)
    finally:
        reader.kill()
    assert reader.returncode == 0, err
    assert out.splitlines() == [*["(256, 32, 32, 3)"] * 3, "['SIGTERM']"], err
