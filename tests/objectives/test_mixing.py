import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.objectives import cutmix, mix, mixup

IMAGES = jnp.arange(6.0)[:, None, None, None] * jnp.ones((6, 8, 10, 3))
LABELS = jnp.eye(6)


def test_mixup_mixes_images_and_labels_alike():
    images, labels = mixup(jax.random.key(0), IMAGES, LABELS, 0.8)
    lam = float(labels[0, 0])
    assert 0 < lam < 1
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
    expected = lam * IMAGES + (1 - lam) * jnp.roll(IMAGES, 1, axis=0)
    np.testing.assert_allclose(images, expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_weighs_labels_by_the_area_that_is_left(seed):
    images, labels = cutmix(jax.random.key(seed), IMAGES, LABELS, 1.0)
    # Every pixel is from one of the two images, and the pasted ones make up one box.
    images = np.asarray(images)
    pasted = (images[1] != 1.0)[..., 0]
    assert np.isin(images[1], [0.0, 1.0]).all()
    rows, columns = pasted.any(1), pasted.any(0)
    np.testing.assert_array_equal(pasted, rows[:, None] & columns[None, :])
    assert (np.diff(np.flatnonzero(rows)) == 1).all()
    np.testing.assert_allclose(labels[1, 1], 1 - pasted.mean(), atol=1e-6)
    np.testing.assert_allclose(labels[1, 0], pasted.mean(), atol=1e-6)


def test_lambda_follows_beta():
    keys = jax.random.split(jax.random.key(0), 4000)
    lam = jax.vmap(lambda key: mixup(key, IMAGES[:2, :1, :1], LABELS[:2, :2], 0.3)[1][0, 0])(keys)
    assert float(lam.mean()) == pytest.approx(0.5, abs=0.02)
    # Var Beta(a, a) = 1 / (4 (2a + 1)).
    assert float(lam.var()) == pytest.approx(1 / (4 * 1.6), rel=0.05)


def test_a_share_of_the_batches_is_mixed():
    keys = jax.random.split(jax.random.key(1), 2000)

    def mixed(key):
        images, _ = mix(key, IMAGES[:2], LABELS[:2], mixup_alpha=1.0, probability=0.25)
        return jnp.any(images != IMAGES[:2])

    assert float(jax.vmap(mixed)(keys).mean()) == pytest.approx(0.25, abs=0.04)


def test_both_kinds_have_equal_chances():
    keys = jax.random.split(jax.random.key(2), 2000)

    def pasted(key):
        images, _ = mix(key, IMAGES[:2], LABELS[:2], mixup_alpha=1.0, cutmix_alpha=1.0)
        return jnp.all((images == 0) | (images == 1))

    assert float(jax.vmap(pasted)(keys).mean()) == pytest.approx(0.5, abs=0.05)


def test_off_is_off():
    images, labels = mix(jax.random.key(0), IMAGES, LABELS)
    assert images is IMAGES
    assert labels is LABELS
