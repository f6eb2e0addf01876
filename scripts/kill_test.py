r"""Kills runs at random moments, resumes them, and compares them bit for bit with undisturbed ones.

    python scripts/kill_test.py --kills=100 --seed=0

Each of `KINDS` is trained once without a disturbance. Then the same run is started again and again
in another folder; SIGKILL ends each process some random steps after it begins, and a random moment
after that step, so that it also hits evaluations, checkpoints that are being written, and their
removal. Some end before their first step, while they read the run and its checkpoints. When the
kind has had its part of the kills, the run is left to its end, and the state (parameters,
optimizer, statistics, moving average, key), ``metrics.jsonl`` and the results in ``summary.json``
must be those of the undisturbed run; only times and speeds may differ.

The exit status is 1 if a run differs or cannot be resumed. A hundred kills take about a quarter of
an hour on one core.
"""

import argparse
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
STEPS = 24
# Keys of reports that measure time.
TIMES = {"examples_per_second", "mfu", "seconds"}

# A process that kills itself: after the given number of steps, and seconds after these; with no
# steps, that long after it began to check the run that it resumes. With MEMORY, a file, it writes
# what memory it has there every ten steps, after a collection of Python's garbage: the bytes in use
# of glibc's allocator, over all arenas (`mallinfo2` of glibc 2.33), Python's blocks, JAX's arrays,
# and the resident bytes without mapped files, which the system may drop.
CHILD = """
import ctypes, gc, os, signal, sys, threading, time
import jax
from vitjax.cli.entry import main
from vitjax.training import loop
from vitjax.training.logging import Logger

steps, seconds = int(sys.argv.pop(1)), float(sys.argv.pop(1))
left, taken, advance = [steps], [0], Logger.advance
memory = open(os.environ["MEMORY"], "a") if "MEMORY" in os.environ else None

def end():
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)

class Allocated(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def in_use():
    read = ctypes.CDLL(None).mallinfo2
    read.restype = Allocated
    found = read()
    return found.uordblks + found.hblkhd

def counted(logger):
    advance(logger)
    taken[0] += 1
    if memory is not None and taken[0] % 10 == 0:
        gc.collect()
        resident = 1024 * int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
        blocks, arrays = sys.getallocatedblocks(), len(jax.live_arrays())
        print(in_use(), blocks, arrays, resident, file=memory, flush=True)
    left[0] -= 1
    if left[0] == 0:
        threading.Thread(target=end, daemon=True).start()

def begun(*arguments, **keywords):
    if steps == 0:
        threading.Thread(target=end, daemon=True).start()
    return train(*arguments, **keywords)

train, loop.train = loop.train, begun
Logger.advance = counted
sys.exit(main(sys.argv[1:]))
"""

HEAD = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.seed = 3
    config.checkpoint = dict(every_steps=2, keep=2)
    config.parallel = dict(devices=1)
    config.train = dict(log_every_steps=1, evaluate_every_steps=6)
