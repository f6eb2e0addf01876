"""The train step on a GPU: it lowers for CUDA anywhere, and on a GPU it computes what CPUs do."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.meta import Maml
from vitjax.models import create
from vitjax.training import experiment as experiments
from vitjax.training import loop
from vitjax.training.step import make_train_step

VIT_B16 = {"name": "vit_b16", "attention_impl": "fused"}
SMALL_VIT = {
    "name": "vit_ti16",
    **{"patch_size": 8, "width": 64, "depth": 2, "num_heads": 2, "mlp_width": 128},
}


def build(model, side, *, batch=8, steps=1, optimizer=None, **train):
    return experiments.build(
        {
            "model": {"dtype": "bfloat16", **model},
            "data": {
                "source": "synthetic",
                **{"image_size": side, "num_classes": 10, "examples": 64, "val_examples": 8},
                **{"batch_size": batch, "mean": 0.5, "std": 0.25},
            },
            "optimizer": optimizer or {"name": "adamw", "learning_rate": 1e-3},
            "train": {"steps": steps, "evaluate_every_steps": steps, **train},
            "parallel": {"devices": 1},
        }
    )


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What vitjax and JAX ask of a GPU before they lower for it."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    # JAX has no public way to lower cuDNN's attention where cuDNN is not installed.
    name = "jax._src.cudnn.fused_attention_stablehlo"
    module = pytest.importorskip(name, exc_type=ImportError)
    if "check_cudnn_version" not in vars(module):
        pytest.skip(f"this JAX has no {name}.check_cudnn_version")
    monkeypatch.setattr(module, "check_cudnn_version", lambda: 91200)


def lowered(step, *arguments):
    """StableHLO of ``step`` for CUDA; no device is needed for it."""
    traced = jax.jit(step).trace(*arguments)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def custom_calls(text):
    return Counter(re.findall(r"custom_call @([\w$.]+)", text))


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("fields", "forward", "backward"),
    [
        pytest.param({}, 12, 12, marks=pytest.mark.slow),
        ({"depth": 2}, 2, 2),
        # The backward pass computes the forward one again.
        ({"depth": 2, "remat": "full"}, 4, 2),
        ({"depth": 2, "pooling": "mean"}, 2, 2),  # 196 tokens
        ({"depth": 2, "pooling": "map"}, 3, 3),  # the head's attention has one query
    ],
    ids=str,
)
def test_the_step_of_a_vit_has_cudnns_attention(fields, forward, backward):
    built = build({**VIT_B16, **fields}, 224, batch=2)
    step = make_train_step(built.objective, built.optimizer)
    calls = custom_calls(lowered(step, built.abstract_state(), built.data.example_batch()))
    names = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")
    assert {name: calls[name] for name in names} == dict(
        zip(names, (forward, backward), strict=True)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_step_of_a_resnet_lowers_for_cuda():
    built = build({"name": "resnet50"}, 64, batch=2)
    step = make_train_step(built.objective, built.optimizer)
    text = lowered(step, built.abstract_state(), built.data.example_batch())
    assert "bf16" in text
    assert text.count("stablehlo.convolution") >= 3 * 53 - 1


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_meta_gradient_is_products_over_all_episodes():
    model = create("conv4", num_classes=3, depth=2, filters=4)
    objective = Maml(model=model, num_classes=3, normalize=lambda x: x, inner_steps=2)

    def part(examples):
        shape = (4, 3 * examples)
        labels = np.zeros(shape, np.int32)
        images = np.zeros((*shape, 8, 8, 1), np.float32)
        mask = np.ones(shape, bool)
        return {"input": images, "target": labels, "class": labels, "mask": mask}

    batch = {"support": part(1), "query": part(2), "mask": np.ones(4, bool)}
    variables = jax.eval_shape(objective.init, jax.random.key(0), batch)
    params = variables.pop("params")
    text = lowered(objective.gradients, params, variables, batch, jax.random.key(0))
    assert "stablehlo.convolution" not in text
    # All four episodes are computed in parallel.
    assert re.search(r"dot_general.*batching_dims = \[0\]", text)


def after_a_step(built, device):
    """The gradient of one step, as one vector, and the loss."""
    with jax.default_device(device):
        state = jax.device_put(jax.device_get(built.initial_state()), device)
        batch = jax.device_put(built.data.example_batch(), device)
        new, metrics = jax.jit(make_train_step(built.objective, built.optimizer))(state, batch)
        change = jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), state.params, new.params)
    return np.concatenate(jax.tree.leaves(change)), float(metrics["loss"].value())


@pytest.mark.gpu
@pytest.mark.parametrize(
    "model",
    [
        SMALL_VIT,
        {**SMALL_VIT, "attention_impl": "fused"},
        {**SMALL_VIT, "remat": "full", "attention_impl": "fused"},
        {"name": "resnet20"},
    ],
    ids=str,
)
def test_a_step_in_bfloat16_is_that_of_a_cpu(gpu, model):
    """Both are compared with float32: the GPU's error may be twice that of the CPU."""
    cpu = jax.devices("cpu")[0]
    plain = {**model, "attention_impl": "plain"} if "attention_impl" in model else model
    sgd = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    found, loss = after_a_step(build(model, 32, optimizer=sgd), gpu)
    rounded, _ = after_a_step(build(plain, 32, optimizer=sgd), cpu)
    exact, exact_loss = after_a_step(build({**plain, "dtype": "float32"}, 32, optimizer=sgd), cpu)

    def error(gradient):
        return np.linalg.norm(gradient - exact) / np.linalg.norm(exact)

    assert error(found) <= 2 * error(rounded) + float(jnp.finfo("bfloat16").eps)
    np.testing.assert_allclose(loss, exact_loss, rtol=2e-2)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("model", [{**SMALL_VIT, "dropout": 0.1}, {"name": "resnet20"}], ids=str)
def test_runs_on_a_gpu_repeat_and_resume_to_equal_bits(tmp_path, model):
    """With ``--xla_gpu_deterministic_ops``, which conftest.py sets for the tests of a GPU."""

    def trained(name, *lengths):
        for steps in lengths:
            built = build(model, 32, steps=steps, evaluate_every_steps=3)
            loop.train(built, tmp_path / name, say=str)
        checkpoints = built.checkpoints(tmp_path / name / "checkpoints", read_only=True)
        restored = checkpoints.restore(built.abstract_state(), config=built.config, say=str)
        checkpoints.close()
        assert restored.state.step == 6
        return jax.device_get(restored.state)

    expected = trained("undisturbed", 6)
    for other in (trained("again", 6), trained("resumed", 3, 6)):
        jax.tree.map(np.testing.assert_array_equal, expected, other)
