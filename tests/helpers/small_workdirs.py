"""Folders of small runs as they lie on disk, made without training, and what reads them."""

import contextlib
import json
import re

import jax

from vitjax.core.atomic import write_json
from vitjax.tasks import runs as tasks
from vitjax.training import experiment as experiments
from vitjax.training import initialization, loop, resuming, runs, workdir

CLASSIFICATION = {
    "seed": 1,
    "model": {"name": "conv4_omniglot", "filters": 2, "depth": 1},
    "data": {
        **{"source": "synthetic", "image_size": 8, "channels": 1, "num_classes": 3},
        **{"examples": 6, "val_examples": 3, "batch_size": 2, "eval_batch_size": 2},
    },
    "objective": {"name": "classification"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train": {"steps": 3},
    "checkpoint": {"best": "val/loss"},
    "parallel": {"devices": 1},
}
SEGMENTATION = {
    **CLASSIFICATION,
    "model": {"name": "unet", "filters": 2, "depth": 1},
    "data": {
        **{"source": "cells", "size": 32, "train": 2, "val": 1, "test": 1},
        **{"batch_size": 1, "eval_batch_size": 1},
    },
    "objective": {"name": "segmentation"},
}
FEW_SHOT = {
    **CLASSIFICATION,
    "data": {
        **{"source": "glyphs", "classes": 15, "drawings": 4, "image_size": 8},
        **{"batch_size": 2, "eval_batch_size": 2},
        "episodes": {
            **{"ways": 2, "shots": 1, "queries": 1, "val_episodes": 2, "test_episodes": 2},
        },
    },
    "objective": {"name": "protonet"},
}


def make(folder, config):
    """A run with the checkpoints of steps 1 and 2, whose states are the initial one."""
    built = experiments.build(config, used=config)
    with workdir.lock(folder):
        workdir.write_config(folder, built.config)
        write_json(folder / workdir.DATA, built.data.describe())
    records = [{"step": step, "split": "val", "loss": 1.0 / step} for step in (1, 2, 3)]
    (folder / workdir.METRICS).write_text("".join(json.dumps(each) + "\n" for each in records))
    write_json(folder / workdir.SUMMARY, {"steps": 3, "seed": 1})
    store = built.checkpoints(folder / workdir.CHECKPOINTS)
    state = built.initial_state()
    now = resuming.DataNow.of(built)
    clock = {"seconds": 0.0, "steady_steps": 0, "steady_seconds": 0.0}
    for step in (1, 2):
        store.save(
            state.replace(step=jax.numpy.asarray(step, "int32")),
            step=step,
            progress={
                **{"next_batch": step, "clock": clock},
                **{"data": now.examples, "classes": now.classes},
            },
            config=built.config,
            metrics={"val/loss": 1.0 / step},
        )
    store.close()
    return folder


def silent(text):
    """Stands in for `print`."""


class Begun(Exception):
    """A training was about to take its first step."""


@contextlib.contextmanager
def without_steps():
    """Ends each training where it would begin to compute, with its files written."""
    real = loop.Logger

    def begins(*arguments, **keywords):
        real(*arguments, **keywords).close()
        raise Begun

    loop.Logger = begins
    try:
        yield
    finally:
        loop.Logger = real


def train(folder, overrides=(), config=None, **keywords):
    """`vitjax.train` until its first step."""
    with without_steps(), contextlib.suppress(Begun):
        tasks.train(config, folder, overrides, silent, **keywords)


def evaluate(folder):
    """What ``vitjax evaluate`` and ``vitjax probe`` read."""
    with contextlib.closing(runs.SavedRun(folder, say=silent)) as run:
        run.check_evaluation("val")
        run.chosen(None, silent)


def load(folder):
    """What ``vitjax predict``, ``vitjax export`` and `vitjax.load` read."""
    tasks.load(folder, say=silent)


def ensemble(folder):
    """What ``vitjax evaluate --ensemble`` reads besides."""
    with contextlib.closing(runs.SavedRun(folder, say=silent)) as run:
        run.best_steps(2)


def start(folder):
    """What ``config.init.from_checkpoint`` reads of a run."""
    initialization.known_classes({**CLASSIFICATION, "init": {"from_checkpoint": str(folder)}})


READERS = (train, evaluate, load, ensemble, start)


def contents(folder):
    """What lies in a folder, for comparisons; None if it does not exist."""
    if not folder.exists():
        return None
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def one_line(error):
    """Whether the message of an error is one line that a terminal shows as it is."""
    return not re.search(r"[\x00-\x1f]", str(error))
