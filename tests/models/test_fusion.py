"""Modality fusion, Eq. 10-13, and its alternatives of Table III."""

import jax
import numpy as np
import pytest
from module_cases import apply, random_params, zero_params

from dcrl_jax.models.fusion import ModalityFusion, averaging_matrix, fuse

pytestmark = pytest.mark.usefixtures("quick_compile")

LN3 = np.log(3.0)
HALVES = np.full((3, 2), 0.5, np.float32)


def random_features(batch=3, height=5, width=7, channels=2):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(batch, height, width, channels)).astype(np.float32) for _ in range(2))


def test_eq_10_flattens_and_joins_both_maps_and_applies_the_mlp():
    visible = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    features = (visible, 100 + visible)
    module = ModalityFusion(grid=None, hidden=3)
    params = zero_params(module, features)
    assert params["hidden"]["kernel"].shape == (24, 3)
    # Inputs are ordered by map, row and cell: 7 is channel 1 of cell (1, 0) of the visible map, 14 is channel 0 of
    # cell (0, 1) of the thermal map.
    params["hidden"]["kernel"][7, 0] = 0.1
    params["hidden"]["kernel"][14, 1] = 0.01
    params["hidden"]["kernel"][23, 2] = -1.0
    params["hidden"]["bias"][:] = [0.3, 0.0, 100.0]
    params["logits"]["kernel"][:] = [[2, 0], [0, 1], [5, 7]]
    params["logits"]["bias"][:] = [0.0, 0.5]
    # The hidden units are 0.7 + 0.3, 1.02 and, below zero, 100 - 111.
    w = np.array([2 * 1.0, 1.02 + 0.5])
    np.testing.assert_allclose(apply(module, params, features), [np.exp(w) / np.exp(w).sum()], rtol=1e-5)


def test_eq_11_mu_is_the_softmax_of_w_for_each_image():
    features = np.float32([0, 1, 2]).reshape(3, 1, 1, 1), np.zeros((3, 1, 1, 1), np.float32)
    module = ModalityFusion(grid=None, hidden=1)
    params = zero_params(module, features)
    params["hidden"]["kernel"][0, 0] = 1.0
    params["logits"]["kernel"][0] = [LN3, 0.0]
    mu = apply(module, params, features)
    np.testing.assert_allclose(mu, [[1 / 2, 1 / 2], [3 / 4, 1 / 4], [9 / 10, 1 / 10]], rtol=1e-6)


def test_mu_of_random_weights_is_in_0_to_1_and_sums_to_one():
    features = random_features()
    module = ModalityFusion(grid=(2, 3), hidden=4)
    mu = apply(module, random_params(module, features), features)
    assert ((mu > 0) & (mu < 1)).all()
    assert len(np.unique(mu)) == mu.size
    np.testing.assert_allclose(mu.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "learned"), [("maf", {"hidden", "logits"}), ("linear", {"weights"}), ("average", set())]
)
def test_initial_weights_are_one_half(strategy, learned):
    module = ModalityFusion(strategy)
    mu, variables = jax.jit(module.init_with_output)(jax.random.key(0), random_features())
    np.testing.assert_array_equal(mu, HALVES)
    assert set(variables.get("params", {})) == learned


def test_gradient_reaches_the_mlp_from_its_initial_zeros():
    features, module = random_features(), ModalityFusion()
    params = zero_params(module, features) | {"hidden": random_params(module, features)["hidden"]}
    gradient = jax.jit(jax.grad(lambda p: module.apply({"params": p}, features)[:, 0].sum()))(params)
    assert np.abs(gradient["logits"]["kernel"]).max() > 1e-3


def test_linear_learns_one_weight_per_modality_and_ignores_the_image():
    mu = apply(ModalityFusion("linear"), {"weights": np.float32([LN3, 0.0])}, random_features())
    np.testing.assert_allclose(mu, [[0.75, 0.25]] * 3, rtol=1e-6)


def test_grid_averages_the_map_before_the_mlp():
    visible = np.float32([[1, 3, 10, 20], [5, 7, 30, 40]]).reshape(1, 2, 4, 1)
    features = (visible, np.zeros_like(visible))
    module = ModalityFusion(grid=(2, 2), hidden=1)
    params = zero_params(module, features)
    assert params["hidden"]["kernel"].shape == (8, 1)
    # The visible map's cells are 2 and 15 above 6 and 35.
    params["hidden"]["kernel"][:4, 0] = [1.0, 0.1, 0.01, 0.0]
    params["logits"]["kernel"][0] = [0.1, 0.0]
    mu = apply(module, params, features)
    np.testing.assert_allclose(mu[0, 0], 1 / (1 + np.exp(-0.356)), rtol=1e-6)


def test_grid_makes_the_mlp_independent_of_the_input_size():
    module = ModalityFusion(grid=(2, 3), hidden=4)
    params = zero_params(module, random_features(height=5, width=7))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, zero_params(module, random_features(height=2)))
    np.testing.assert_array_equal(apply(module, params, random_features(height=4, width=9)), HALVES)


@pytest.mark.parametrize(
    ("cells", "size", "expected"),
    [
        (2, 4, [[1 / 2, 1 / 2, 0, 0], [0, 0, 1 / 2, 1 / 2]]),
        # Parts that do not divide the map evenly share a pixel, as in adaptive average pooling.
        (2, 3, [[1 / 2, 1 / 2, 0], [0, 1 / 2, 1 / 2]]),
        (3, 2, [[1, 0], [1 / 2, 1 / 2], [0, 1]]),
        (1, 3, [[1 / 3, 1 / 3, 1 / 3]]),
    ],
)
def test_averaging_matrix_of_even_and_uneven_parts(cells, size, expected):
    matrix = averaging_matrix(cells, size)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("mu", "visible", "lwir", "expected"),
    [
        (
            [[0.25, 0.75], [1.0, 0.0]],
            [[[4, 8], [0, 4], [1, 1]], [[1, 2], [3, 4], [5, 6]]],
            [[[8, 4], [4, 0], [1, 1]], [[-9, -9], [-9, -9], [-9, -9]]],
            [[[7, 5], [3, 1], [1, 1]], [[1, 2], [3, 4], [5, 6]]],
        ),
        (
            [[0.5, 0.5], [0.125, 0.875]],
            [[[1, 2, 3, 4]], [[8, 0, 8, 0]]],
            [[[3, 2, 1, 0]], [[0, 8, 8, 16]]],
            [[[2, 2, 2, 2]], [[1, 7, 8, 14]]],
        ),
    ],
    ids=["logits, Eq. 12", "offsets, Eq. 13"],
)
def test_fused_outputs_are_the_weighted_sum_of_the_branches(mu, visible, lwir, expected):
    np.testing.assert_allclose(jax.jit(fuse)(np.float32(mu), np.float32([visible, lwir])), expected)


def test_eq_12_has_gradients_for_the_weights_and_the_branches():
    branches = np.float32([2, 5]).reshape(2, 1, 1, 1)
    gradients = jax.jit(jax.grad(lambda m, b: fuse(m, b).sum(), argnums=(0, 1)))
    for_mu, for_branches = gradients(np.float32([[0.25, 0.75]]), branches)
    np.testing.assert_allclose(for_mu, [[2, 5]])
    np.testing.assert_allclose(for_branches.ravel(), [0.25, 0.75])
