"""Sizes that cannot work are told before anything is compiled, with the key and the numbers."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import pytest

from vitjax.core import constraints, machine
from vitjax.core.errors import ConfigError
from vitjax.objectives import objectives
from vitjax.objectives.classification import Classification
from vitjax.training import experiment as experiments
from vitjax.training import memory

DIGITS = {
    "model": {"name": "mlp_omniglot"},
    "data": {"source": "digits", "batch_size": 64},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train": {"steps": 3},
}
CELLS = {
    **DIGITS,
    "model": {"name": "unet", "filters": 2, "depth": 1},
    "data": {"source": "cells", "batch_size": 2, "size": 64},
    "objective": {"name": "segmentation"},
}
VIT = {**DIGITS, "model": {"name": "vit_ti16", "patch_size": 4, "depth": 1}}


def changed(config, **values):
    result = {name: dict(section) for name, section in config.items()}
    for path, value in values.items():
        section, key = path.split("__")
        result[section][key] = value
    return result


@pytest.fixture(autouse=True)
def sixteen_gigabytes(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * 10**9)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(DIGITS, data__batch_size=10**9), r"data\.batch_size is 1000000000: .* 69\.0 GB"),
        (changed(CELLS, data__batch_size=10**7), r"batch_size is 10000000: .* examples of 64 x 64"),
        (changed(CELLS, data__eval_batch_size=10**7), r"data\.eval_batch_size is 10000000: .*"),
        (
            changed(VIT, data__batch_size=2 * 10**7),
            r"batch_size is 20000000: one layer of con",
        ),
        (
            changed(VIT, model__mlp_width=2**20, model__depth=8, optimizer__name="adam"),
            r"config\.model: what a run keeps of its parameters .* at least 38\.8 GB",
        ),
        (
            changed(VIT, model__mlp_width=2**20, model__depth=12),
            r"config\.model: what a run keeps of its parameters .* at least 19\.4 GB",
        ),
        (
            changed(CELLS, data__workers=512),
            r"data\.workers is 512; .* at most \d+ on this machine: 16 ",
        ),
        (
            changed(CELLS, data__workers=10**6),
            r"data\.workers is 1000000; .* in \[0, 512\]",
        ),
        (
            {**DIGITS, "data": {"source": "synthetic", "examples": 10**9, "batch_size": 1}},
            r"examples = 1000000000 .* 3,072\.0 GB",
        ),
        (
            {**DIGITS, "data": {"source": "glyphs", "image_size": 2048, "batch_size": 1}},
            r"classes = 200 .* 16\.8 GB",
        ),
    ],
)
def test_what_fits_into_no_memory_is_told(config, words):
    started = time.process_time()
    with pytest.raises(ConfigError, match=words) as error:
        experiments.build(config)
    assert len(str(error.value).splitlines()) == 1
    assert time.process_time() - started < 10  # 3 on a machine that does nothing else


def test_what_fits_is_built_and_unknown_memory_refuses_nothing(monkeypatch):
    assert experiments.build(changed(DIGITS, data__batch_size=10**6)).data.batch_size == 10**6
    monkeypatch.setattr(machine, "memory_bytes", lambda: None)
    assert experiments.build(changed(DIGITS, data__batch_size=10**9)).data.batch_size == 10**9


def test_micro_batches_need_less(monkeypatch):
    wide = changed(VIT, data__batch_size=800, data__eval_batch_size=8, model__mlp_width=50_000)
    # 800 examples of 5 tokens and 50,000 features.
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 800 * 5 * 50_000 // 2)
    with pytest.raises(ConfigError, match=r"batch_size is 800: one layer .* 0\.8 GB .* 0\.4 GB"):
        experiments.build(wide)
    assert experiments.build(changed(wide, train__accumulation_steps=4)).data.batch_size == 800


def test_the_memory_is_that_of_the_smallest_limit(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:       8000 kB\nSwapTotal:      1000 kB\n")
    assert machine.memory_bytes() == 9000 * 1024
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    assert machine.memory_bytes() == 9000 * 1024
    (tmp_path / "a" / "memory.max").write_text("2048000\n")
    assert machine.memory_bytes() == 2048000 + 1000 * 1024
    (tmp_path / "own").write_text("4:cpu,memory:/job\n")
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "memory" / "job" / "memory.limit_in_bytes").write_text("1024\n")
    assert machine.memory_bytes() == 1024 + 1000 * 1024


def test_the_memory_of_an_accelerator_is_what_it_reports(monkeypatch):
    def parallel(statistics):
        device = SimpleNamespace(platform="gpu", memory_stats=lambda: statistics)
        return SimpleNamespace(devices=[device] * 4, batch_shards=2)

    found = memory._split(parallel({"bytes_limit": 10**9}))
    assert found == ((10**9, "a device"), 4, 2)
    assert memory._split(parallel(None))[0].size is None


# On images of 8 x 8 pixels: 64 patches of one layer with 5,000 features, 1.3 MB for each image.
FROZEN = {
    **changed(VIT, model__patch_size=1, model__mlp_width=5_000),
    "objective": {"name": "head_only"},
    "init": {"from_checkpoint": "weights.npz"},
}


def test_a_batch_of_cached_features_passes_no_network():
    large = changed(FROZEN, data__batch_size=10**6, data__eval_batch_size=8)
    assert experiments.build(large).data.batch_size == 10**6
    for config in (
        changed(large, data__eval_batch_size=10**6),
        changed(large, objective__cache_features=False),
    ):
        with pytest.raises(ConfigError, match=r"_size is 1000000: one layer of config\.model"):
            experiments.build(config)


def test_a_step_is_measured_by_its_loss(monkeypatch):
    @objectives.register("test_halves")
    @dataclasses.dataclass(frozen=True)
    class Halves(Classification):
        """Learns from the first half of each batch."""

        def loss(self, params, model_state, batch, rng):
            half = {name: x[: len(x) // 2] for name, x in batch.items()}
            return super().loss(params, model_state, half, rng)

    config = {**changed(VIT, data__batch_size=800, data__eval_batch_size=8)}
    config = changed(config, model__mlp_width=50_000) | {"objective": {"name": "test_halves"}}
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 400 * 5 * 50_000)
    assert experiments.build(config).data.batch_size == 800
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 400 * 5 * 50_000 - 1)
    with pytest.raises(ConfigError, match=r"batch_size is 800: one layer .* 0\.4 GB"):
        experiments.build(config)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (changed(DIGITS, data__batch_size=10**9), 16 * 10**9),
        (changed(VIT, data__batch_size=2 * 10**7), 16 * 10**9),
        (VIT, 10**6),
        ({**DIGITS, "data": {"source": "synthetic", "batch_size": 1}}, 10**5),
    ],
)
def test_one_switch_removes_all_limits_of_memory(config, size, monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: size)
    with pytest.raises(ConfigError, match=r" \(VITJAX_MODEL_LIMITS=off in the environment"):
        experiments.build(config)
    monkeypatch.setenv("VITJAX_MODEL_LIMITS", "off")
    experiments.build(config)


def test_workers_are_bounded_by_the_cores(monkeypatch):
    monkeypatch.setattr(constraints, "process_cores", lambda: 2)
    experiments.check(changed(CELLS, data__workers=32))
    with pytest.raises(ConfigError, match=r"workers is 300; it must be at most 32 on this mach"):
        experiments.check(changed(CELLS, data__workers=300))
    monkeypatch.setattr(constraints, "process_cores", lambda: 20)
    experiments.check(changed(CELLS, data__workers=300))


def test_a_batch_larger_than_the_data_is_blamed_for_an_epoch_without_a_step():
    config = changed(DIGITS, data__batch_size=10**7) | {"train": {"epochs": 100}}
    words = (
        r"data\.batch_size is 10000000, and there are 1,437 examples .* config\.train\.epochs = 1"
    )
    with pytest.raises(ConfigError, match=words):
        experiments.build(config)
