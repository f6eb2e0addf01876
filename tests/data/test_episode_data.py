"""Batches of episodes: from memory or read as they come, on any number of hosts and workers."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.episodes import ImageEpisodes
from vitjax.data.sources import ArraySplit, Source

EPISODES = {"ways": 3, "shots": 2, "queries": 4}


def glyphs(episodes: dict[str, Any] | None = None, **keywords) -> Any:
    section = {"source": "glyphs", "classes": 25, "drawings": 8, "image_size": 12, "batch_size": 6}
    return vitjax.data.create(**{**section, **keywords}, episodes={**EPISODES, **(episodes or {})})


def take(data, count: int, split: str | None = None, **keywords) -> list[dict[str, Any]]:
    batches = data.eval_batches(split, **keywords) if split else data.train_batches(**keywords)
    with batches:
        return list(itertools.islice(batches, count))


def shown(data, batch) -> dict[str, Any]:
    """The batch as an objective sees it."""
    return jax.tree.map(np.asarray, data.look_up(data.store, batch))


def same(left, right) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def joined(parts):
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


# ----------------------------------------------------------------------------------------- batches


def test_batches_have_the_promised_shapes():
    data = glyphs()
    batch = take(data, 1)[0]
    assert batch["mask"].shape == (6,)
    assert set(batch["support"]) == {"index", "target", "class", "mask"}
    images = shown(data, batch)
    assert images["support"]["input"].shape == (6, 6, 12, 12, 1)
    assert images["query"]["input"].shape == (6, 12, 12, 12, 1)
    assert images["query"]["input"].dtype == np.uint8
    assert images["query"]["target"].max() == 2
    same(shown(data, images), images)


def test_the_example_batch_is_like_what_is_fed():
    for keywords in ({}, {"train_transforms": "resize(10) | flip"}):
        data = glyphs({"train_ways": (2, 5), "train_queries": 1}, **keywords)
        for evaluated, batch in (
            (False, take(data, 1)[0]),
            (True, take(data, 1, "val")[0]),
        ):
            kinds = [
                jax.tree.map(lambda a: (a.shape[1:], a.dtype), made)
                for made in (data.example_batch(evaluated), shown(data, batch))
            ]
            assert kinds[0] == kinds[1]


def test_looking_up_is_pure_jax():
    data = glyphs()
    store = jax.device_put(data.store)
    batch = take(data, 1)[0]
    same(jax.tree.map(np.asarray, jax.jit(vitjax.data.look_up)(store, batch)), shown(data, batch))


def images_of_episode(part, episode: int, label: int) -> np.ndarray:
    return part["input"][episode][part["target"][episode] == label]


def test_the_images_are_those_of_the_class_that_the_batch_names():
    data = glyphs({"rotations": "classes"})
    source = vitjax.data.sources.SOURCES.create(
        "glyphs", classes=25, drawings=8, image_size=12
    ).split("train")
    samples = map(source.read, range(len(source)))
    known = {sample.image.tobytes(): sample.label for sample in samples}
    classes = data.classes("train")
    assert len(classes) == data.num_train_classes == 4 * 16
    for batch in take(data, 3):
        batch = shown(data, batch)
        for name in ("support", "query"):
            part = batch[name]
            for place in np.ndindex(part["class"].shape):
                number = part["class"][place]
                upright = np.rot90(part["input"][place], -(number // 16))
                assert known[np.ascontiguousarray(upright).tobytes()] == number % 16
    assert classes[3] == "glyph 003"
    assert classes[16 + 3] == "glyph 003, turned by 90°"


def test_new_classes_are_the_old_ones_turned():
    data = glyphs({"rotations": "classes"})
    images = data.store["image"]
    upright = images[: len(images) // 4]
    assert len(upright) == 25 * 8
    for turn in range(4):
        turned = images[turn * len(upright) : (turn + 1) * len(upright)]
        np.testing.assert_array_equal(turned[7], np.rot90(upright[7], turn))
        np.testing.assert_array_equal(turned, np.rot90(upright, turn, axes=(1, 2)))


@pytest.mark.parametrize(
    ("rotations", "workers"), [(None, 0), ("classes", 0), ("per_class", 0), ("per_class", 2)]
)
def test_streamed_images_are_those_in_memory(rotations, workers):
    episodes = {"rotations": rotations, "train_ways": (2, 4), "val_episodes": 8}
    kept = glyphs(episodes)
    streamed = glyphs({**episodes, "in_memory": False}, workers=workers)
    assert streamed.store is None
    for split in (None, "val"):
        with_images = [shown(kept, batch) for batch in take(kept, 2, split)]
        same(take(streamed, 2, split), with_images)
    assert with_images[1]["mask"].tolist() == [True, True, False, False, False, False]


def test_random_transforms_are_seeded_by_the_place_in_the_run():
    augment = {"train_transforms": "pad_and_crop(12, 3) | flip | random_affine(20)"}
    data = glyphs(**augment)
    assert data.store is None
    whole = take(data, 5)
    same(take(glyphs(**augment, workers=1), 3, start=2), whole[2:])
    hosts = [take(data, 5, process_index=i, process_count=3) for i in range(3)]
    same([joined(parts) for parts in zip(*hosts, strict=True)], whole)
    other = take(glyphs(**augment, seed=1), 1)[0]
    assert (other["support"]["class"] != whole[0]["support"]["class"]).any()
    # The same drawing comes out differently where it comes again.
    plain = take(glyphs({"in_memory": False}), 5)
    same([b["query"]["class"] for b in plain], [b["query"]["class"] for b in whole])
    originals = np.concatenate([b["query"]["input"].reshape(-1, 144) for b in plain])
    augmented = np.concatenate([b["query"]["input"].reshape(-1, 144) for b in whole])
    assert len(np.unique(augmented, axis=0)) > 1.5 * len(np.unique(originals, axis=0))


@pytest.fixture(scope="module")
def uninterrupted():
    return take(glyphs(), 40)


@settings(max_examples=20)
@given(start=st.integers(0, 39), hosts=st.sampled_from([1, 2, 3, 6]))
def test_the_same_episodes_after_a_stop_and_on_any_number_of_hosts(uninterrupted, start, hosts):
    shares = [
        take(glyphs(), 40 - start, start=start, process_index=i, process_count=hosts)
        for i in range(hosts)
    ]
    same([joined(parts) for parts in zip(*shares, strict=True)], uninterrupted[start:])


@settings(max_examples=20)
@given(size=st.integers(1, 30), seed=st.integers(0, 5), hosts=st.sampled_from([1, 2]))
def test_evaluation_is_fixed_by_its_own_seed_alone(size, seed, hosts):
    episodes = {"val_episodes": 23}
    reference = joined(take(glyphs(episodes, eval_batch_size=23), 2, "val"))
    data = glyphs(episodes, seed=seed, eval_batch_size=size * hosts, batch_size=seed + 1)
    shares = [list(data.eval_batches("val", i, hosts)) for i in range(hosts)]
    batches = [joined(parts) for parts in zip(*shares, strict=True)]
    assert len({jax.tree.map(np.shape, b["mask"]) for b in batches}) == 1
    everything = joined(batches)
    kept = jax.tree.map(lambda array: array[everything["mask"]], everything)
    same(kept, reference)


def test_another_eval_seed_has_other_episodes():
    one, two = (
        joined(take(glyphs({"eval_seed": seed}), 9, "val"))["query"]["index"] for seed in (0, 1)
    )
    assert (one != two).mean() > 0.9
    test = joined(take(glyphs(), 9, "test"))["support"]["class"]
    assert (joined(take(glyphs(), 9, "val"))["support"]["class"] != test).any()


def test_splits_may_have_other_sizes_and_training_its_own():
    data = glyphs(
        {"train_ways": (3, 6), "train_shots": 1, "train_queries": 2, "test_episodes": 7, "ways": 4}
    )
    assert data.num_classes == 6
    assert data.protocol("val") == {"ways": 4, "shots": 2, "queries": 4, "episodes": 100}
    assert data.protocol("test")["episodes"] == data.num_examples("test") == 7
    assert data.protocol("train")["ways"] == [3, 6]
    assert data.num_examples("train") > 10**9
    assert take(data, 1)[0]["query"]["index"].shape == (6, 12)
    assert take(data, 1, "test")[0]["query"]["index"].shape == (6, 16)
    assert len(data.eval_batches("test")) == 2
    # On its own classes a network is judged as it was trained.
    assert take(data, 1, "train")[0]["query"]["index"].shape == (6, 12)


def test_facts_about_the_data():
    data = glyphs(mean=0.5, std=0.25)
    assert data.splits == ("train", "val", "test")
    assert data.target == "class"
    assert data.episodic
    assert data.steps_per_epoch is None
    assert data.image_shape == (12, 12, 1)
    assert len(data.class_names) == 25
    assert data.num_classes == 3
    assert data.counts() == {
        "train": {"classes": 16, "images": 128, "fewest": 8},
        "val": {"classes": 4, "images": 32, "fewest": 8},
        "test": {"classes": 5, "images": 40, "fewest": 8},
    }
    assert np.bincount(data.labels("val"), minlength=20).tolist() == [0] * 16 + [8] * 4
    assert data.classes("val") == tuple(f"glyph {c:03d}" for c in range(16, 20))
    np.testing.assert_array_equal(data.example("val", 3), data.store["image"][128 + 3])
    np.testing.assert_allclose(data.normalize(np.full((1, 1), 255, np.uint8)), 2.0)


def test_a_run_recalls_its_data_without_the_images():
    data = glyphs({"train_ways": 4, "rotations": "per_class"}, eval_transforms="resize(20)")
    section = {"batch_size": 6, "eval_transforms": "resize(20)", "source": "folder", "path": "gone"}
    blank = vitjax.data.recall(
        data.describe(), **section, episodes={**EPISODES, "train_ways": 4, "rotations": "per_class"}
    )
    for fact in ("splits", "class_names", "num_classes", "num_train_classes", "image_shape"):
        assert getattr(blank, fact) == getattr(data, fact)
    assert blank.counts() == data.counts()
    assert blank.classes("test") == data.classes("test")
    same(blank.example_batch(), data.example_batch())


# ----------------------------------------------------------------------------------- class splits


def numbered(sizes: dict[str, list[int]]) -> Source:
    """Splits of classes with so many images each; pixels say class and number."""
    splits, first = {}, 0
    for name, counts in sizes.items():
        labels = np.repeat(np.arange(first, first + len(counts)), counts).astype(np.int32)
        pixels = np.stack([labels, np.arange(len(labels))], axis=-1).astype(np.float32)
        splits[name] = ArraySplit(pixels[:, None, None], labels, f"numbered {name}")
        first += len(counts)
    return Source(splits, tuple(f"c{number}" for number in range(first)))


def test_a_class_split_pools_all_splits_and_parts_the_classes_anew():
    split = {"train": ["c5", "c0", "c3"], "test": ["c1", "c4"]}  # c2 is left out
    source = numbered({"train": [5] * 4, "test": [5] * 2})
    data = ImageEpisodes(
        source,
        episodes={**EPISODES, "ways": 2, "queries": 3, "class_split": split},
        batch_size=50,
    )
    assert data.classes("train") == ("c0", "c3", "c5")
    assert data.num_train_classes == 3
    for name, kept in (("train", {0, 3, 5}), ("test", {1, 4})):
        batch = shown(data, take(data, 1, name)[0])
        assert set(batch["query"]["input"][..., 0].ravel().astype(int)) == kept
        assert len(batch["support"]["input"].reshape(-1, 2)) == 50 * 4
        numbers = batch["query"]["input"][..., 0].reshape(batch["query"]["class"].shape)
        assert np.array([sorted(kept)[c] for c in batch["query"]["class"].ravel()]).tolist() == (
            numbers.ravel().tolist()
        )


def test_splits_that_share_classes_need_a_class_split():
    images = np.zeros((20, 4, 4, 1), np.uint8)
    split = ArraySplit(images, np.arange(20, dtype=np.int32) % 4, "x")
    source = Source({"train": split, "val": split}, ("ant", "bee", "cat", "dog"))
    with pytest.raises(DataError, match=r"'train' and 'val' share 4 classes \('ant', .*class_spl"):
        ImageEpisodes(source, episodes=EPISODES, batch_size=1)


def test_the_split_has_nothing_to_do_with_the_seed():
    split = {"train": [f"glyph {c:03d}" for c in range(4)], "val": ["glyph 010", "glyph 020"]}
    for seed in (0, 1):
        data = glyphs({"class_split": split, "ways": 2}, seed=seed)
        assert data.splits == ("train", "val")
        assert data.classes("val") == ("glyph 010", "glyph 020")


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ({"ways": 1}, r"episodes.ways is 1; it must be in \[2, 1000000\]"),
        ({"shots": 0}, r"episodes.shots is 0; it must be in \[1, 1000000\]"),
        ({"queries": 0}, r"episodes.queries is 0"),
        ({"train_queries": 0}, r"episodes.train_queries is 0"),
        ({"train_ways": (4, 2)}, r"episodes.train_ways is \(4, 2\); it must be in ascending order"),
        ({"shots": (0, 2)}, r"episodes.shots\[0\] is 0"),
        ({"shots": (1, 2, 3)}, r"episodes.shots is \(1, 2, 3\)"),
        (
            {"shots": 1.5},
            r"episodes.shots is 1.5; it must be an integer in \[1, 1000000\] or a list",
        ),
        ({"val_episodes": 0}, r"episodes.val_episodes is 0"),
        ({"eval_seed": -1}, r"episodes.eval_seed is -1"),
        ({"wyas": 3}, r"'wyas'; did you mean 'ways'"),
        ({"rotations": "per-class"}, r"rotations is 'per-class'; .*did you mean 'per_class'"),
        ({"in_memory": "yes"}, r"in_memory is 'yes'"),
        ({"ways": 6}, r"episodes.ways is 6, but split 'val' has 4 classes"),
        ({"ways": (2, 6)}, r"episodes.ways is \(2, 6\), but split 'val' has 4 classes"),
        ({"train_ways": 17}, r"episodes.train_ways is 17, but split 'train' has 16 classes"),
        (
            {"shots": 5},
            r"episodes.shots = 5 and config.data.episodes.queries = 4 take 9 images per class, but"
            r" 16 of 16 classes of split 'train' have fewer: glyph 000 \(8\), .* 11 more; no class"
            r" has fewer than 8",
        ),
        ({"train_shots": (1, 6)}, r"episodes.train_shots = \(1, 6\) and .* take 10 images"),
    ],
)
def test_errors_name_the_key_and_the_numbers(episodes, message):
    with pytest.raises(ConfigError, match=message):
        glyphs(episodes)


def test_rotations_make_classes_enough():
    assert glyphs({"ways": 16, "rotations": "classes"}).num_classes == 16
    with pytest.raises(ConfigError, match="ways is 16, but split 'val' has 4 classes"):
        glyphs({"ways": 16, "rotations": "per_class"})


def test_errors_outside_the_section():
    with pytest.raises(ConfigError, match=r"'episode'; did you mean 'episodes'"):
        vitjax.data.create(source="glyphs", batch_size=1, episode={})
    with pytest.raises(ConfigError, match=r"config.data.episodes is 3; it must be a section"):
        vitjax.data.create(source="glyphs", batch_size=1, episodes=3)
    with pytest.raises(ConfigError, match=r"cannot be turned by 90 degrees.*resize\(\(12, 12\)\)"):
        glyphs({"rotations": "classes"}, eval_transforms="resize((8, 12))")
    with pytest.raises(
        ConfigError, match=r"batch_size is 6; it must be divisible by .* 4, such as 8"
    ):
        glyphs().train_batches(process_count=4)
    with pytest.raises(DataError, match=r"'tset'; did you mean 'test'"):
        glyphs().eval_batches("tset")
    assert type(vitjax.data.create(source="digits", batch_size=1, episodes=None)).__name__ == "Data"


# ------------------------------------------------------------------------------------------ memory


def test_what_is_kept_in_memory(monkeypatch):
    assert glyphs(eval_transforms="resize(9) | center_crop(8)").store["image"].shape[1] == 8
    assert glyphs(train_transforms="resize(12)", eval_transforms="resize(12)").store is not None
    assert glyphs(train_transforms="resize(10)").store is None  # not what is evaluated
    assert glyphs(train_transforms="flip", eval_transforms="").store is None
    with pytest.raises(ConfigError, match="in_memory is True, but the transforms are random"):
        glyphs({"in_memory": True}, train_transforms="flip")
    with pytest.raises(ConfigError, match="in_memory is True, but train_transforms and eval"):
        glyphs({"in_memory": True}, train_transforms="resize(10)")
    monkeypatch.setattr("vitjax.data.episodes.images.MOST_KEPT", 12 * 12 * 25 * 8)
    assert glyphs().store is None
    assert glyphs({"in_memory": True}).store is not None
    monkeypatch.setattr("vitjax.data.episodes.images.MOST_KEPT", 12 * 12 * 25 * 8 + 1)
    assert glyphs().store is not None
    assert glyphs({"rotations": "classes"}).store is None  # four times as large


# ------------------------------------------------------------------------------ folders and files


@pytest.fixture
def folder(tmp_path, write_image):
    """Two classes to train on, two to validate on, four images each, one of them cut short."""
    for split, names in (("train", "ab"), ("val", "cd")):
        for name in names:
            for number in range(4):
                grey = 10 + 40 * "abcd".index(name) + number
                write_image(tmp_path / split / name / f"{number}.png", grey)
    damaged = tmp_path / "train" / "b" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    return tmp_path


def from_folder(path, in_memory, **keywords):
    episodes = {"ways": 2, "shots": 1, "queries": 2, "val_episodes": 5, "in_memory": in_memory}
    section = {"source": "folder", "path": str(path), "classes": "all", "batch_size": 8}
    return vitjax.data.create(**section, **keywords, episodes=episodes)


def test_a_corrupt_image_is_an_error_that_names_its_file(folder):
    message = r"train/b/2.png: cannot be decoded: .*on_corrupt"
    with pytest.raises(DataError, match=message):
        from_folder(folder, True)
    for workers in (0, 1):
        data = from_folder(folder, False, workers=workers)
        with pytest.raises(DataError, match=message):
            take(data, 1)
    assert len(list(data.eval_batches("val"))) == 1


def test_a_corrupt_image_that_is_skipped_is_masked(folder, caplog):
    made = []
    for in_memory in (True, False):
        with caplog.at_level(logging.WARNING):
            data = from_folder(folder, in_memory, on_corrupt="skip")
            batches = [shown(data, batch) for batch in take(data, 4)]
        assert [name[-13:] for name in data.skipped] == ["train/b/2.png"]
        made.append(batches)
    same(*made)
    assert sum("skipped a corrupt image" in line for line in caplog.messages) == 2
    query = joined(made[0])["query"]
    masked = ~query["mask"]
    assert 0.05 < masked.mean() < 0.2  # it is one image of eight
    assert query["input"].min() >= 10  # an image of the episode is shown, not a black one


def test_mini_imagenet(test_data):
    section = {
        "source": "folder",
        "path": str(test_data / "miniimagenet"),
        "classes": "all",
        "batch_size": 2,
        "episodes": {"class_split": "miniimagenet_ravi", "shots": 5, "in_memory": False},
    }
    data = vitjax.data.create(**section, train_transforms="random_resized_crop(84) | flip")
    assert data.splits == ("train", "val")  # the 20 test classes are not there
    assert data.counts()["val"] == {"classes": 16, "images": 800, "fewest": 50}
    assert data.num_train_classes == 64
    batch = take(data, 1)[0]
    assert batch["support"]["input"].shape == (2, 25, 84, 84, 3)
    assert batch["query"]["input"].std() > 30
    assert take(data, 1, "val")[0]["query"]["mask"].all()


def test_omniglot(test_data):
    transforms = "grayscale | resize((28, 28), interpolation='area') | invert"
    data = vitjax.data.create(
        source="tfds",
        dataset="omniglot",
        data_dir=str(test_data / "tfds"),
        batch_size=8,
        eval_transforms=transforms,
        episodes={"ways": 20, "class_split": "omniglot_finn", "rotations": "per_class"},
    )
    assert {s: n["classes"] for s, n in data.counts().items()} == {
        "train": 1100,
        "val": 100,
        "test": 423,
    }
    assert data.num_train_classes == 4400
    assert data.store["image"].shape == (4 * 1623 * 20, 28, 28, 1)
    assert 0.07 < data.store["image"].mean() / 255 < 0.09  # strokes are 1, paper is 0
    assert data.store["image"].max() == 255
    batch = take(data, 1)[0]
    images = np.concatenate([shown(data, batch)[p]["input"] for p in ("support", "query")], axis=1)
    assert images.shape == (8, 20 * 16, 28, 28, 1)
    # Both parts of Omniglot are among the images of each split.
    source = vitjax.data.sources.SOURCES.create(
        "tfds", dataset="omniglot", data_dir=str(test_data / "tfds")
    )
    background = set(source.split("train").labels.tolist())
    for split in data.splits:
        present = set(data.labels(split).tolist())
        assert present & background
        assert present - background
    sample = data._pool.read(5)
    image, label = sample.image, sample.label
    assert label == data.labels("train")[5]
    assert image.shape == (105, 105, 3)
