"""Plans: exact sizes of a placed state, the search for a batch, data that is not at hand."""

import dataclasses

import jax
import pytest

from vitjax.core import machine
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.parallel import accelerators
from vitjax.training import experiment as experiments
from vitjax.training import planning

FSDP = {"rules": {"name": "fsdp", "min_size": 16}}
MODEL = {"name": "vit_ti16", "patch_size": 4, "width": 16, "depth": 1, "num_heads": 2}
SYNTHETIC = {"source": "synthetic", "image_size": 8, "examples": 64, "batch_size": 16}


def config(data=SYNTHETIC, model=MODEL, optimizer=None, **sections):
    return {
        "model": model,
        "data": data,
        "optimizer": {"name": "adamw", "learning_rate": 1e-2, **(optimizer or {})},
        "train": {"steps": 6, "ema_decay": 0.9},
        **sections,
    }


def on_first_device(tree):
    """The bytes that arrays take on the first device."""
    first = jax.devices()[0]
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == first)


@pytest.fixture(scope="module")
def under_fsdp():
    """A plan on eight devices, the parameters of one group frozen, and the placed state itself."""
    given = config(
        parallel=FSDP,
        optimizer={"freeze": ("patch_embedding",)},
    )
    built = experiments.build(given)
    state = built.parallel.place_state(built.initial_state())
    return planning.make(given, search=False, say=str), state


def test_the_state_has_the_sizes_of_its_arrays(under_fsdp):
    plan, state = under_fsdp
    assert plan.memory.parameters == on_first_device(state.params)
    assert plan.memory.optimizer == on_first_device(state.opt_state)
    assert plan.memory.ema == on_first_device(state.ema)
    assert plan.memory.other_variables == on_first_device((state.step, state.rng))
    # Four batches of two images of 8 x 8 x 3 bytes, with an int32 label and a mask.
    assert plan.memory.batch == 4 * 2 * (8 * 8 * 3 + 4 + 1)


def test_frozen_parameters_are_counted_apart(under_fsdp):
    plan, state = under_fsdp
    frozen = sum(leaf.size for leaf in jax.tree.leaves(state.params["patch_embedding"]))
    assert plan.parameters[1] == frozen
    assert sum(plan.parameters) == sum(leaf.size for leaf in jax.tree.leaves(state.params))


def test_pmap_has_a_copy_of_the_state_on_each_device(under_fsdp):
    plan = planning.make(config(parallel={"mode": "pmap"}), search=False, say=str)
    _, state = under_fsdp
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    assert plan.memory.parameters == plan.memory.ema == whole
    assert plan.memory.batch == 4 * 2 * (8 * 8 * 3 + 4 + 1)
    assert plan.devices == plan.batch_shards == 8


def test_time_follows_from_flops_and_peak(under_fsdp):
    plan, _ = under_fsdp
    assert plan.seconds_per_step is None
    assert plan.to_json()["seconds"] is None
    tpu = dataclasses.replace(plan, peak=1e12, mfu=0.5)
    assert tpu.seconds_per_step == pytest.approx(plan.flops_per_step / (8 * 0.5e12))
    assert tpu.to_json()["seconds"] == pytest.approx(6 * tpu.seconds_per_step)
    assert tpu.to_json()["examples_per_second"] == pytest.approx(16 / tpu.seconds_per_step)
    assert any("at 50% of the bfloat16 peak of 1 TFLOP/s" in line for line in tpu.lines())


@pytest.mark.parametrize(
    "needed",
    [
        lambda size: 1000 + 10 * size,
        lambda size: 1000 + 10 * size + size**1.2,
        lambda size: 5000 - size if size < 64 else 4936 + 12 * (size - 64),
        lambda size: 1000 + 640 * -(-size // 64),
        lambda size: 9_999 + size * 1e-3,
    ],
)
@pytest.mark.parametrize("memory", [900, 1_500, 10_000, 1_000_000])
@pytest.mark.parametrize(("first", "unit"), [(8, 8), (128, 8), (64, 1)])
def test_the_search_ends_with_a_batch_that_fits(needed, memory, first, unit):
    tried = []
    found = planning.largest_batch(
        lambda size: tried.append(size) or needed(size), memory, first, unit=unit, most=10**7
    )
    assert len(tried) == len(set(tried)) <= planning._COMPILATIONS
    assert found % unit == 0
    assert all(size % unit == 0 for size in tried)
    assert found in tried if found else needed(unit) > memory or unit not in tried
    assert not found or needed(found) <= memory


@pytest.mark.parametrize("memory", [1_100, 3_000, 47_123, 10**9])
@pytest.mark.parametrize("unit", [1, 8])
def test_the_search_is_exact_where_a_batch_needs_in_proportion(memory, unit):
    def needed(size):
        return 1000 + 7 * size

    found = planning.largest_batch(needed, memory, 64, unit=unit)
    assert needed(found) <= memory
    assert needed(found + unit + 0.02 * found) > memory


def test_the_search_ends_at_the_examples_that_there_are():
    assert planning.largest_batch(lambda size: size, 10**6, 64, unit=8, most=1_437) == 1_432
    assert planning.largest_batch(lambda size: 100 + size, 99, 8, unit=8) == 0


def test_the_memory_of_this_machine_does_not_limit_a_plan(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 100_000)
    given = config(model={**MODEL, "width": 64})
    with pytest.raises(ConfigError, match="keeps of its parameters needs at least"):
        experiments.build(given)
    experiments.build(given, planned=True)


TFDS = {
    "source": "tfds",
    "dataset": "imagenet2012",
    "data_dir": "/nowhere",
    "batch_size": 16,
    "train_transforms": "random_resized_crop(8)",
    "eval_transforms": "resize(8) | center_crop(8)",
}


def test_missing_data_is_replaced_by_its_sizes():
    with pytest.raises(DataError, match="--image=224,224,3 --classes=1000"):
        planning.make(config(TFDS), say=str)
    built = planning._build(config(TFDS), planning.Sizes((224, 224, 3), 1000, 1_281_167))
    assert built.objective.num_classes == 1000
    assert built.data.steps_per_epoch == 1_281_167 / 16
    assert built.data.example_batch()["image"].shape == (1, 8, 8, 3)


def test_missing_episodes_and_masks_are_replaced_by_their_sizes():
    episodes = planning._build(
        config(
            {
                **{"source": "folder", "path": "/nowhere", "batch_size": 8},
                "episodes": {"ways": 5, "shots": 1, "queries": 3},
            },
            {"name": "conv4_omniglot"},
            objective={"name": "maml", "inner_steps": 1, "inner_learning_rate": 0.4},
        ),
        planning.Sizes((28, 28, 1), 20, 400),
    )
    assert episodes.data.num_train_classes == 20
    assert episodes.data.num_classes == 5
    masks = planning._build(
        config(
            {"source": "masks", "path": "/nowhere", "batch_size": 8},
            {"name": "unet", "filters": 2, "depth": 1},
            objective={"name": "segmentation"},
        ),
        planning.Sizes((32, 48, 3), 2, 30),
    )
    assert masks.data.example_batch()["image"].shape == (1, 32, 48, 3)


def test_accelerators_are_found_by_name_and_by_kind():
    assert accelerators.named("H100", "--device").memory == 80e9
    for name, each in accelerators.ACCELERATORS.items():
        assert accelerators.of_kind(f"NVIDIA {each.kind} 1") is each, name
    assert accelerators.of_kind("cpu") is None
    with pytest.raises(ConfigError, match="unknown device 'h10'; did you mean 'h100'"):
        accelerators.named("h10", "--device")
