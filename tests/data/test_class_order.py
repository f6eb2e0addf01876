"""Classes of data are matched to those of a run by name, whatever their order."""

import json

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data import Sample
from vitjax.data.class_order import ClassList, RenumberedSplit, match
from vitjax.data.errors import DataError
from vitjax.data.sources import ArraySplit, Source
from vitjax.data.sources.mask_classes import MaskSource

FLOWERS = ("daisy", "lily", "rose", "tulip")


def found(known, own, **options):
    return match(ClassList(known), ClassList(own), **options)


def test_equal_names_are_the_same():
    same = found(FLOWERS, FLOWERS, complete=True)
    assert same.same
    assert same.missing == ()
    assert same.text() == ""


@pytest.mark.parametrize(
    ("own", "numbers", "missing", "words"),
    [
        (("tulip", "daisy", "rose", "lily"), (3, 0, 2, 1), (), "in another order"),
        (("rose", "daisy"), (2, 0), ("lily", "tulip"), "2 of the run's 4 classes ('daisy', 'rose"),
    ],
)
def test_an_order_and_a_subset_are_mapped_by_name(own, numbers, missing, words):
    mapped = found(FLOWERS, own)
    assert mapped.numbers == numbers
    assert mapped.missing == missing
    assert words in mapped.text()
    assert not mapped.same


@pytest.mark.parametrize("complete", [False, True])
def test_unknown_classes_are_refused_with_both_sides(complete):
    with pytest.raises(ConfigError) as error:
        found(FLOWERS, ("zinnia", "lily", "rose", "tulipe"), complete=complete)
    message = str(error.value)
    assert "the run has 4 classes ('daisy', 'lily', 'rose', 'tulip')" in message
    assert "the data has 4 classes ('zinnia', 'lily', 'rose', 'tulipe')" in message
    assert "the run does not have 'zinnia', 'tulipe'" in message
    assert "the data does not have 'daisy', 'tulip'" in message
    assert ("Nothing was overwritten" in message) == complete


def test_other_numbers_of_classes_are_in_the_message():
    with pytest.raises(ConfigError, match=r"the run has 4 classes .* the data has 17 classes"):
        found(FLOWERS, tuple(f"class {n}" for n in range(17)))


def test_a_run_resumes_with_all_of_its_classes_only():
    with pytest.raises(ConfigError, match="the data does not have 'tulip'"):
        found(FLOWERS, FLOWERS[:3], complete=True)
    assert found(FLOWERS, FLOWERS[::-1], complete=True).numbers == (3, 2, 1, 0)


def test_names_that_occur_twice_are_matched_only_in_the_same_order():
    twice = ("a", "b", "a")
    assert found(twice, twice).same
    with pytest.raises(ConfigError, match="'a' occurs twice"):
        found(twice, ("b", "a"))


def test_data_without_names_says_how_it_gets_them():
    with pytest.raises(ConfigError, match="array class_names in an"):
        found(FLOWERS, ("0", "1", "2"))


def masks(names, values):
    return ClassList(names, values)


CELLS = masks(("hole", "cell"), (0, 255))


def test_masks_are_matched_by_name_whatever_their_values():
    assert match(CELLS, masks(("cell", "hole"), (0, 1))).numbers == (1, 0)
    swapped = match(masks(("0", "255"), (0, 255)), masks(("255", "0"), (255, 0)))
    assert swapped.numbers == (1, 0)
    assert swapped.values == (0, 255)


def test_masks_that_are_named_by_values_are_matched_by_value():
    unnamed = masks(("255", "0"), (255, 0))
    assert match(CELLS, unnamed).numbers == (1, 0)
    assert match(unnamed, CELLS).numbers == (1, 0)
    with pytest.raises(ConfigError, match=r"config\.data\.class_names"):
        match(CELLS, masks(("0", "1"), (0, 1)))


def test_equal_values_of_other_names_are_other_classes():
    with pytest.raises(ConfigError, match="the run does not have 'vein'"):
        match(CELLS, masks(("hole", "vein"), (0, 255)))


ROAD, CAR, TREE = (128, 64, 128), (64, 0, 128), (0, 128, 0)
STREETS = ClassList(("car", "road", "tree"), colors=(CAR, ROAD, TREE))


def test_colours_have_no_values_to_match_by():
    # The indices of the classes in their order are not the values of other masks.
    with pytest.raises(ConfigError) as error:
        match(STREETS, masks(("0", "1", "2"), (0, 1, 2)))
    assert "the run has 3 classes ('car', 'road', 'tree')" in str(error.value)
    assert "the data has 3 classes ('0', '1', '2')" in str(error.value)
    assert "config.data.class_names" in str(error.value)
    # With the names of the run, values stand for the same classes as colours do.
    named = match(STREETS, masks(("road", "car"), (0, 1)))
    assert (named.numbers, named.changed) == ((1, 0), ())


