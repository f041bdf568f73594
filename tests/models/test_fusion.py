"""Modality fusion, Eq. 10-13, and its alternatives of Table III."""

import jax
import numpy as np
import pytest
from module_cases import apply, zero_params

from dcrl_jax.models.fusion import ModalityFusion, averaging_matrix, fuse

pytestmark = pytest.mark.usefixtures("quick_compile")

LN3 = np.log(3.0)


def random_features():
    return tuple(np.random.default_rng(0).normal(size=(2, 3, 5, 7, 2)).astype(np.float32))


def test_eq_10_and_11_mlp_of_both_flattened_maps_then_softmax():
    visible = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    features = (visible, 100 + visible)
    module = ModalityFusion(grid=None, hidden=3)
    params = zero_params(module, features)
    assert params["hidden"]["kernel"].shape == (24, 3)
    # Inputs are ordered by map, row and cell: 7 is channel 1 of cell (1, 0) of the visible map, 14 is channel 0 of
    # cell (0, 1) of the thermal map.
    params["hidden"]["kernel"][[7, 14, 23], [0, 1, 2]] = [0.1, 0.01, -1.0]
    params["hidden"]["bias"][:] = [0.3, 0.0, 100.0]
    params["logits"]["kernel"][:] = [[2, 0], [0, 1], [5, 7]]
    params["logits"]["bias"][:] = [0.0, 0.5]
    # The hidden units are 0.7 + 0.3, 1.02 and, below zero, 100 - 111.
    w = np.array([2 * 1.0, 1.02 + 0.5])
    np.testing.assert_allclose(apply(module, params, features), [np.exp(w) / np.exp(w).sum()], rtol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "learned"), [("maf", {"hidden", "logits"}), ("linear", {"weights"}), ("average", set())]
)
def test_initial_weights_are_one_half(strategy, learned):
    module = ModalityFusion(strategy)
    mu, variables = jax.jit(module.init_with_output)(jax.random.key(0), random_features())
    np.testing.assert_array_equal(mu, np.full((3, 2), 0.5))
    assert set(variables.get("params", {})) == learned


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


def test_eq_12_fused_outputs_are_the_weighted_sum_of_the_branches():
    mu = np.float32([[0.25, 0.75], [1.0, 0.0]])
    branches = np.float32(
        [
            [[[4, 8], [0, 4], [1, 1]], [[1, 2], [3, 4], [5, 6]]],
            [[[8, 4], [4, 0], [1, 1]], [[-9, -9], [-9, -9], [-9, -9]]],
        ]
    )
    fused, pull_back = jax.vjp(fuse, mu, branches)
    np.testing.assert_allclose(fused, [[[7, 5], [3, 1], [1, 1]], [[1, 2], [3, 4], [5, 6]]])
    # The gradient of the sum: for mu the sums of the branches, for the branches mu.
    for_mu, for_branches = pull_back(np.ones((2, 3, 2), np.float32))
    np.testing.assert_allclose(for_mu, [[18, 18], [21, -54]])
    np.testing.assert_allclose(for_branches, np.broadcast_to(mu.T[..., None, None], branches.shape))
