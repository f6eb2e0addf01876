"""`preprocess.json` and timm's `config.json` beside an exported file.

`prepare` is written from the description in docs/weights.md with Pillow and NumPy alone, and knows
nothing of vitjax.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from reference_files import random_variables

from vitjax import data, models, weights
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.transforms import Transform, parse
from vitjax.tasks.exporting import resized
from vitjax.weights import WeightsError
from vitjax.weights.layouts import target, timm_config
from vitjax.weights.preprocessing import Preprocessing

# ------------------------------------------------------------------- an implementation of its own


def prepare(path, facts):
    """An image file as a model takes it, as `preprocess.json` says: (height, width, channels)."""
    for step in facts["steps"]:
        arguments = {key: value for key, value in step.items() if key not in ("name", "if")}
        if step["name"] == "read":
            image = read(path, arguments)
        elif step["name"] == "divide":
            image = image / step["by"] if image.dtype == np.uint8 else image
        elif step["name"] == "normalize":
            image = (image - np.array(step["mean"])) / np.array(step["std"])
        else:
            image = STEPS[step["name"]](image, **arguments)
    return image


def read(path, arguments):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16") and arguments["sixteen_bits"] == "divide by 65535":
        return (np.asarray(image) / 65535)[..., None].astype(np.float32)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "RGBA":
        image = Image.alpha_composite(
            Image.new("RGBA", image.size, arguments["transparent"]), image
        )
    array = np.asarray(image.convert(arguments["mode"]))
    return array if array.ndim == 3 else array[..., None]


def resize(image, size, interpolation):
    height, width = image.shape[:2]
    if isinstance(size, int):
        long = int(size * max(height, width) / min(height, width))
        size = (size, long) if height <= width else (long, size)
    grows = any(new > old for old, new in zip(image.shape, size, strict=False))
    if interpolation == "area" and grows:
        interpolation = "bilinear"
    if interpolation == "area":  # the mean of the pixels covered, weighted where in part
        rows, columns = (covering(*pair) for pair in zip(image.shape[:2], size, strict=True))
        mean = np.einsum("ih,jw,hwc->ijc", rows, columns, image.astype(np.float64))
        return np.round(mean).astype(image.dtype) if image.dtype == np.uint8 else mean
    how = getattr(Image.Resampling, interpolation.upper())
    planes = [
        Image.fromarray(np.ascontiguousarray(x)).resize(size[::-1], how)
        for x in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def covering(old, new):
    edges = np.arange(new + 1) * old / new
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    parts = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return parts / parts.sum(axis=1, keepdims=True)


def center_crop(image, size):
    """The middle; black around an image that is smaller."""
    size = (size, size) if isinstance(size, int) else size
    for axis, (have, want) in enumerate(zip(image.shape[:2], size, strict=True)):
        if have >= want:
            start = round((have - want) / 2)
            image = np.take(image, np.arange(start, start + want), axis)
        else:
            before = (want - have) // 2
            pads = [(0, 0)] * 3
            pads[axis] = (before, want - have - before)
            image = np.pad(image, pads)
    return image


def pad_to_multiple(image, multiple):
    pads = [(0, -side % multiple) for side in image.shape[:2]]
    return np.pad(image, [*pads, (0, 0)], mode="reflect")


STEPS = {
    "resize": resize,
    "center_crop": center_crop,
    "pad_to_multiple": pad_to_multiple,
    "invert": lambda image: 255 - image if image.dtype == np.uint8 else 1 - image,
    "gray_to_rgb": lambda image: np.repeat(image, 3, -1) if image.shape[-1] == 1 else image,
    "grayscale": lambda image: image,  # files are read with the model's channels
}

# ------------------------------------------------------------------------------------------ images


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of images of many kinds, in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)

    def image(mode, height, width):
        shape = (height, width, {"RGB": 3, "RGBA": 4}.get(mode, 1))
        coarse = rng.integers(0, 256, (5, 5, shape[-1])).astype(np.uint8)
        planes = [Image.fromarray(x).resize((width, height)) for x in np.moveaxis(coarse, -1, 0)]
        return Image.merge(mode, planes) if len(planes) > 1 else planes[0]

    for name in ("cat", "dög"):
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    image("RGB", 40, 52).save(folder / "test/cat/turned.jpg", exif=exif, quality=95)
    image("RGBA", 33, 47).save(folder / "test/cat/clear.png")
    image("L", 30, 41).save(folder / "test/dög/grey.png")
    image("RGB", 20, 64).save(folder / "test/dög/thin.png")
    sixteen = np.asarray(image("L", 37, 37)).astype(np.uint16) * 257 + 3
    Image.fromarray(sixteen).save(folder / "test/dög/sixteen.png")
    for name in ("cat", "dög"):
        image("RGB", 40, 52).save(folder / "train" / name / "first.png")
    return folder


@pytest.mark.parametrize(
    ("transforms", "normal"),
    [
        ("resize(32) | center_crop(28)", {"mean": (0.485, 0.456, 0.406), "std": (0.2, 0.3, 0.4)}),
        ("resize((24, 30), 'bilinear')", {"mean": 0.5, "std": 0.5}),
        ("resize((20, 18), 'area')", {}),
        ("center_crop((30, 50)) | resize((16, 16), 'lanczos')", {"std": 0.25}),
        ("resize(26, 'nearest') | center_crop((26, 26))", {"mean": 0.1}),
        ("grayscale | resize((28, 28), interpolation='area') | invert", {}),
    ],
)
def test_what_it_says_prepares_images_as_the_run_does(photos, transforms, normal):
    source = data.create(
        source="folder", path=str(photos), batch_size=1, eval_transforms=transforms, **normal
    )
    facts = json.loads(json.dumps(Preprocessing.of(source.preparation, ("a", "b")).as_json()))
    assert (facts["height"], facts["width"], facts["channels"]) == source.image_shape
    files = sorted((photos / "test").glob("*/*.*"))
    assert len(files) == 5
    for path in files:
        expected = np.asarray(source.normalize(source.read_image(path)))
        found = prepare(path, facts)
        # A byte more or less where libraries round in another way.
        np.testing.assert_allclose(found, expected, atol=1.01 / 255 / min(facts["std"]))
        assert np.abs(found - expected).mean() < 0.05 / 255 / min(facts["std"])


def test_that_of_masks(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(2):
            grey = rng.integers(0, 65536, (18, 21)).astype(np.uint16)
            Image.fromarray(grey).save(tmp_path / split / "images" / f"{number}.png")
            mask = Image.fromarray((grey > 30000).astype(np.uint8))
            mask.save(tmp_path / split / "masks" / f"{number}.png")
    source = data.create(
        source="masks", path=str(tmp_path), batch_size=1, mean=0.5, std=0.2,
        eval_transforms="pad_to_multiple(8)",
    )  # fmt: skip
    facts = Preprocessing.of(source.preparation, source.class_names).as_json()
    assert (facts["height"], facts["resize"]) == (None, None)
    path = tmp_path / "val" / "images" / "0.png"
    expected = np.asarray(source.normalize(source.read_image(path)))
    np.testing.assert_allclose(prepare(path, facts), expected, atol=1e-5)


def test_a_transform_of_ones_own_is_named_with_its_arguments():
    @dataclasses.dataclass(frozen=True)
    class Bright(Transform):
        by: Any

        def __call__(self, sample, rng):
            return sample

    steps = (Bright((1, np.float32(2))), Bright(None))
    preparation = preparation_of(8)
    pipeline = dataclasses.replace(preparation.pipeline, steps=steps)
    images = Preprocessing.of(dataclasses.replace(preparation, pipeline=pipeline), None)
    found = json.loads(json.dumps(images.as_json()))["steps"][1:3]
    assert found[0] == {"name": "Bright", "by": [1, repr(np.float32(2))]}
    assert found[1] == {"name": "Bright", "by": None}


# ------------------------------------------------------------------------------------- other sizes


@pytest.mark.parametrize(
    ("transforms", "size", "expected"),
    [
        ("resize(256) | center_crop(224)", (256, 256), [293, 256]),
        ("resize((28, 28), 'area') | invert", (56, 42), [[56, 42]]),
        ("resize(36) | center_crop((32, 24))", (64, 24), [72, [64, 24]]),
    ],
)
def test_sizes_follow_the_size_of_the_exported_model(transforms, size, expected):
    pipeline = parse(transforms)
    shape = (*pipeline.sized(None), 3)
    normalization = Normalization.of(None, None, 3)
    images = Preprocessing.of(Preparation(pipeline, normalization, shape, 3), None)
    assert images.at(shape[:2]) == images
    facts = images.at(size).as_json()
    assert (facts["height"], facts["width"]) == size
    assert [step["size"] for step in facts["steps"] if "size" in step] == expected


def test_positions_are_resized_for_another_size():
    module = models.ViT(width=8, depth=1, num_heads=2, patch_size=4, num_classes=3)
    variables, said = random_variables(module, (8, 8, 3)), []
    found = resized(variables, module, (12, 16, 3), said.append)
    assert found["params"]["position_embedding"].shape == (1, 3, 4, 8)
    assert "resized from 2 x 2 to 3 x 4 patches" in said[0]
    kernel = variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(found["params"]["head"]["kernel"], kernel)
    conv4 = models.Conv4(filters=4)
    with pytest.raises(WeightsError, match="made for images of another size; its params/head"):
        resized(random_variables(conv4, (32, 32, 3)), conv4, (64, 64, 3), pytest.fail)


# ---------------------------------------------------------------------------- one folder per model


def preparation_of(side, mean=0.5):
    pipeline, normal = parse(f"resize({side, side})"), Normalization.of(mean, None, 3)
    return Preparation(pipeline, normal, (side, side, 3), 3)


def preprocessing_of(mean=0.5):
    return Preprocessing.of(preparation_of(8, mean), ("a", "b", "c"))


@pytest.fixture(scope="module")
def network():
    module = models.ViT(width=8, depth=1, num_heads=2, patch_size=4, num_classes=3)
    return random_variables(module, (8, 8, 3)), module


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_several_files_of_one_model_share_it(network, tmp_path):
    for format, name in (
        ("timm", "model.safetensors"),
        ("torchvision", "other.pth"),
        ("safetensors", "own.safetensors"),
        ("timm", "model.safetensors"),
    ):
        weights.save(*network, tmp_path / name, format, preprocessing=preprocessing_of(), say=str)
    found = json.loads((tmp_path / "preprocess.json").read_text())
    assert found["class_names"] == ["a", "b", "c"]
    formats = {name: each["format"] for name, each in found["files"].items()}
    assert formats == {
        "model.safetensors": "timm", "other.pth": "torchvision", "own.safetensors": "safetensors",
    }  # fmt: skip
    layouts = {each["format"]: each["input"]["layout"] for each in found["files"].values()}
    assert layouts == {"timm": "NCHW", "torchvision": "NCHW", "safetensors": "NHWC"}
    assert found["files"]["other.pth"]["input"]["shape"] == ["batch", 3, 8, 8]
    assert found["files"]["own.safetensors"]["output"]["shape"] == ["batch", 3]
    assert "torchvision.models.VisionTransformer(" in found["files"]["other.pth"]["made_by"]


@pytest.mark.parametrize(
    ("name", "content", "format", "mean", "words"),
    [
        ("preprocess.json", "{}", "torchvision", 0.5, "is not a file that vitjax wrote"),
        ("preprocess.json", "[1", "safetensors", 0.5, "is not a file that vitjax wrote"),
        ("config.json", '{"model": {}}', "timm", 0.5, "is another file than timm's"),
        (None, None, "torchvision", 0.4, "describes the preprocessing of first.safetensors"),
        (None, None, "timm", 0.5, "config.json is that of first.safetensors"),
    ],
)
def test_files_of_another_model_are_not_replaced(
    network, tmp_path, name, content, format, mean, words
):
    if name is None:
        path = tmp_path / "first.safetensors"
        weights.save(*network, path, "timm", preprocessing=preprocessing_of(), say=str)
    else:
        (tmp_path / name).write_text(content)
    before = contents(tmp_path)
    with pytest.raises(WeightsError, match=f"{words}.*folder of its own: --output=.*second/second"):
        weights.save(
            *network, tmp_path / "second.bin", format, preprocessing=preprocessing_of(mean), say=str
        )
    assert contents(tmp_path) == before


# ------------------------------------------------------------------------------ timm's config.json


@pytest.mark.parametrize(
    ("transforms", "shape", "rule"),
    [
        ("resize(256) | center_crop(224)", (224, 224), ("bicubic", "center")),
        ("resize(35, 'bilinear') | center_crop(32)", (32, 32), ("bilinear", "center")),
        ("resize((24, 32), 'lanczos')", (24, 32), ("lanczos", "squash")),
        ("resize((24, 32)) | center_crop((24, 32))", (24, 32), ("bicubic", "squash")),
        ("", (28, 28), ("bicubic", "squash")),
        ("gray_to_rgb | resize((8, 8))", (8, 8), ("bicubic", "squash")),
        ("resize((28, 28), 'area')", (28, 28), None),
        ("resize((28, 28)) | invert", (28, 28), None),
        ("resize(32) | center_crop((28, 24))", (28, 24), None),
        ("center_crop(28)", (28, 28), None),
    ],
)
def test_the_rule_of_timm_is_that_of_the_run_or_a_remark(transforms, shape, rule):
    normalization = Normalization.of(0.5, 0.25, 3)
    preparation = Preparation(parse(transforms), normalization, (*shape, 3), 3)
    images = Preprocessing.of(preparation, ("a", "b"))
    made = target.Construction("timm.create_model", ("vit",), {"num_classes": 2})
    config, remarks = timm_config.config(made, models.ViT(num_classes=2), images)
    found = config["pretrained_cfg"]
    assert bool(remarks) == (rule is None)
    assert config["label_names"] == ["a", "b"]
    assert (found["mean"], found["input_size"]) == ([0.5] * 3, [3, *shape])
    if rule is not None:
        assert (found["interpolation"], found["crop_mode"]) == rule
    if rule is not None and found["crop_mode"] == "center":  # timm's sides, before it crops
        assert math.floor(shape[0] / found["crop_pct"]) == images.resize.size
