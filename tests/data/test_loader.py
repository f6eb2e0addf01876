"""Order, resumption, hosts, padding: what the trainer relies on."""

from __future__ import annotations

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.samplers.order import epoch_order
from vitjax.data.sources import ArraySplit, Source

AUGMENT = "pad_and_crop(8, 2) | flip | random_affine(10, 0.1) | rand_augment(1, 5)"


def digits(**keywords) -> vitjax.data.Data:
    settings_ = {"source": "digits", "batch_size": 64, "train_transforms": AUGMENT, **keywords}
    return vitjax.data.create(**settings_)


def numbered(count: int, **keywords) -> vitjax.data.Data:
    """Images that carry their own number, so that batches say which examples they hold."""
    images = np.arange(1, count + 1, dtype=np.float32).reshape(count, 1, 1, 1)
    split = ArraySplit(images, np.zeros(count, np.int32), "numbered")
    return vitjax.data.Data(Source({"train": split, "val": split}, ("only",)), **keywords)


def take(data: vitjax.data.Data, count: int, **keywords) -> list[dict[str, np.ndarray]]:
    with data.train_batches(**keywords) as batches:
        return list(itertools.islice(batches, count))


def same(left, right) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert set(a) == set(b) == {"image", "label", "mask"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture(scope="module")
def uninterrupted() -> list[dict[str, np.ndarray]]:
    return take(digits(), 60)


def test_batches_have_the_promised_shapes(uninterrupted):
    batch = uninterrupted[0]
    assert batch["image"].shape == (64, 8, 8, 1)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32
    assert batch["mask"].dtype == bool
    assert batch["mask"].all()


@pytest.mark.parametrize("start", [1, 22, 23, 45])  # an epoch has 22.45 batches
def test_going_on_equals_never_having_stopped(uninterrupted, start):
    same(take(digits(), 60 - start, start=start), uninterrupted[start:])


def test_worker_processes_change_nothing(uninterrupted):
    same(take(digits(workers=2), 53, start=7), uninterrupted[7:])


def test_the_shares_of_four_hosts_make_up_the_batch_of_one(uninterrupted):
    shares = [take(digits(), 5, start=20, process_index=i, process_count=4) for i in range(4)]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    same(joined, uninterrupted[20:25])


def test_the_seed_decides_the_order_and_the_augmentation(uninterrupted):
    other = take(digits(seed=1), 1)[0]
    assert (other["label"] != uninterrupted[0]["label"]).any()
    plain = take(digits(train_transforms=""), 1)[0]
    np.testing.assert_array_equal(plain["label"], uninterrupted[0]["label"])
    assert (plain["image"] != uninterrupted[0]["image"]).any()


def test_one_example_is_augmented_in_many_ways():
    image = digits().source.split("train").images[:1]
    source = Source({"train": ArraySplit(image, np.zeros(1, np.int32), "one")}, ("0",))
    data = vitjax.data.Data(source, batch_size=64, train_transforms="crop(4)")
    batch = take(data, 1)[0]["image"]
    assert len(np.unique(batch.reshape(64, -1), axis=0)) > 15  # of 25 possible crops


@settings(max_examples=25)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 17))
def test_every_epoch_holds_each_example_once_in_a_new_order(count, batch_size):
    data = numbered(count, batch_size=batch_size)
    batches = take(data, -(-3 * count // batch_size))
    seen = np.concatenate([b["image"].ravel() for b in batches])[: 3 * count].reshape(3, count)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(1, count + 1), (3, 1)))
    if count > 20:
        assert len(np.unique(seen, axis=0)) == 3


@settings(max_examples=25)
@given(count=st.integers(1, 40), share=st.integers(1, 7), hosts=st.integers(1, 4))
def test_evaluation_sees_every_example_once_and_in_order(count, share, hosts):
    data = numbered(count, batch_size=1, eval_batch_size=share * hosts)
    per_host = [list(data.eval_batches("val", i, hosts)) for i in range(hosts)]
    assert len({len(batches) for batches in per_host}) == 1
    seen = []
    for parts in zip(*per_host, strict=True):
        for part in parts:
            assert part["image"].shape == (share, 1, 1, 1)
            assert not part["image"][~part["mask"]].any()
            seen += part["image"][part["mask"]].ravel().tolist()
    assert seen == list(range(1, count + 1))


