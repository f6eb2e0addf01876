"""Batches of images and masks: weights, sizes, order, workers, resumption, blank data."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data import IGNORE, DataError, Sample, SegmentationData
from vitjax.data.sources.mask_classes import MaskSource
from vitjax.data.weight_maps import weight_map
from vitjax.losses.class_weights import inverse

AUGMENT = "elastic(3) | dihedral | crop(24) | brightness | noise"


def tissue(**keywords) -> SegmentationData:
    given = {"source": "cells", "size": 32, "train": 10, "val": 3, "test": 2, "batch_size": 4}
    return vitjax.data.create(**{**given, "train_transforms": AUGMENT, **keywords})


def take(data, count: int, **keywords) -> list[dict[str, np.ndarray]]:
    with data.train_batches(**keywords) as batches:
        return list(itertools.islice(batches, count))


def same(left, right) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


class Listed:
    """Samples in memory, of any sizes."""

    def __init__(self, *labels: np.ndarray):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Sample:
        label = self.labels[index]
        return Sample((label + 1).astype(np.uint8)[..., None], mask=label)

    def size(self, index: int) -> tuple[int, int]:
        return self.labels[index].shape

    def name(self, index: int) -> str:
        return f"listed[{index}]"


def listed(train: list, val: list, **keywords) -> SegmentationData:
    source = MaskSource({"train": Listed(*train), "val": Listed(*val)}, ("a", "b"))
    return SegmentationData(source, **{"batch_size": 2, **keywords})


@pytest.fixture(scope="module")
def uninterrupted() -> list[dict[str, np.ndarray]]:
    return take(tissue(weight_map={}), 8)


def test_batches_have_the_promised_shapes(uninterrupted):
    batch = uninterrupted[0]
    assert {key: (a.shape, a.dtype) for key, a in batch.items()} == {
        "image": ((4, 24, 24, 1), np.dtype(np.uint8)),
        "label": ((4, 24, 24), np.dtype(np.int32)),
        "weight": ((4, 24, 24), np.dtype(np.float32)),
        "mask": ((4,), np.dtype(bool)),
    }
    data = tissue(weight_map={})
    for made, blank in (
        (batch, data.example_batch()),
        (next(iter(data.eval_batches("val"))), data.example_batch(evaluated=True)),
    ):
        assert set(made) == set(blank)
        for key in made:
            assert made[key].shape[1:] == blank[key].shape[1:]
            assert made[key].dtype == blank[key].dtype


def test_going_on_workers_and_hosts_change_nothing(uninterrupted):
    same(take(tissue(weight_map={}), 5, start=3), uninterrupted[3:])
    same(take(tissue(weight_map={}, workers=1), 6, start=2), uninterrupted[2:])
    shares = [take(tissue(weight_map={}), 2, process_index=i, process_count=2) for i in range(2)]
    for number, parts in enumerate(zip(*shares, strict=True)):
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        same([joined], [uninterrupted[number]])


def test_the_seed_decides(uninterrupted):
    assert (take(tissue(weight_map={}, seed=1), 1)[0]["image"] != uninterrupted[0]["image"]).any()
    plain = take(tissue(), 1)[0]
    assert "weight" not in plain
    np.testing.assert_array_equal(plain["image"], uninterrupted[0]["image"])


def test_facts_about_the_data():
    data = tissue()
    assert data.splits == ("train", "val", "test")
    assert data.image_shape == (32, 32, 1)
    assert data.class_names == ("background", "cell")
    assert data.num_classes == 2
    assert data.steps_per_epoch == 2.5
    pixels = data.class_pixels("val")
    assert pixels.sum() == 3 * 32 * 32
    assert pixels[1] == sum((data.truth("val", i) == 1).sum() for i in range(3))
    assert data.example("val", 0).shape == (32, 32, 1)
    np.testing.assert_allclose(data.normalize(np.full((1, 1, 1, 1), 255, np.uint8)).ravel(), [1])


def test_evaluation_fills_up_with_pixels_that_count_nowhere():
    labels = [np.full(size, 1, np.int32) for size in ((4, 6), (5, 3), (2, 2))]
    data = listed(labels[:1], labels, eval_batch_size=2)
    assert data.image_shape == (5, 6, 1)
    first, last = data.eval_batches("val")
    assert first["mask"].tolist() == [True, True]
    assert last["mask"].tolist() == [True, False]
    for got, label in zip([*first["label"], last["label"][0]], labels, strict=True):
        height, width = label.shape
        np.testing.assert_array_equal(got[:height, :width], label)
        assert (got == IGNORE).sum() == got.size - label.size
    assert (first["image"] == 2).all()  # mirrored, not black
    assert (last["label"][1] == IGNORE).all()
    assert not last["image"][1].any()
    assert data.example("val", 1).shape == (5, 3, 1)
    np.testing.assert_array_equal(data.truth("val", 2), labels[2])
    resized = listed(labels[:1], labels, eval_transforms="resize((8, 9)) | pad_to_multiple(4)")
    assert resized.image_shape == (8, 12, 1)


def test_training_images_of_several_sizes_want_a_crop():
    labels = [np.zeros((4, 6), np.int32), np.zeros((5, 5), np.int32)]
    with (
        listed(labels, labels).train_batches() as batches,
        pytest.raises(DataError, match=r"listed\[1\]: .*\(5, 5, 1\).* crop\(4\)"),
    ):
        next(batches)
    batch = take(listed(labels, labels, train_transforms="crop(8)"), 1)[0]
    assert batch["image"].shape == (2, 8, 8, 1)


def test_a_corrupt_image_is_an_error_or_is_left_out(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(4):
            grey = np.full((8, 8), 255 * (i % 2), np.uint8)
            Image.fromarray(grey).save(tmp_path / name / f"{i}.png")
    bad = tmp_path / "images" / "0.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    section = {"source": "masks", "path": str(tmp_path), "val_last": 1, "batch_size": 3}
    with pytest.raises(DataError, match=r"0.png: cannot be decoded.*on_corrupt"):
        vitjax.data.create(**section)
    data = vitjax.data.create(**section, on_corrupt="skip", weight_map={})
    batch = take(data, 1)[0]
    assert batch["mask"].sum() == 2
    assert (batch["label"][~batch["mask"]] == IGNORE).all()
    assert not batch["weight"][~batch["mask"]].any()
    assert list(data.skipped) == [str(bad)]


def test_a_run_is_recalled_without_its_files(tmp_path):
    section = {"source": "cells", "size": 40, "train": 3, "val": 2, "test": 1, "batch_size": 2}
    section |= {"train_transforms": "crop(16)", "weight_map": {"sigma": 3}}
    data = vitjax.data.create(**section)
    described = json.loads(json.dumps(data.describe()))
    again = vitjax.data.recall(described, **section)
    assert again.image_shape == data.image_shape
    assert again.class_names == data.class_names
    assert [again.num_examples(s) for s in again.splits] == [3, 2, 1]
    for evaluated in (False, True):
        old, new = data.example_batch(evaluated), again.example_batch(evaluated)
        assert {k: (a.shape, a.dtype) for k, a in old.items()} == {
            k: (a.shape, a.dtype) for k, a in new.items()
        }
    Image.fromarray(np.full((21, 33, 3), 7, np.uint8)).save(tmp_path / "new.png")
    image = again.read_image(tmp_path / "new.png")
    assert image.shape == (21, 33, 1)
    assert (image == 7).all()
    with pytest.raises(DataError, match=r"gone.png: cannot be read: No such file"):
        again.read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"weight_map": {"w": 3}}, r"config.data.weight_map: .*'w'"),
        ({"weight_map": {"sigma": 0}}, r"weight_map.sigma is 0"),
        ({"weight_map": {"w0": -1}}, r"weight_map.w0 is -1"),
        ({"weight_map": {"foreground": 2}}, r"foreground is 2; .* 0 to 1 \(background, cell\)"),
        ({"weight_map": 3}, r"weight_map is 3"),
        ({"weight_mp": {}}, r"'weight_mp'; did you mean 'weight_map'"),
        (
            {"episodes": {"ways": 2}},
            r"config.data.episodes: the source 'cells' has the target 'mask'",
        ),
        ({"eval_transforms": "elastic"}, r"config.data.eval_transforms: .*elastic is random"),
        ({"train_transforms": "elastik"}, r"config.data.train_transforms: .*'elastic'"),
        ({"mean": (0.1, 0.2)}, r"mean is \(0.1, 0.2\).*1 channels"),
    ],
)
def test_errors_of_the_config_name_the_key(keywords, message):
    with pytest.raises(ConfigError, match=message):
        tissue(**keywords)


def brute_force(label, instances, w0, sigma, balance):
    """Equation 2 pixel by pixel: all distances to all pixels of all cells."""
    weight = np.zeros(label.shape)
    cells = [np.argwhere(instances == n) for n in range(1, instances.max() + 1)]
    for y, x in np.ndindex(*label.shape):
        if label[y, x] == IGNORE:
            continue
        weight[y, x] = balance[label[y, x]]
        if not instances[y, x]:
            distances = sorted(np.hypot(*(cell - (y, x)).T).min() for cell in cells if len(cell))
            if len(distances) > 1 and distances[1] <= 6 * sigma:
                weight[y, x] += w0 * np.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2))
    return weight


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_the_weight_map_is_equation_2(sigma):
    rng = np.random.default_rng(3)
    instances = np.zeros((26, 23), np.int32)
    for number in range(1, 7):
        top, left = rng.integers(0, 20, 2)
        instances[top : top + 4, left : left + 5] = number
    label = (instances > 0).astype(np.int32)
    label[0, :3] = IGNORE
    balance = np.array([2.5, 0.5], np.float32)
    made = weight_map(label, instances, w0=10, sigma=sigma, balance=balance)
    expected = brute_force(label, instances, 10, sigma, balance)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert made.dtype == np.float32


def test_cells_are_connected_parts_where_nobody_numbered_them():
    label = np.ones((9, 9), np.int32)
    np.fill_diagonal(label, 0)  # a membrane one pixel wide, aslant
    numbers = np.triu(np.full((9, 9), 1), 1) + np.tril(np.full((9, 9), 2), -1)
    np.testing.assert_array_equal(weight_map(label), weight_map(label, numbers))
    assert np.diag(weight_map(label)).min() > 9
    alone = np.zeros((9, 9), np.int32)
    alone[3:5, 3:5] = 1
    assert len(np.unique(weight_map(alone))) == 2  # no border with one cell: w_c alone


def test_classes_weigh_the_same_in_all():
    counts = np.array([100, 0, 300])
    weights = inverse(counts)
    np.testing.assert_allclose(weights * counts, [200, 0, 200])
    data = tissue(train_transforms="", weight_map={"w0": 0.0})
    weights = inverse(data.class_pixels("train"))
    batch = take(data, 1)[0]
    np.testing.assert_allclose(batch["weight"], weights[batch["label"]])
    plain = take(tissue(train_transforms="", weight_map={"w0": 0.0, "balance": False}), 1)[0]
    assert (plain["weight"] == 1).all()


def test_weights_are_carried_through_the_geometry():
    batch = take(tissue(train_transforms="dihedral", weight_map={"sigma": 3.0}), 1)[0]
    plain = take(tissue(train_transforms="", weight_map={"sigma": 3.0}), 1)[0]
    for turned, straight in zip(batch["weight"], plain["weight"], strict=True):
        np.testing.assert_allclose(np.sort(turned.ravel()), np.sort(straight.ravel()))
    assert (batch["weight"] != plain["weight"]).any()
    assert batch["weight"][batch["label"] == 1].std() < 1e-6


def test_weight_maps_are_kept_in_a_folder(tmp_path, monkeypatch):
    section = {"sigma": 2.0, "cache_dir": str(tmp_path / "maps")}
    first = take(tissue(weight_map=section), 3)
    # Threads that read ahead may still be writing, under names that do not end so.
    files = sorted((tmp_path / "maps").glob("*.npy"))
    assert len(files) == 10
    files[0].write_bytes(files[0].read_bytes()[:50])  # cut short: computed again
    same(take(tissue(weight_map=section), 3), first)
    monkeypatch.setattr("vitjax.data.weight_maps.weight_map", None)
    same(take(tissue(weight_map=section), 3), first)
