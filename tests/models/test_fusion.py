"""Modality fusion, Eq. 10-13, and its rivals of Table III."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.fusion import ModalityFusion, averaging_matrix, fuse

LN3 = np.log(3.0)


def zero_params(module, features):
    shapes = jax.eval_shape(module.init, jax.random.key(0), features)["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


def random_features(batch=3, height=5, width=7, channels=2):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(batch, height, width, channels)).astype(np.float32) for _ in range(2))


def test_eq_10_flattens_and_joins_both_maps_and_runs_the_mlp():
    visible = jnp.arange(12.0).reshape(1, 2, 3, 2)
    features = (visible, 100 + visible)
    module = ModalityFusion(grid=None, hidden=3)
    params = zero_params(module, features)
    assert params["hidden"]["kernel"].shape == (24, 3)
    # Inputs come map by map, row by row, cell by cell: 7 is channel 1 of cell (1, 0) of the visible map, 14 is
    # channel 0 of cell (0, 1) of the thermal one.
    params["hidden"]["kernel"][7, 0] = 0.1
    params["hidden"]["kernel"][14, 1] = 0.01
    params["hidden"]["kernel"][23, 2] = -1.0
    params["hidden"]["bias"][:] = [0.3, 0.0, 100.0]
    params["logits"]["kernel"][:] = [[2, 0], [0, 1], [5, 7]]
    params["logits"]["bias"][:] = [0.0, 0.5]
    mu = module.apply({"params": params}, features)
    # The hidden units are 0.7 + 0.3, 1.02 and, below zero, 100 - 111.
    w = np.array([2 * 1.0, 1.02 + 0.5])
    np.testing.assert_allclose(mu, [np.exp(w) / np.exp(w).sum()], rtol=1e-5)


def test_eq_11_mu_is_the_softmax_of_w_for_each_image():
    features = (jnp.array([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1), jnp.zeros((3, 1, 1, 1)))
    module = ModalityFusion(grid=None, hidden=1)
    params = zero_params(module, features)
    params["hidden"]["kernel"][0, 0] = 1.0
    params["logits"]["kernel"][0] = [LN3, 0.0]
    mu = module.apply({"params": params}, features)
    np.testing.assert_allclose(mu, [[1 / 2, 1 / 2], [3 / 4, 1 / 4], [9 / 10, 1 / 10]], rtol=1e-6)


def test_mu_of_random_weights_lies_in_0_to_1_differs_between_images_and_adds_up_to_one():
    features = random_features()
    module = ModalityFusion(grid=(2, 3), hidden=4)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), zero_params(module, features))
    mu = np.asarray(module.apply({"params": params}, features))
    assert ((mu > 0) & (mu < 1)).all()
    assert len(np.unique(mu)) == mu.size
    np.testing.assert_allclose(mu.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["maf", "linear"])
def test_start_weighs_both_modalities_by_one_half_whatever_the_image(strategy):
    features = random_features()
    module = ModalityFusion(strategy)
    params = module.init(jax.random.key(0), features)
    np.testing.assert_array_equal(module.apply(params, features), np.full((3, 2), 0.5, np.float32))


def test_gradient_reaches_the_mlp_at_its_zero_start():
    features = random_features()
    module = ModalityFusion()
    params = module.init(jax.random.key(0), features)
    gradient = jax.grad(lambda p: jnp.sum(module.apply(p, features)[:, 0]))(params)["params"]
    assert np.abs(gradient["logits"]["kernel"]).max() > 1e-3


def test_linear_learns_one_weight_a_modality_and_ignores_the_image():
    features = random_features()
    module = ModalityFusion("linear")
    params = zero_params(module, features)
    assert {name: leaf.shape for name, leaf in params.items()} == {"weights": (2,)}
    mu = module.apply({"params": {"weights": jnp.array([LN3, 0.0])}}, features)
    np.testing.assert_allclose(mu, [[0.75, 0.25]] * 3, rtol=1e-6)


def test_average_has_no_parameters_and_weighs_by_one_half():
    module = ModalityFusion("average")
    mu, variables = module.init_with_output(jax.random.key(0), random_features())
    assert variables == {}
    np.testing.assert_array_equal(mu, np.full((3, 2), 0.5, np.float32))


def test_grid_averages_the_map_before_the_mlp():
    visible = jnp.array([[1.0, 3.0, 10.0, 20.0], [5.0, 7.0, 30.0, 40.0]]).reshape(1, 2, 4, 1)
    features = (visible, jnp.zeros_like(visible))
    module = ModalityFusion(grid=(2, 2), hidden=1)
    params = zero_params(module, features)
    assert params["hidden"]["kernel"].shape == (8, 1)
    # The visible map's cells are 2 and 15 above 6 and 35.
    params["hidden"]["kernel"][:4, 0] = [1.0, 0.1, 0.01, 0.0]
    params["logits"]["kernel"][0] = [0.1, 0.0]
    mu = module.apply({"params": params}, features)
    np.testing.assert_allclose(mu[0, 0], 1 / (1 + np.exp(-0.356)), rtol=1e-6)


def test_grid_makes_the_mlp_fit_every_input_size():
    module = ModalityFusion(grid=(2, 3), hidden=4)
    params = zero_params(module, random_features(height=5, width=7))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, zero_params(module, random_features(height=2)))
    mu = module.apply({"params": params}, random_features(height=4, width=9))
    np.testing.assert_array_equal(mu, np.full((3, 2), 0.5, np.float32))


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


def test_eq_12_final_logits_are_the_weighted_sum_of_the_branches():
    mu = jnp.array([[0.25, 0.75], [1.0, 0.0]])
    visible = [[[4, 8], [0, 4], [1, 1]], [[1, 2], [3, 4], [5, 6]]]
    lwir = [[[8, 4], [4, 0], [1, 1]], [[-9, -9], [-9, -9], [-9, -9]]]
    fused = fuse(mu, jnp.array([visible, lwir], jnp.float32))
    np.testing.assert_allclose(fused, [[[7, 5], [3, 1], [1, 1]], [[1, 2], [3, 4], [5, 6]]])


def test_eq_13_final_offsets_are_the_weighted_sum_of_the_branches():
    mu = jnp.array([[0.5, 0.5], [0.125, 0.875]])
    visible = [[[1, 2, 3, 4]], [[8, 0, 8, 0]]]
    lwir = [[[3, 2, 1, 0]], [[0, 8, 8, 16]]]
    fused = fuse(mu, jnp.array([visible, lwir], jnp.float32))
    np.testing.assert_allclose(fused, [[[2, 2, 2, 2]], [[1, 7, 8, 14]]])


def test_eq_12_is_differentiable_in_the_weights_and_in_the_branches():
    mu = jnp.array([[0.25, 0.75]])
    branches = jnp.array([2.0, 5.0]).reshape(2, 1, 1, 1)
    by_mu, by_branch = jax.grad(lambda m, b: fuse(m, b).sum(), argnums=(0, 1))(mu, branches)
    np.testing.assert_allclose(by_mu, [[2, 5]])
    np.testing.assert_allclose(by_branch.ravel(), [0.25, 0.75])
