"""The max pool compared with XLA's, ties and odd sides included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops.pooling import max_pool

pytestmark = pytest.mark.usefixtures("quick_compile")


def xla_pool(features):
    lowest = jnp.array(-jnp.inf, features.dtype)
    return jax.lax.reduce_window(features, lowest, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize("size", [(8, 6), (5, 7)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradient_equal_xlas_with_ties(size, dtype):
    rng = np.random.default_rng(0)
    features = jnp.asarray(np.maximum(rng.integers(-3, 3, (2, *size, 3)), 0), dtype)
    expected, expected_pull = jax.vjp(xla_pool, features)
    found, pull = jax.vjp(max_pool, features)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype
    gradient = jnp.asarray(rng.normal(size=found.shape), dtype)
    np.testing.assert_array_equal(pull(gradient)[0], expected_pull(gradient)[0])


def test_gradient_goes_to_the_first_maximum_by_hand():
    features = jnp.array([[1.0, 3.0], [3.0, 2.0]])[None, :, :, None]
    gradient = jax.grad(lambda x: 5 * max_pool(x).sum())(features)
    assert gradient[0, :, :, 0].tolist() == [[0, 5], [0, 0]]


def test_other_platforms_get_xlas_pool():
    lowered = jax.jit(max_pool).trace(jnp.zeros((1, 4, 4, 1))).lower(lowering_platforms=("cuda",)).as_text()
    assert "reduce_window" in lowered