def test_classes_named_by_colours_are_matched_by_colour():
    unnamed = ClassList(tuple(map(str, (ROAD, CAR))), colors=(ROAD, CAR))
    found = match(STREETS, unnamed)
    assert (found.numbers, found.by_value, found.missing) == ((1, 0), True, ("tree",))
    assert "by the colours of masks ('(128, 64, 128)' is the run's 'road'" in found.text()


def test_a_match_by_value_is_said_where_the_order_is_the_same():
    found = match(CELLS, masks(("0", "255"), (0, 255)))
    assert found.same
    assert "under other names" in found.text()
    assert "by the values of masks ('0' is the run's 'hole', '255' is the" in found.text()


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (masks(("hole", "cell"), (0, 1)), "class 'cell' is 255 in the run's masks, 1 here"),
        (masks(("cell",), (7,)), "class 'cell' is 255 in the run's masks, 7 here"),
        (masks(("hole", "cell"), (255, 256)), "'hole' is 0 in the run's masks, 255 here"),
    ],
)
def test_other_values_of_the_same_names_are_said(own, words):
    assert words in match(CELLS, own).text()


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("known", "own"),
    [
        (CELLS, masks(("hole", "cell"), (255, 0))),
        (CELLS, masks(("cell",), (0,))),
        (masks(("a", "b", "c"), (0, 1, 2)), masks(("c", "a", "b"), (1, 0, 2))),
        (STREETS, ClassList(STREETS.names, colors=(ROAD, CAR, TREE))),
    ],
)
def test_exchanged_values_of_the_same_names_are_refused(known, own, complete):
    if complete and len(own.names) < len(known.names):
        return  # refused for another reason
    with pytest.raises(ConfigError) as error:
        match(known, own, complete=complete)
    for classes in (known, own):
        for name, value in zip(classes.names, classes.stored, strict=True):
            assert f"{name!r} is {value}" in str(error.value)


