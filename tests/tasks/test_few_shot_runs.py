"""What the trainer does of its own for runs over episodes."""

import threading
import types

import jax
import pytest
from ml_collections import ConfigDict

from vitjax.core.errors import ConfigError
from vitjax.figures import _curves
from vitjax.tasks import FewShot
from vitjax.training import experiment as experiments
from vitjax.training.evaluation import Evaluator


def config(**sections):
    return ConfigDict(
        {
            "model": {"name": "conv4_omniglot", "filters": 4, "depth": 2},
            "data": {
                "source": "glyphs",
                "classes": 30,
                "image_size": 8,
                "batch_size": 2,
                "eval_batch_size": 2,
                "episodes": {"queries": 2, "val_episodes": 4, "test_episodes": 4},
            },
            "objective": {"name": "maml", "inner_steps": 1, "test_steps": 1},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 2},
            **sections,
        }
    )


def test_the_store_of_images_is_placed_once_and_no_thread_launches_a_program(monkeypatch):
    built = experiments.build(config(parallel={"devices": 2}))
    placed, launched = [], []
    place, compile_ = built.parallel.replicate, built.parallel.compile

    def counted(step, **options):
        program = compile_(step, **options)

        def launch(*arguments):
            launched.append(threading.current_thread())
            return program(*arguments)

        return launch

    monkeypatch.setattr(
        built.parallel, "replicate", lambda tree: placed.append(tree) or place(tree)
    )
    monkeypatch.setattr(built.parallel, "compile", counted)
    evaluator = Evaluator(built)
    variables = built.parallel.place_state(built.initial_variables())
    evaluator.metrics(variables, "val")
    batches = built.batches_ahead(built.data.train_batches())
    batch = next(batches)
    batches.close()
    assert batch["support"]["input"].shape == (2, 5, 8, 8, 1)
    assert sum(tree is built.data.store for tree in placed) == 1
    assert len(launched) == 2 * 2 + 1
    assert set(launched) == {threading.main_thread()}


@pytest.mark.parametrize(("mode", "devices"), [("jit", 2), ("pmap", 1)])
def test_the_objective_knows_over_how_many_devices_its_batch_is_spread(mode, devices):
    built = experiments.build(config(parallel={"mode": mode, "devices": 2}))
    assert built.objective.devices == devices


def test_pmap_evaluates_to_the_numbers_of_jit():
    found = {}
    for mode in ("jit", "pmap"):
        built = experiments.build(config(parallel={"mode": mode, "devices": 2}))
        variables = built.parallel.place_state(jax.device_get(built.initial_variables()))
        found[mode] = Evaluator(built).metrics(variables, "val")
    assert found["jit"] == pytest.approx(found["pmap"], rel=1e-5)


def test_a_regression_s_outputs_are_as_wide_as_its_target():
    chosen = config(
        model={"name": "mlp_sinusoid", "num_classes": 3},
        data={"source": "sinusoid", "batch_size": 2, "episodes": {"shots": 2, "queries": 2}},
    )
    with pytest.raises(ConfigError, match="num_classes is 3; in this regression it must be 1"):
        experiments.build(chosen)
    chosen.model.num_classes = 1
    built = experiments.build(chosen)
    assert built.objective.num_classes == 1


def test_curves_have_a_panel_for_what_is_inductive_and_none_for_what_was_before():
    kinds = ("", "_inductive", "_before")
    names = [f"{metric}{kind}" for metric in ("loss", "accuracy") for kind in kinds]
    series = {("loss", "train"): None, ("learning_rate", "train"): None}
    series |= {(name, "val"): None for name in names}
    declarations = experiments.build(config()).declarations
    assert set(names) <= set(declarations)
    assert list(_curves.panels(series, declarations)) == [
        *("loss", "accuracy", "accuracy_inductive", "loss_inductive", "learning_rate")
    ]


def described(**splits):
    """What data with these classes in each split says of itself."""
    names = sorted({name for split in splits.values() for name in split})
    classes = {
        split: {str(names.index(name)): 20 for name in held} for split, held in splits.items()
    }
    return {"class_names": names, "classes": classes}


def few_shot(**splits):
    """The task of a run on data with these classes in each split."""
    data = types.SimpleNamespace(describe=lambda: described(**splits))
    task = object.__new__(FewShot)
    task.data = data
    return task


NOTED = described(train="abcdefg", val="h", test="ij")


def test_classes_that_training_saw_are_not_evaluated():
    for split in ("train", "val", "test"):
        few_shot(train="abcdefg", val="h", test="ij").check_evaluation(NOTED, split)
    # Of another number in another order, it is the name that counts.
    few_shot(train="za", test="xy").check_evaluation(NOTED, "test")
    moved = few_shot(train="hij", test="gabcdefx")
    with pytest.raises(ConfigError) as error:
        moved.check_evaluation(NOTED, "test")
    assert (
        "'test' has 7 classes ('a', 'b', 'c', 'd', 'e', ...) that the run was trained on, of 8"
        in (str(error.value))
    )
    moved.check_evaluation(NOTED, "train")
    # Data without classes: single examples, regressions, runs that noted nothing.
    moved.check_evaluation({}, "test")
    moved.check_evaluation({"class_names": ["a"], "examples": {"train": 3}}, "test")


def test_a_run_goes_on_with_its_own_classes():
    few_shot(train="gfedcba", val="h", test="xyz").check_resume(NOTED)
    few_shot(train="ab", val="h").check_resume({})
    with pytest.raises(ConfigError, match=r"'train' are not .*: 1 class \('x'\) new"):
        few_shot(train="abcdefgx", val="h", test="ij").check_resume(NOTED)
    with pytest.raises(ConfigError, match=r"'val' are not .*: 1 class \('i'\) new and 1 class"):
        few_shot(train="abcdefg", val="i", test="hj").check_resume(NOTED)
