"""The inner loop's derivative: against finite differences, formulas, and loops by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_problems import assert_trees, directional, inner, problem, relative

from vitjax import models
from vitjax.meta import Maml, adapt, scale_by_rates

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.3),
    "momentum": lambda: optax.sgd(0.2, momentum=0.9),
    "adam": lambda: optax.adam(0.02, eps_root=1e-8),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic():
    """A loss of two leaves that couples them, and its parameters and batch."""
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=3)), "b": jnp.asarray(rng.normal(size=(2, 3)))}
    batch = jnp.asarray(rng.normal(size=(4, 3)))

    def loss(params, batch):
        hidden = jnp.tanh(batch @ params["b"].T)
        return jnp.mean(jnp.square(hidden)) + jnp.mean(jnp.cos(batch * params["a"])) * 0.5

    return loss, params, batch


def meta_loss(kind, optimizer, steps=3, **options):
    loss, params, support, query = problem(kind)

    def meta(params):
        return loss(
            adapt(loss, params, support, steps=steps, optimizer=optimizer, **options), query
        )

    return meta, params


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "conv4", "vit"])
def test_meta_gradient_by_finite_differences(kind, optimizer):
    meta, params = meta_loss(kind, OPTIMIZERS[optimizer](), unroll=1)
    value, gradient = jax.jit(lambda p: (meta(p), jax.grad(meta)(p)))(params)
    assert np.isfinite(value)
    step = 1e-6 if optimizer == "adam" else 1e-5
    for along, difference in directional(jax.jit(meta), params, step=step):
        assert abs(difference) > 1e-4
        assert abs(inner(gradient, along) - difference) < 1e-6 * abs(difference) + 1e-9


def test_one_step_by_formula_in_both_orders():
    loss, params, support, query = problem("conv4")
    rate = 0.3

    def found(first_order):
        def meta(params):
            options = {"optimizer": optax.sgd(rate), "first_order": first_order}
            return loss(adapt(loss, params, support, steps=1, **options), query)

        return jax.grad(meta)(params)

    def formula():
        by_support = jax.grad(loss)
        moved = jax.tree.map(lambda p, g: p - rate * g, params, by_support(params, support))
        first = jax.grad(loss)(moved, query)
        # The Hessian of the support's loss, times the query's gradient.
        product = jax.grad(lambda p: optax.tree.vdot(by_support(p, support), first))(params)
        return first, jax.tree.map(lambda g, h: g - rate * h, first, product)

    ours, (first, second) = jax.jit(lambda: ([found(True), found(False)], formula()))()
    assert_trees(ours[0], first)
    assert_trees(ours[1], second)
    assert relative(first, second) > 0.01


def test_first_order_of_several_steps_is_the_query_gradient_where_it_ends():
    loss, params, support, query = problem("mlp")
    for optimizer in (optax.sgd(0.2, momentum=0.9), optax.adam(0.02)):

        def adapted(params, optimizer=optimizer, **options):
            return adapt(loss, params, support, steps=4, optimizer=optimizer, **options)

        found, expected, exact = jax.jit(
            lambda adapted=adapted: (
                jax.grad(lambda p: loss(adapted(p, first_order=True), query))(params),
                jax.grad(loss)(adapted(params), query),
                jax.grad(lambda p: loss(adapted(p), query))(params),
            )
        )()
        assert_trees(found, expected)
        assert relative(exact, found) > 0.01


@pytest.mark.parametrize("eps_root", [0.0, 1e-8])
def test_adam_without_eps_root_has_no_second_derivative_at_a_zero_gradient(eps_root):
    def loss(params, batch):
        # The support set gives "dead" a gradient of zero, as dead units of ReLU have it.
        scale, alive = batch
        used, dead = jnp.square(params["used"] * scale), jnp.square(params["dead"])
        return jnp.sum(used) + alive * jnp.sum(dead)

    params = {"used": jnp.asarray([0.7, -0.2]), "dead": jnp.asarray([1.0, 2.0])}

    def gradient(**options):
        def meta(params):
            optimizer = optax.adam(0.1, eps_root=eps_root)
            result = adapt(loss, params, (1.5, 0.0), steps=2, optimizer=optimizer, **options)
            return loss(result, (0.5, 1.0))

        return jax.jit(jax.grad(meta))(params)

    found = gradient()
    assert np.isfinite(found["used"]).all()
    if eps_root:
        np.testing.assert_allclose(found["dead"], [2, 4])
    else:
        assert np.isnan(found["dead"]).all()
    # What leaves the second derivatives out has no such trouble.
    np.testing.assert_allclose(gradient(first_order=True)["dead"], [2, 4])


@pytest.mark.parametrize("kind", ["mlp", "conv4"])
def test_unrolling_and_recomputing_change_nothing(kind):
    def result(**options):
        meta, params = meta_loss(kind, optax.sgd(0.3, momentum=0.5), steps=3, **options)
        return jax.jit(jax.value_and_grad(meta))(params)

    if kind == "mlp":
        expected = result(unroll=True)
        others = [{"unroll": 1}, {"unroll": 2}, {"remat": True}, {"remat": True, "unroll": 2}]
    else:
        expected, others = result(unroll=1), [{"remat": True, "unroll": 1}]
    for options in others:
        assert_trees(result(**options), expected, rtol=1e-11)


def by_hand(loss, params, batch, steps, rate, per_step=None):
    """Losses before each of ``steps`` steps of gradient descent, and all parameters on the way."""
    losses, seen = [], [params]
    for i in range(steps):
        extra = () if per_step is None else (per_step[i],)
        value, gradients = jax.value_and_grad(loss)(params, batch, *extra)
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradients)
        losses.append(value)
        seen.append(params)
    return jnp.stack(losses), jax.tree.map(lambda *rows: jnp.stack(rows), *seen)


@pytest.mark.parametrize("unroll", [True, 1, 2])
def test_history_and_what_is_observed(unroll):
    loss, params, batch = quadratic()
    losses, seen = by_hand(loss, params, batch, 3, 0.4)

    def with_aux(params, batch):
        return loss(params, batch), {"a": params["a"] * 2}

    result, history = adapt(
        with_aux,
        params,
        batch,
        steps=3,
        optimizer=optax.sgd(0.4),
        unroll=unroll,
        has_aux=True,
        observe=lambda params, step: {"params": params, "step": step},
    )
    assert_trees(result, jax.tree.map(lambda x: x[-1], seen))
    assert_trees(history.loss, losses)
    assert_trees(history.aux, {"a": seen["a"][:-1] * 2})
    assert_trees(history.observed["params"], seen)
    np.testing.assert_array_equal(history.observed["step"], range(4))
    plain, short = adapt(
        loss, params, batch, steps=3, optimizer=optax.sgd(0.4), unroll=unroll, history=True
    )
    assert_trees((plain, short.loss), (result, losses))
    assert short.aux is None
    assert short.observed is None


@pytest.mark.parametrize("unroll", [True, 1])
def test_each_step_has_its_slice(unroll):
    loss, params, batch = quadratic()
    weights = jnp.asarray([0.5, 2.0, -1.0])

    def weighted(params, batch, extra):
        return loss(params, batch) * extra

    _, seen = by_hand(weighted, params, batch, 3, 0.2, weights)
    found = adapt(
        weighted,
        params,
        batch,
        steps=3,
        optimizer=optax.sgd(0.2),
        per_step=weights,
        unroll=unroll,
    )
    assert_trees(found, jax.tree.map(lambda x: x[-1], seen))
    # Any pytree will do, leaves that are none of them too.
    options = {"steps": 3, "optimizer": optax.sgd(0.2), "unroll": unroll}
    nested = adapt(
        lambda p, b, extra: weighted(p, b, extra[0]["w"]),
        params,
        batch,
        per_step=({"w": weights}, None),
        **options,
    )
    assert_trees(nested, found)
    with pytest.raises(ValueError, match=r"shape \(3,\); it should be \(2, ...\)"):
        adapt(weighted, params, batch, steps=2, optimizer=optax.sgd(0.2), per_step=weights)


def test_an_optimizer_goes_on_where_it_was():
    loss, params, batch = quadratic()
    optimizer = optax.adam(0.05)
    whole = adapt(loss, params, batch, steps=5, optimizer=optimizer)
    options = {"optimizer": optimizer}
    first, state = adapt(loss, params, batch, steps=2, opt_state=optimizer.init(params), **options)
    second, history, state = adapt(
        loss, first, batch, steps=3, opt_state=state, history=True, **options
    )
    assert_trees(second, whole)
    assert history.loss.shape == (3,)
    assert int(state[0].count) == 5
    assert relative(adapt(loss, first, batch, steps=3, **options), whole) > 1e-3


def test_no_steps():
    loss, params, batch = quadratic()
    options = {"steps": 0, "optimizer": optax.sgd(0.1)}
    for unroll in (True, 1):
        assert_trees(adapt(loss, params, batch, unroll=unroll, **options), params)
        result, history = adapt(
            loss, params, batch, unroll=unroll, observe=lambda p, i: (p["a"], i), **options
        )
        assert_trees(result, params)
        assert history.loss.shape == (0,)
        assert_trees(history.observed[0], params["a"][None])
        np.testing.assert_array_equal(history.observed[1], [0])
    with pytest.raises(ValueError, match="steps=-1"):
        adapt(loss, params, batch, steps=-1, optimizer=optax.sgd(0.1))


def rates_like(params, leading=()):
    rng = np.random.default_rng(3)

    def draw(shape):
        return jnp.asarray(rng.uniform(0.05, 0.6, size=(*leading, *shape)))

    per_leaf = {name: draw(()) for name in params}
    return per_leaf, {name: draw(leaf.shape) for name, leaf in params.items()}


@pytest.mark.parametrize("kind", ["leaf", "scalar"])
@pytest.mark.parametrize("unroll", [True, 1])
def test_rates_of_leaves_scalars_and_steps(kind, unroll):
    loss, params, batch = quadratic()
    steps = 4
    for stages in (None, 3):
        rates = rates_like(params, () if stages is None else (stages,))[kind == "scalar"]
        optimizer = optax.chain(optax.sgd(1.0), scale_by_rates(rates, per_step=stages is not None))
        found = adapt(loss, params, batch, steps=steps, optimizer=optimizer, unroll=unroll)
        expected = params
        for step in range(steps):
            # Beyond the end the last rates hold on.
            now = rates if stages is None else {k: r[min(step, 2)] for k, r in rates.items()}
            gradients = jax.grad(loss)(expected, batch)
            expected = {k: expected[k] - now[k] * gradients[k] for k in expected}
        assert_trees(found, expected)


@pytest.mark.parametrize("first_order", [False, True])
def test_rates_have_a_gradient_in_both_orders(first_order):
    loss, params, batch = quadratic()
    rates, _ = rates_like(params, (3,))

    def meta(rates):
        optimizer = optax.chain(optax.sgd(1.0), scale_by_rates(rates, per_step=True))
        options = {"steps": 3, "optimizer": optimizer, "first_order": first_order}
        return loss(adapt(loss, params, batch, **options), batch + 0.1)

    gradient = jax.jit(jax.grad(meta))(rates)
    assert all((np.abs(leaf) > 1e-6).all() for leaf in gradient.values())
    if not first_order:
        for along, difference in directional(jax.jit(meta), rates):
            np.testing.assert_allclose(inner(gradient, along), difference, rtol=1e-7)
        return
    # The gradient of the result times that of each step, since nothing goes through the steps.
    seen, steps = params, []
    for i in range(3):
        steps.append(jax.grad(loss)(seen, batch))
        seen = {k: seen[k] - rates[k][i] * steps[-1][k] for k in seen}
    last = jax.grad(loss)(seen, batch + 0.1)
    expected = {k: jnp.stack([-jnp.vdot(last[k], g[k]) for g in steps]) for k in seen}
    assert_trees(gradient, expected)


def test_recomputing_keeps_memory_from_growing_with_the_steps():
    # Compiled alone, and a loop over the steps, as ten of them written out take half a minute.
    with jax.enable_x64(False):
        model = models.create("conv4_omniglot_pooled", num_classes=5, conv_impl="matmul")

        def arrays(number):
            batch = {
                "input": jax.ShapeDtypeStruct((number, 28, 28, 1), jnp.float32),
                "target": jax.ShapeDtypeStruct((number,), jnp.int32),
                "mask": jax.ShapeDtypeStruct((number,), bool),
            }
            return {**batch, "class": batch["target"]}

        episode = {"support": arrays(5), "query": arrays(75)}
        images = episode["support"]["input"]
        state = jax.eval_shape(model.init, jax.random.key(0), images)
        params = {"model": state.pop("params")}

        def bytes_of(steps, remat):
            maml = Maml(
                model=model,
                num_classes=5,
                normalize=lambda images: images,
                inner_steps=steps,
                remat=remat,
                unroll=1,
            )
            compiled = jax.jit(maml.episode_gradients).lower(
                params, state, episode, jax.random.key(0)
            )
            return compiled.compile().memory_analysis().temp_size_in_bytes

        one, many, recomputed = bytes_of(1, True), bytes_of(10, False), bytes_of(10, True)
        assert recomputed < 1.5 * one
        assert many - one > 3 * abs(recomputed - one)
        assert many > 1.5 * one
