"""Segmentation sets of TensorFlow Datasets: one prepared as TFDS does it, and stand-ins."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax import config as configs
from vitjax.data import IGNORE, DataError
from vitjax.data.sources import SOURCES, tfds_masks


def encoded(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def colours(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    """A folder of TFDS with Oxford-IIIT Pet as its builder describes it, of made-up images."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    root = tmp_path_factory.mktemp("tfds")
    features = tfds.builder("oxford_iiit_pet", data_dir=root).info.features
    place = root / "oxford_iiit_pet" / "4.0.0"
    place.mkdir(parents=True)
    features.save_config(place)
    splits = []
    for split, count in (("train", 20), ("test", 3)):
        name = f"oxford_iiit_pet-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(place / name), "group_size:1")
        for index in range(count):
            size = (30 + index, 40)
            trimap = np.random.default_rng(index).integers(1, 4, size).astype(np.uint8)
            example = tf_example_pb2.Example()
            stored = example.features.feature
            stored["image"].bytes_list.value.append(encoded(colours(index, size), "JPEG"))
            stored["segmentation_mask"].bytes_list.value.append(encoded(trimap, "PNG"))
            stored["label"].int64_list.value.append(index)
            stored["species"].int64_list.value.append(index % 2)
            stored["file_name"].bytes_list.value.append(b"pet.jpg")
            stored["head_bbox"].float_list.value.extend([0.0] * 4)
            assert set(stored) == set(features)
            writer.write(example.SerializeToString())
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        splits.append(
            {"name": split, "shardLengths": [str(count)], "numBytes": "1"}
            | {"filepathTemplate": template}
        )
    info = {"name": "oxford_iiit_pet", "version": "4.0.0", "fileFormat": "array_record"}
    (place / "dataset_info.json").write_text(json.dumps({**info, "splits": splits}))
    return root


def test_a_set_prepared_as_tfds_describes_it(pets):
    config = configs.load("configs/segmentation/oxford_pet.py")
    section = {**config.data.to_dict(), "data_dir": str(pets), "batch_size": 4}
    data = vitjax.data.create(**section)
    assert data.class_names == ("pet", "background", "border")
    assert data.class_values == (1, 2, 3)
    counts = {split: data.num_examples(split) for split in data.splits}
    assert counts == {"train": 18, "val": 2, "test": 3}
    with data.train_batches() as batches:
        batch = next(batches)
    assert batch["image"].shape == (4, 256, 256, 3)
    assert set(np.unique(batch["label"])) == {0, 1, 2}
    assert data.source.split("test").size(2) == (32, 40)
    pair = data.source.split("test").read(2)
    trimap = np.random.default_rng(2).integers(1, 4, (32, 40))
    np.testing.assert_array_equal(pair.mask, trimap - 1)
    assert pair.image.shape == (32, 40, 3)
    assert "tensorflow" not in sys.modules


class FakeTfds:
    """Stands for a prepared data set: examples of a grey picture and a mask of values 1 to 3."""

    def __init__(self, count: int, name: str):
        self.count, self.title, self.origin = count, name, "train"

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.title}, example {index}"

    def features(self, index: int) -> dict:
        mask = np.full((6, 7 + index), 1 + index % 3, np.uint8)
        arrays = {"image": colours(index, mask.shape), "mask": mask[..., None]}
        found = {}
        for key, array in arrays.items():
            content = encoded(array.squeeze(), "PNG")
            found[key] = SimpleNamespace(bytes_list=SimpleNamespace(value=[content]))
        return {"image": found["image"], "segmentation_mask": found["mask"]}


@pytest.fixture
def prepared(monkeypatch):
    def prepare(name: str) -> None:
        features = {
            "image": SimpleNamespace(shape=(None, None, 3)),
            "segmentation_mask": SimpleNamespace(shape=(None, None, 1)),
            "label": SimpleNamespace(shape=()),
        }
        info = SimpleNamespace(name=name, features=features, splits=("train", "test"))
        monkeypatch.setattr(tfds_masks, "find_prepared", lambda *args: ("folder", info))
        monkeypatch.setattr(tfds_masks, "TfdsSplit", lambda *args: FakeTfds(6, name))

    return prepare


def test_a_prepared_tfds_set(prepared):
    prepared("oxford_iiit_pet")
    source = SOURCES.create("tfds_masks", dataset="oxford_iiit_pet")
    assert source.class_names == ("pet", "background", "border")
    assert source.channels == 3
    split = source.split("train")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 6}
    for index in range(6):
        pair = split.read(index)
        assert pair.image.shape == (6, 7 + index, 3)
        assert split.size(index) == (6, 7 + index)
        assert (pair.mask == index % 3).all()
    ignoring = SOURCES.create("tfds_masks", dataset="oxford_iiit_pet", ignore=3)
    assert ignoring.class_names == ("pet", "background")
    assert (ignoring.split("test").read(2).mask == IGNORE).all()


def test_classes_of_another_tfds_set_are_discovered(prepared):
    prepared("moons")
    assert SOURCES.create("tfds_masks", dataset="moons").class_names == ("1", "2", "3")
    with pytest.raises(DataError, match=r"no feature 'segmentation_msk' .*did you mean 'segm"):
        SOURCES.create("tfds_masks", dataset="moons", mask_key="segmentation_msk")
    with pytest.raises(DataError, match=r"'label' \(mask_key\) is .*, not an image"):
        SOURCES.create("tfds_masks", dataset="moons", mask_key="label")
    split = SOURCES.create("tfds_masks", dataset="moons", classes=(1, 2)).split("train")
    with pytest.raises(DataError, match=r"example 2, segmentation_mask: has the value 3"):
        split.read(2)