"""
VIT = """
    config.model = dict(name="vit_ti16", patch_size=4, width=16, depth=2, num_heads=2,
                        mlp_width=32, dropout=0.1, drop_path=0.1)
    config.optimizer = dict(name="adamw", learning_rate=3e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = dict(name="cosine", warmup_steps=5)
"""
DIGITS = """
    config.data = dict(source="digits", batch_size=32, eval_batch_size=96,
                       train_transforms="random_affine(degrees=10, translate=0.1)")
"""
EPISODES = """
    config.data = dict(source="glyphs", classes=20, drawings=6, image_size=14, batch_size=2,
                       eval_batch_size=2, episodes=dict(ways=2, shots=1, queries=2,
                       val_episodes=4, test_episodes=4))
    config.model = dict(name="conv4_omniglot", filters=4)
    config.optimizer = dict(name="adam", learning_rate=1e-3)
"""

# The body of each kind's config; {vit} is the folder of the undisturbed run of the first.
KINDS = {
    "vit with workers": VIT
    + DIGITS
    + """
    config.data.workers = 2
    config.objective = dict(name="classification", label_smoothing=0.1)
""",
    "resnet with batch norm and a moving average": DIGITS
    + """
    config.model = dict(name="resnet20", stage_sizes=(1, 1), width=4)
    config.optimizer = dict(name="sgd", learning_rate=0.05, momentum=0.9)
    config.train.ema_decay = 0.9
    config.checkpoint.best = "val/accuracy"
""",
    "unet": """
    config.data = dict(source="cells", size=32, train=8, val=2, test=2, batch_size=2,
                       eval_batch_size=2, train_transforms="dihedral")
    config.model = dict(name="unet", filters=4, depth=1)
    config.objective = dict(name="segmentation")
    config.optimizer = dict(name="adam", learning_rate=1e-3)
""",
    "maml": EPISODES
    + """
    config.objective = dict(name="maml", inner_steps=2, inner_learning_rate=0.1)
    config.data.episodes.train_ways = 2
""",
    "prototypical": EPISODES
    + """
    config.objective = dict(name="protonet")
""",
    "head alone, from weights": VIT
    + DIGITS
    + """
    config.data.train_transforms = ""
    config.model.dropout = config.model.drop_path = 0.0
    config.objective = dict(name="head_only")
    config.init = dict(from_checkpoint="{vit}")
    config.train.early_stopping = dict(patience=20, metric="val/loss")
""",
    "accumulation and mixup": VIT
    + DIGITS
    + """
    config.objective = dict(name="classification", mixup=0.3)
    config.train.accumulation_steps = 2
    config.train.ema_decay = 0.9
""",
    "fsdp on eight devices": VIT
    + DIGITS
    + """
    config.objective = dict(name="classification", mixup=0.3)
    config.parallel = dict(rules="fsdp")
""",
}


# A kind of its own: two optimizers and an objective that a config file registers.
TWO_PLAYERS = "two players"
ORDER = [*KINDS, TWO_PLAYERS]
FIRST = ORDER[0]

# The same for all processes: eight devices, of which most kinds use one.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}


def main() -> int:
    """Runs the test; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of all kinds together (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--kinds", nargs="+", choices=ORDER, default=ORDER, help="(all)")
    parser.add_argument("--folder", type=Path, help="keeps the runs (default: a temporary folder)")
    parsed = parser.parse_args()
    # The head alone starts from the weights of the first kind.
    kinds = [kind for kind in ORDER if kind in parsed.kinds or kind == FIRST]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (parsed.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        began, total, bad = time.monotonic(), 0, []
        for number, kind in enumerate(kinds):
            share = parsed.kills * (number + 1) // len(kinds) - parsed.kills * number // len(kinds)
            chance = random.Random(f"{parsed.seed} {kind}")
            kills, problem = _test(folder, kind, share, chance)
            total += kills
            bad += [kind] if problem else []
            print(f"{kind}: {kills} kills, {problem or 'the same bits'}", flush=True)
        minutes = (time.monotonic() - began) / 60
        print(f"{total} kills of {len(kinds)} kinds in {minutes:.1f} min; different: {len(bad)}")
    return 1 if bad else 0


def _test(folder: Path, kind: str, kills: int, chance: random.Random) -> tuple[int, str]:
    """Kills and resumes one kind of run.

    Returns:
        The number of processes that were killed, and what is wrong; empty if nothing is.
    """
    name = kind.replace(" ", "_").replace(",", "")
    config = folder / f"{name}.py"
    config.write_text(config_text(kind, folder))
    whole, killed = folder / name, folder / f"{name}_killed"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    done = process(config, whole, {**cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"})
    if done.returncode:
        return 0, f"the undisturbed run failed: {done.stderr.strip()}"
    # A process that is killed only reads the cache: half an entry would stay there.
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"
    count = 0
    while count < kills:
        # About half of the kills come before the next checkpoint is complete, a fifth before the
        # first step.
        steps = chance.randint(0, 4)
        seconds = chance.choice([0, chance.uniform(0, 0.4)]) if steps else chance.uniform(0, 2)
        done = process(config, killed, cache, steps, seconds)
        if done.returncode == -9:
            count += 1
        elif done.returncode:
            return count, f"a killed run cannot be resumed: {done.stderr.strip()}"
        elif problem := difference(whole, killed):
            return count, problem
        else:
            # Complete before it had its part of the kills: the rest hit a new run.
            killed = killed.with_name(f"{name}_killed_{count}")
    done = process(config, killed, cache)
    if done.returncode:
        return count, f"a killed run cannot be resumed: {done.stderr.strip()}"
    return count, difference(whole, killed)


def config_text(kind: str, folder: Path) -> str:
    if kind == TWO_PLAYERS:
        helper = runpy.run_path(str(REPOSITORY / "tests" / "helpers" / "two_players.py"))
        return str(helper["GAN"])
    body = KINDS[kind].replace("{vit}", str(folder / FIRST.replace(" ", "_")))
    return f"{HEAD}{body}    return config\n"


def process(
    config: Path,
    workdir: Path,
    environment: dict[str, str],
    steps: int = -1,
    seconds: float = 0,
    *,
    last: int = STEPS,
    saved: int = 2,
) -> "subprocess.CompletedProcess[str]":
    """Trains or resumes; the process is killed ``seconds`` after ``steps``, or never.

    ``last``: the steps of the run; ``saved``: those between two checkpoints.
    """
    lengths = [f"train.steps={last}", f"train.evaluate_every_steps={3 * saved}"]
    lengths += ["train.log_every_steps=1", f"checkpoint.every_steps={saved}"]
    overrides = [f"--config.{each}" for each in lengths]
    command = [sys.executable, "-c", CHILD, str(steps), str(seconds), "train"]
    return subprocess.run(
        [*command, f"--config={config}", f"--workdir={workdir}", *overrides],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=3600,
    )


def difference(whole: Path, killed: Path, last: int = STEPS) -> str:
    """What differs between an undisturbed run and one that was killed; empty if nothing does."""
    import jax
    import numpy as np

    states = [state_of(folder, last) for folder in (whole, killed)]
    structures: list[Any] = [jax.tree.structure(state) for state in states]
    if structures[0] != structures[1]:
        return "the states have other leaves"
    named = jax.tree_util.tree_flatten_with_path(states[0])[0]
    for (path, first), second in zip(named, jax.tree.leaves(states[1]), strict=True):
        if np.asarray(first).tobytes() != np.asarray(second).tobytes():
            return f"the states differ in {jax.tree_util.keystr(path)}"
    for read, what in ((_metrics, "metrics.jsonl"), (_results, "summary.json")):
        first, second = read(whole), read(killed)
        if first != second:
            return f"{what} differs:\n{first}\n{second}"
    return ""


def state_of(folder: Path, step: int) -> object:
    """The state of a run in its checkpoint of ``step``."""
    import jax

    from vitjax.training import experiment, runs

    built = experiment.build(runs.read_config(folder))
    store = built.checkpoints(folder / "checkpoints", read_only=True)
    restored = store.restore(built.abstract_state(), config=built.config, step=step)
    store.close()
    assert restored is not None
    # The key of the run as numbers.
    return jax.tree.map(
        lambda x: (
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        restored.state,
    )


def _metrics(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [_without_times(json.loads(line)) for line in lines]


def _results(folder: Path) -> dict[str, object]:
    summary = json.loads((folder / "summary.json").read_text())
    return {
        key: summary[key] for key in ("steps", "checkpoint_step", "val", "test") if key in summary
    }


def _without_times(record: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if key not in TIMES}


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.path.insert(0, str(REPOSITORY))
    sys.exit(main())
