"""Few-shot models on a person's own classes: the logits of an episode that is evaluated."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from vitjax.core.errors import ConfigError
from vitjax.data import DataError, ImageShapeError
from vitjax.data.transforms.pipeline import parse
from vitjax.tasks.adapted import support_images
from vitjax.tasks.loaded import Loaded
from vitjax.training import experiment as experiments

METHODS = {
    "maml": {"inner_steps": 1, "test_steps": 2},
    "protonet": {},
    "fine_tuning": {"test_steps": 2},
}


def config(objective, **episodes):
    return ConfigDict(
        {
            "model": {"name": "conv4_omniglot", "filters": 4, "depth": 2},
            "data": {
                "source": "glyphs",
                "classes": 30,
                "image_size": 8,
                "batch_size": 2,
                "eval_batch_size": 1,
                "episodes": {"ways": 3, "shots": 2, "queries": 2, "val_episodes": 1, **episodes},
                "mean": 0.3,
                "std": 0.5,
            },
            "objective": objective,
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 1},
        }
    )


@pytest.fixture(scope="module", params=METHODS)
def run(request):
    """A run, and the first episode that it is evaluated on."""
    built = experiments.build(config({"name": request.param, **METHODS[request.param]}))
    variables = built.initial_variables()
    with built.data.eval_batches("val") as batches:
        batch = jax.device_get(built.data.look_up(built.data.store, next(batches)))
    return Loaded(built, variables), variables, batch


def pictures(part):
    """The images of a part of the only episode by class, as a person has them."""
    images, labels = part["input"][0], part["target"][0]
    if images.dtype != np.uint8:
        images = np.round(images * 255).astype(np.uint8)
    return {f"class {c}": list(images[labels == c][..., 0]) for c in range(labels.max() + 1)}


def saved(folder, classes):
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("transductive", [False, True])
def test_the_logits_are_those_of_the_evaluated_episode(run, transductive, tmp_path):
    run, variables, batch = run
    objective = run._experiment.objective
    mode = "transductive" if transductive else "inductive"
    expected = jax.jit(objective.answer)(variables, batch)[mode][0, -1]
    support, query = pictures(batch["support"]), pictures(batch["query"])
    order = np.argsort(batch["query"]["target"][0], kind="stable")
    files = sorted(saved(tmp_path / "query", query).rglob("*.png"))
    classifier = run.adapt(saved(tmp_path / "support", support), transductive=transductive)
    assert classifier.class_names == ("class 0", "class 1", "class 2")
    assert set(classifier.shots.values()) == {2}
    found = classifier.logits(files)
    np.testing.assert_allclose(found, expected[order], rtol=1e-3, atol=1e-4)
    likely = jax.nn.softmax(expected[order])
    np.testing.assert_allclose(classifier.probabilities(files), likely, rtol=1e-3, atol=1e-5)
    results = classifier.predict(files, top=1)
    best = [classifier.class_names[i] for i in likely.argmax(axis=-1)]
    assert [each["predictions"][0]["class"] for each in results] == best
    # Arrays in place of files, and one image in place of all.
    same = run.adapt(support, transductive=transductive)
    np.testing.assert_array_equal(same.logits([a for x in query.values() for a in x]), found)
    alone = same.logits(query["class 1"][0])
    assert np.allclose(alone[0], found[2], rtol=1e-4, atol=1e-5) != transductive


def test_any_number_of_images_per_class_and_of_classes(run):
    run, _, batch = run
    support, query = pictures(batch["support"]), pictures(batch["query"])
    few = {"a": support["class 0"][:1], "b": [*support["class 1"], *query["class 2"]]}
    classifier = run.adapt(few)
    assert classifier.shots == {"a": 1, "b": 4}
    likely = classifier.probabilities(query["class 0"])
    assert likely.shape == (2, 2)
    np.testing.assert_allclose(likely.sum(axis=-1), 1, rtol=1e-5)
    more = {**support, "fourth": query["class 0"]}
    if type(run._experiment.objective).__name__ == "Maml":
        with pytest.raises(ConfigError, match="there are 4 classes, and the learned head of Maml"):
            run.adapt(more)
    else:
        assert run.adapt(more).probabilities(query["class 0"]).shape == (2, 4)


def test_results_a_figure_and_what_was_skipped(run, tmp_path):
    run, variables, batch = run
    task = run._experiment.task
    folder = saved(tmp_path / "support", pictures(batch["support"]))
    files = sorted(saved(tmp_path / "query", pictures(batch["query"])).rglob("*.png"))
    files[1].write_bytes(b"no image")
    said, task.say = [], lambda text: said.append(text)
    options = {"support": folder, "on_corrupt": "skip", "top": 2, "batch_size": 2}
    task.check_prediction(files, options)
    results = list(task.predict(variables, files, tmp_path / "out", **options))
    assert "error" in results[1]
    assert all(len(each["predictions"]) == 2 for each in results if "error" not in each)
    assert said[0].endswith("3 classes with 2 images each; inductive: each alone")
    about = json.loads((tmp_path / "out" / "support.json").read_text())
    assert about.pop("method") == type(task.objective).__name__
    shots = {f"class {number}": 2 for number in range(3)}
    assert about == {"mode": "inductive", "shots": shots}
    with Image.open(tmp_path / "out" / "predictions.png") as drawn:
        assert min(drawn.size) > 100
    (folder / "class 0" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 6 support images cannot be read") as early:
        task.check_prediction(files, options)
    with pytest.raises(DataError) as late:
        list(task.predict(variables, files, None, support=folder, on_corrupt="skip"))
    for raised in (early, late):
        assert "class 0/0.png" in str(raised.value)
        assert "support images must all be readable: replace or remove it" in str(raised.value)
        assert "on-corrupt" not in str(raised.value)


def photos(folder, *sizes):
    """A photo of each (width, height) per class, as JPEG."""
    rng = np.random.default_rng(0)
    for name in ("daisy", "lily", "rose"):
        (folder / name).mkdir(parents=True)
        for number, (width, height) in enumerate(sizes):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    return folder


def test_photos_of_any_size_are_resized_and_cropped_and_that_is_said(run, tmp_path):
    run, variables, _ = run
    task = run._experiment.task
    said, task.say = [], lambda text: said.append(text)
    support = photos(tmp_path / "support", (30, 40), (64, 20))
    files = sorted(photos(tmp_path / "new", (8, 8), (17, 9)).rglob("*.jpg"))
    task.check_prediction(files, {"support": support})
    assert "other sizes than 8x8 are made ready by 'resize(8) | center_crop(8)'" in said[0]
    results = list(task.predict(variables, files, None, support=support))
    assert len(results) == 6
    # The same pixels as by the transforms that are named; an image of the right size is as it is.
    named = parse("resize(8) | center_crop(8)")
    for path in files:
        with Image.open(path) as opened:
            grey = np.asarray(opened.convert("L"))[..., None]
        expected = grey if grey.shape == (8, 8, 1) else named.fixed(grey)
        np.testing.assert_array_equal(task.data.read_image(path), expected)
    said.clear()
    right = photos(tmp_path / "right", (8, 8))
    task.check_prediction(sorted(right.rglob("*.jpg")), {"support": right})
    assert not said


def test_transforms_that_do_not_fit_are_no_damage(tmp_path):
    chosen = config({"name": "protonet"})
    chosen.data.eval_transforms = "resize(8)"
    built = experiments.build(chosen)
    task, variables = built.task, built.initial_variables()
    support = photos(tmp_path / "support", (30, 40))
    message = (
        r"0\.jpg: is of shape \(10, 8, 1\) after eval_transforms 'resize\(8\)', and those of the"
        r" run's data of \(8, 8, 1\)\. --config\.data\.eval_transforms='resize\(8\) \| resize\(8\)"
        r" \| center_crop\(8\)'"
    )
    for on_corrupt in ("error", "skip"):
        options = {"support": support, "on_corrupt": on_corrupt}
        with pytest.raises(ImageShapeError, match=message) as early:
            task.check_prediction([], options)
        with pytest.raises(ImageShapeError, match=message):
            list(task.predict(variables, [], None, **options))
        assert "on-corrupt" not in str(early.value)


def test_a_classifier_checks_its_call(run):
    run, _, batch = run
    support = pictures(batch["support"])
    classifier = run.adapt(support)
    image = support["class 0"][0]
    for call in (classifier.predict, run.predict):
        with pytest.raises(ConfigError, match="predict: no images are given"):
            call([])
    with pytest.raises(ConfigError, match=r"predict\.top is 0; it must be at least 1"):
        classifier.predict(image, top=0)
    with pytest.raises(DataError, match=r"NaN") as raised:
        classifier.predict(np.full((8, 8), np.nan))
    assert "on-corrupt" not in str(raised.value)


def test_the_support_set_of_a_mapping_names_folders_and_each_class_once(tmp_path):
    folder = photos(tmp_path / "a", (8, 8), (8, 8))
    image = np.zeros((8, 8), np.uint8)
    found = support_images({"a": folder / "daisy", "b": [folder / "lily", image]})
    assert found["a"] == [str(folder / "daisy" / f"{number}.jpg") for number in range(2)]
    assert [len(images) for images in found.values()] == [2, 3]
    with pytest.raises(ConfigError, match="the class '1' is given twice"):
        support_images({1: [image], "1": [image]})
    with pytest.raises(DataError, match="not NoneType"):
        support_images({"a": None, "b": [image]})


def folders(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def test_a_folder_per_class_in_natural_order(tmp_path):
    folder = folders(tmp_path, "c10/a.jpg", "c9/x/b.PNG", "c9/notes.txt", ".c/x.png", "e.png")
    found = support_images(folder)
    assert list(found) == ["c9", "c10"]
    assert found["c9"] == [str(tmp_path / "c9" / "x" / "b.PNG")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "b/1.txt"], "no images of 'b'"),
        (["a/1.png", "2.png"], "it has 1 class, and there must be at least 2"),
        (["Train/1.png", "test/1.png"], "are splits, not classes"),
        ([], "it has 0 classes"),
    ],
)
def test_what_is_no_support_set_is_named(tmp_path, names, message):
    with pytest.raises(ConfigError, match=message):
        support_images(folders(tmp_path, *names))


def test_a_missing_folder_and_a_wrong_value_are_named(tmp_path):
    (tmp_path / "support").mkdir()
    with pytest.raises(ConfigError, match=r"no such folder; did you mean 'support'\?"):
        support_images(tmp_path / "suport")
    with pytest.raises(ConfigError, match="not list"):
        support_images(["a.png"])


def test_a_regression_has_no_classes():
    chosen = config({"name": "maml"})
    chosen.model = {"name": "mlp_sinusoid"}
    chosen.data = {"source": "sinusoid", "batch_size": 2, "episodes": {"shots": 2, "queries": 2}}
    built = experiments.build(chosen)
    with pytest.raises(ConfigError, match="the run is a regression of numbers"):
        built.task.adapt(built.initial_variables(), {"a": [], "b": []})