def mask_folder(root, values):
    """Two images and masks of ``values``."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((4, 4), 9, np.uint8)).save(root / "images" / f"{number}.png")
        mask = np.asarray(values, np.uint8)[np.arange(16).reshape(4, 4) % len(values)]
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return {"source": "masks", "path": str(root), "batch_size": 2, "val_fraction": 0.0}


def test_masks_of_colours_are_described_without_values(tmp_path):
    section = mask_folder(tmp_path / "run", (ROAD, CAR))
    section["classes"] = {"road": ROAD, "car": CAR}
    run = vitjax.data.create(**section)
    described = json.loads(json.dumps(run.describe()))
    known = ClassList.described(described)
    assert known == run.class_list == ClassList(("car", "road"), colors=(CAR, ROAD))
    assert vitjax.data.recall(described, **section).class_list == known
    # Index masks are not taken for these classes by their values.
    indices = mask_folder(tmp_path / "indices", (0, 1))
    with pytest.raises(ConfigError, match="the run does not have '0', '1'"):
        vitjax.data.create(run_classes=known, **indices)
    # Colours alone are.
    colours = {**mask_folder(tmp_path / "again", (ROAD, CAR)), "classes": (ROAD, CAR)}
    data = vitjax.data.create(run_classes=known, **colours)
    assert (data.class_names, data.class_list) == (("car", "road"), known)
    np.testing.assert_array_equal(data.truth("train", 0)[0], [1, 0, 1, 0])


def test_masks_matched_by_value_have_the_names_of_the_run(tmp_path):
    section = mask_folder(tmp_path, (0, 255))
    data = vitjax.data.create(run_classes=CELLS, **section)
    assert data.matched.by_value
    assert (data.class_names, data.class_values) == (("hole", "cell"), (0, 255))


def test_a_class_that_masks_lack_has_a_value_of_its_own():
    run = masks(("a", "b", "c"), (0, 1, 2))
    assert match(run, masks(("c", "a"), (0, 7))).values == (7, 1, 0)
    # The run's value of "b" is another class's here.
    assert match(run, masks(("c", "a"), (1, 7))).values[1] not in (1, 7)


class Listed:
    """A split of samples in a list."""

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def read(self, index):
        return self.samples[index]

    def name(self, index):
        return f"sample {index}"

    def size(self, index):
        return self.samples[index].size


def test_labels_masks_and_boxes_get_the_numbers_of_the_run():
    image = np.zeros((2, 2, 1), np.uint8)
    sample = Sample(
        image,
        1,
        mask=np.array([[0, 1], [-1, 2]], np.int32),
        boxes=np.zeros((3, 4), np.float32),
        box_labels=np.array([2, 0, 0], np.int32),
    )
    split = RenumberedSplit(Listed(sample), (4, 3, 9))
    read = split.read(0)
    assert read.label == 3
    np.testing.assert_array_equal(read.mask, [[4, 3], [-1, 9]])
    np.testing.assert_array_equal(read.box_labels, [9, 4, 4])
    assert read.mask.dtype == read.box_labels.dtype == np.int32
    assert (len(split), split.name(0), split.size(0)) == (1, "sample 0", (2, 2))


def test_a_source_in_the_order_of_a_run():
    labels = np.array([0, 1, 1, 0], np.int32)
    split = ArraySplit(np.zeros((4, 2, 2, 1), np.uint8), labels, "arrays")
    source = Source({"train": split}, ("rose", "daisy"))
    ordered = source.in_class_order(found(FLOWERS, source.class_names))
    assert ordered.class_names == FLOWERS
    np.testing.assert_array_equal(ordered.splits["train"].labels, [2, 0, 0, 2])
    assert [ordered.splits["train"].read(i).label for i in range(4)] == [2, 0, 0, 2]


def test_a_source_of_masks_has_the_values_of_its_files():
    mask = np.array([[0, 1]], np.int32)
    source = MaskSource(
        {"train": Listed(Sample(np.zeros((1, 2, 1), np.uint8), mask=mask))},
        ("cell", "hole"),
        values=(255, 0),
    )
    ordered = source.in_class_order(match(CELLS, source.class_list))
    assert (ordered.class_names, ordered.values) == (("hole", "cell"), (0, 255))
    np.testing.assert_array_equal(ordered.splits["train"].read(0).mask, [[1, 0]])


@pytest.fixture
def bouquet(tmp_path):
    """A folder of two of the flowers, and a table of its files."""
    rows = ["file,label"]
    for name in ("tulip", "daisy"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            file = f"{name}/{number}.png"
            Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "photos" / file)
            rows.append(f"{file},{name}")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "photos"


@pytest.mark.parametrize("source", ["folder", "manifest"])
def test_listed_classes_of_a_run_may_be_missing_in_other_data(bouquet, source):
    listed = ("rose", "tulip", "lily", "daisy")
    path = bouquet if source == "folder" else bouquet / "labels.csv"
    section = {"source": source, "path": str(path), "batch_size": 1, "classes": listed}
    section |= {"val_fraction": 0.0, "test_fraction": 0.0}
    data = vitjax.data.create(run_classes=ClassList(listed), **section)
    assert data.class_names == listed
    assert data.matched.missing == ("rose", "lily")
    labels = {data.name("train", i).split("/")[-2]: int(data.labels("train")[i]) for i in range(4)}
    assert labels == {"tulip": 1, "daisy": 3}
    # To resume, and without a run, all of them are needed; and others are not the run's.
    for options in ({}, {"run_classes": ClassList(listed), "all_classes": True}):
        with pytest.raises(DataError, match=r"'rose', which is not a class.*config\.data\.classes"):
            vitjax.data.create(**options, **section)
    for own, name in (((*listed, "zinnia"), "zinnia"), (("rose", "lily"), "rose")):
        section["classes"] = own
        with pytest.raises(DataError, match=f"lists {name!r}"):
            vitjax.data.create(run_classes=ClassList(listed), **section)


@pytest.mark.parametrize("source", ["folder", "manifest", "masks", "tfds_masks"])
def test_a_config_cannot_set_the_classes_of_a_run(source):
    recalled = {"class_names": list(FLOWERS), "examples": {}, "image": {}}
    section = {"source": source, "run_classes": 1}
    section["dataset" if source == "tfds_masks" else "path"] = "any"
    with pytest.raises(ConfigError, match="unknown key 'run_classes'"):
        vitjax.data.recall(recalled, **section)


def test_named_values_of_a_run_may_be_missing_in_other_masks(tmp_path):
    run = masks(("hole", "wall", "cell"), (0, 100, 255))
    section = {**mask_folder(tmp_path / "part", (0, 255)), "class_names": run.names}
    data = vitjax.data.create(run_classes=run, **section)
    assert (data.class_names, data.matched.missing) == (run.names, ("wall",))
    assert data.class_values == run.values
    np.testing.assert_array_equal(data.truth("train", 0)[0], [0, 2, 0, 2])
    for options in ({}, {"run_classes": run, "all_classes": True}):
        with pytest.raises(DataError, match=r"there are 2 classes.*class_names=None"):
            vitjax.data.create(**options, **section)
    other = {**mask_folder(tmp_path / "other", (0, 7)), "class_names": run.names}
    with pytest.raises(ConfigError, match="the run does not have '7'"):
        vitjax.data.create(run_classes=run, **other)


def test_data_is_created_in_the_order_of_a_run():
    section = {"source": "synthetic", "image_size": 4, "examples": 20, "batch_size": 4}
    section |= {"num_classes": 3}
    own = vitjax.data.create(**section)
    run = ClassList(("extra", *own.class_names[::-1]))
    data = vitjax.data.create(run_classes=run, **section)
    assert data.class_names == run.names
    assert data.num_classes == 4
    assert data.matched.missing == ("extra",)
    np.testing.assert_array_equal(data.labels("train"), 3 - own.labels("train"))
    with pytest.raises(ConfigError, match="does not have 'extra'"):
        vitjax.data.create(run_classes=run, all_classes=True, **section)
    # Episodes number their classes themselves.
    episodes = {"ways": 2, "queries": 1}
    glyphs = {"source": "glyphs", "classes": 30, "image_size": 8, "batch_size": 1}
    assert vitjax.data.create(run_classes=run, episodes=episodes, **glyphs).matched is None