def test_shuffling_is_fair():
    # The place of example 0 among 8, over 800 epochs: chi-squared below its 99.9th percentile.
    seen = np.stack([epoch_order(0, epoch, 8) for epoch in range(800)])
    counts = np.bincount(np.argmax(seen == 0, axis=1), minlength=8)
    assert ((counts - 100) ** 2 / 100).sum() < 24.3


def test_facts_about_the_data():
    data = digits(eval_transforms="resize(16) | gray_to_rgb", eval_batch_size=50)
    assert data.splits == ("train", "val", "test")
    assert data.image_shape == (16, 16, 3)
    assert data.num_classes == 10
    assert data.class_names[3] == "3"
    assert data.steps_per_epoch == 1437 / 64
    assert np.bincount(data.labels("test")).sum() == data.num_examples("test") == 180
    assert len(data.eval_batches("test")) == 4


def test_an_exhausted_iterator_stays_so():
    batches = digits().eval_batches("test")
    assert len(list(batches)) == 3
    assert list(batches) == []
    with pytest.raises(TypeError, match="no end"):
        len(digits().train_batches())


def test_normalize_scales_bytes_and_leaves_floats():
    data = digits(mean=[0.5], std=0.25)
    images = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    out = jax.jit(data.normalize)(images)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.ravel(), [-2, 2], rtol=1e-6)
    np.testing.assert_allclose(
        data.normalize(np.ones((1, 1, 1, 1), np.float32)).ravel(), [2.0], rtol=1e-6
    )
    np.testing.assert_array_equal(digits().normalize(images).ravel(), [0, 1])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sauce": "digits"}, r"config.data: .*'sauce'; did you mean 'source'"),
        ({"source": "digit"}, r"config.data.source: .*'digit'; did you mean 'digits'"),
        ({"batchsize": 3}, r"'batchsize'; did you mean 'batch_size'"),
        ({"source": "npz", "paht": "x"}, r"'paht'; did you mean 'path'"),
        ({"source": "npz"}, r"'path' is missing"),
        ({"batch_size": 0}, r"config.data.batch_size is 0"),
        ({"workers": -1}, r"config.data.workers is -1"),
        ({"on_corrupt": "ignore"}, r"on_corrupt is 'ignore'; it must be 'error' or 'skip'"),
        ({"mean": (0.1, 0.2)}, r"mean is \(0.1, 0.2\).*1 channels"),
        ({"std": 0.0}, r"std is 0.0; it must be above 0"),
        ({"mean": math.nan}, r"mean is nan; it must be finite"),
        ({"std": (math.inf,)}, r"std\[0\] is inf; it must be finite"),
        ({"mean": True}, r"mean is True; it must be a number"),
        ({"train_transforms": "flop"}, r"config.data.train_transforms: .*did you mean 'flip'"),
    ],
)
def test_errors_of_the_config_name_the_key(keywords, message):
    with pytest.raises(ConfigError, match=message):
        digits(**keywords)


def test_batch_size_is_not_forgotten():
    with pytest.raises(ConfigError, match="'batch_size' is missing"):
        vitjax.data.create(source="digits")
    with pytest.raises(ConfigError, match="'source' is missing"):
        vitjax.data.create(batch_size=3)


def test_hosts_must_share_evenly():
    with pytest.raises(
        ConfigError, match=r"batch_size is 64; it must be divisible by .* 3, such as 66"
    ):
        digits().train_batches(process_count=3)
    with pytest.raises(ConfigError, match="eval_batch_size is 50"):
        digits(eval_batch_size=50).eval_batches("val", process_count=4)


def test_an_unknown_split_is_named():
    with pytest.raises(DataError, match=r"'tset'; did you mean 'test'"):
        digits().eval_batches("tset")
