"""Image and mask move by one geometry; grey values change in the image alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.data import IGNORE, DataError, Sample
from vitjax.data.sources import cells
from vitjax.data.transforms import TRANSFORMS, parse
from vitjax.data.transforms.moving import mirrored, padded
from vitjax.data.transforms.warps import Elastic

EXACT = [
    "shift(5)",
    "flip",
    "flips",
    "dihedral",
    "crop(20)",
    "crop((60, 50))",
    "shift(5) | dihedral",
]
RESAMPLED = [
    "elastic(3)",
    "rotate(180)",
    "scale((0.5, 2))",
    "resize(31, 'bilinear')",
    "resize((50, 33), 'bilinear')",
]
GREY = ["brightness", "contrast((0.5, 2))", "gamma", "noise(0.1)", "color_jitter(0.4)", "invert"]


@pytest.fixture(scope="module")
def pair() -> Sample:
    """A mask of large cells, and an image, a weight and instances that repeat it."""
    label = cells.draw(np.random.default_rng(0), 48).mask
    return carrying(label)


def carrying(label: np.ndarray) -> Sample:
    return Sample(
        (label * 255).astype(np.uint8)[..., None],
        mask=label,
        instances=label,
        weight=label.astype(np.float32),
    )


def apply(text: str, pair: Sample, seed: int = 0) -> Sample:
    return parse(text, "test")(pair, np.random.default_rng(seed))


@pytest.mark.parametrize("text", EXACT)
def test_moving_whole_pixels_moves_all_alike(pair, text):
    for seed in range(5):
        moved = apply(text, pair, seed)
        assert moved.mask.dtype == np.int32
        np.testing.assert_array_equal(moved.image[..., 0], moved.mask * 255)
        np.testing.assert_array_equal(moved.instances, moved.mask)
        np.testing.assert_array_equal(moved.weight, moved.mask)


@pytest.mark.parametrize("text", RESAMPLED)
def test_resampling_moves_all_alike(pair, text):
    for seed in range(3):
        moved = apply(text, pair, seed)
        assert moved.image.shape == (*moved.mask.shape, 1)
        assert moved.image.dtype == np.uint8
        assert moved.mask.dtype == np.int32
        assert set(np.unique(moved.mask)) <= {0, 1}
        np.testing.assert_array_equal(moved.instances, moved.mask)
        np.testing.assert_allclose(moved.weight, moved.image[..., 0] / 255, atol=0.02)
        # Half of what the bilinear image says is where the nearest neighbour changes, up to
        # corners.
        assert ((moved.image[..., 0] > 127) == moved.mask).mean() > 0.97


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("text", GREY)
def test_grey_values_change_in_the_image_alone(text, dtype):
    image = np.random.default_rng(1).integers(0, 256, (12, 14, 3)).astype(np.uint8)
    if dtype == np.float32:
        if text.startswith("color_jitter"):
            with pytest.raises(DataError, match="color_jitter works on uint8 images"):
                apply(text, Sample((image / 255).astype(np.float32)))
            return
        image = (image / 255).astype(np.float32)
    given = Sample(image, mask=np.zeros((12, 14), np.int32), weight=np.ones((12, 14), np.float32))
    before = image.copy()
    changed = apply(text, given)
    assert changed.mask is given.mask
    assert changed.weight is given.weight
    assert changed.image.dtype == dtype
    assert (changed.image != before).mean() > 0.5
    assert changed.image.max() <= (255 if dtype == np.uint8 else 1)
    np.testing.assert_array_equal(given.image, before)


def test_mirrored_is_numpys_reflection():
    for length in (1, 2, 5):
        expected = np.pad(np.arange(length), (13, 9), mode="reflect")
        np.testing.assert_array_equal(mirrored(-13, length + 22, length), expected)


def test_displacements_are_those_of_the_paper():
    rng = np.random.default_rng(0)
    fields = np.stack([Elastic(10, 3).displacements((41, 61), rng) for _ in range(2000)])
    knots = fields[:, :, ::20, ::30]
    assert knots.shape[2:] == (3, 3)
    np.testing.assert_allclose(knots.std(axis=0), 10, rtol=0.07)
    np.testing.assert_allclose(knots.mean(axis=0), 0, atol=0.8)
    flat = knots.reshape(2000, -1)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 0.12
    # Smooth in between: steps from pixel to pixel are small next to the displacements.
    assert np.abs(np.diff(fields, axis=2)).mean() < 1
    assert fields.std() < 12


def test_no_deformation_is_the_identity(pair):
    for text in ("elastic(0)", "rotate(0)", "scale((1, 1))", "shift(0)", "resize((48, 48))"):
        same = apply(text, pair)
        np.testing.assert_array_equal(same.image, pair.image)
        np.testing.assert_array_equal(same.mask, pair.mask)


def test_all_eight_symmetries_come_up():
    label = np.arange(9, dtype=np.int32).reshape(3, 3)
    seen = {apply("dihedral", carrying(label), seed).mask.tobytes() for seed in range(80)}
    assert len(seen) == 8
    oblong = np.arange(6, dtype=np.int32).reshape(2, 3)
    turned = [apply("dihedral", carrying(oblong), seed).mask for seed in range(40)]
    assert len({t.tobytes() for t in turned}) == 4
    assert {t.shape for t in turned} == {(2, 3)}


def test_context_is_mirrored_and_padding_counts_nowhere(pair):
    tile = apply("crop(64)", pair)
    assert tile.mask.shape == (64, 64)
    assert (tile.mask != IGNORE).all()
    more = apply("pad_to_multiple(32)", pair)
    assert more.mask.shape == (64, 64)
    np.testing.assert_array_equal(more.mask[:48, :48], pair.mask)
    assert (more.mask[48:] == IGNORE).all()
    assert (more.mask[:, 48:] == IGNORE).all()
    np.testing.assert_array_equal(more.image[48:, :48], pair.image[46:30:-1])
    assert padded(pair, (48, 48)) is pair


def test_ignored_pixels_stay_ignored():
    label = np.full((16, 16), IGNORE, np.int32)
    given = Sample(np.zeros((16, 16, 1), np.uint8), mask=label)
    for text in ["elastic | rotate | scale | shift(3) | dihedral | crop(9)", "resize(7)"]:
        assert (apply(text, given).mask == IGNORE).all()


def test_sizes_are_known_beforehand(pair):
    for text in ("resize(31)", "resize((50, 33)) | pad_to_multiple(16)", "crop(7)", "flip"):
        made = apply(text, pair)
        assert parse(text, "test").sized((48, 48)) == made.mask.shape
    assert parse("resize(9)", "test").sized((20, 30)) == (9, 13)
    assert parse("resize(9)", "test").sized(None) is None


@pytest.mark.parametrize(
    "text", ["", "resize(96)", "resize((96, 120)) | invert", "pad_to_multiple(32) | resize(128)"]
)
def test_what_an_evaluation_does_to_sizes_is_undone(pair, text):
    pipeline = parse(text, "test", complete=True)
    seen = pipeline(pair, np.random.default_rng(0))
    maps = np.stack([seen.mask == 0, seen.mask == 1, seen.mask == 1], -1).astype(np.float32)
    found = pipeline.undo(maps, (48, 48))
    assert found.shape == (48, 48, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 1], found[..., 2])
    assert (found.argmax(axis=-1) == pair.mask).mean() > 0.99


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("elastik", r"'elastik'; did you mean 'elastic'"),
        ("elastic(sigma=-1)", r"elastic.sigma is -1; it must be in \[0, 16384\]"),
        ("elastic(grid=1)", r"grid is 1; it must be in \[2, 256\]"),
        ("elastic(sgma=1)", r"'sgma'; did you mean 'sigma'"),
        ("rotate(200)", r"degrees is 200"),
        ("scale((2, 1))", r"in ascending order"),
        ("crop(0)", r"size is 0"),
        ("shift(0.5)", r"pixels is 0.5"),
        ("pad_to_multiple(0)", r"multiple is 0"),
        ("color_jitter(brightnes=1)", r"did you mean 'brightness'"),
        ("random_crop(5)", r"random_crop is called crop now"),
    ],
)
def test_errors_quote_the_pipeline(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text, "config.data.train_transforms")


def test_evaluation_takes_nothing_random():
    assert parse("grayscale | resize(8) | invert", "test", complete=True).steps
    with pytest.raises(ConfigError, match=r"test: in 'resize\(8\) \| flips': flips is random"):
        parse("resize(8) | flips", "test", complete=True)
    with pytest.raises(ConfigError, match=r"center_crop does not show the complete image.*resize"):
        parse("center_crop(8)", "test", complete=True)


def test_all_transforms_go_to_worker_processes():
    needed = {"crop": "crop(4)", "shift": "shift(2)", "resize": "resize(4)"}
    needed |= {"pad_to_multiple": "pad_to_multiple(4)", "two_views": "two_views('crop(4)')"}
    needed |= {n: f"{n}(4)" for n in ("center_crop", "pad_and_crop", "random_resized_crop")}
    needed["corrupt"] = "corrupt('fog')"
    for name in TRANSFORMS:
        pipeline = parse(needed.get(name, name), "test")
        assert pickle.loads(pickle.dumps(pipeline)) == pipeline
