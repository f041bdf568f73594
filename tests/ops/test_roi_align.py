"""RoIAlign beside torchvision's and by hand, pooled by matrix products (small maps) and gathered (large ones)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops.roi_align import roi_align

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ops"
FILES = ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins")
# Every map here is small: pooled by products unless told otherwise.
WAYS = {"products": {}, "gathered": {"product_cells": 0}}

both_ways = pytest.mark.parametrize("way", WAYS)


def options(theirs):
    return {
        "stride": int(theirs["stride"]),
        "output_size": int(theirs["bins"]),
        "samples_per_bin": int(theirs["samples_per_bin"]),
    }


def pooled_and_gradient(theirs, rois, output_gradient, **other):
    pooled, pull_back = jax.vjp(lambda x: roi_align(x, rois, **options(theirs), **other), theirs["features"])
    return pooled, pull_back(output_gradient)[0]


@pytest.fixture(scope="module")
def fixtures():
    return {name: dict(np.load(FIXTURES / f"{name}.npz")) for name in FILES}


@pytest.fixture(scope="module")
def ours(fixtures):
    """Values and gradients by the way of pooling and the file."""
    return {
        (way, name): pooled_and_gradient(x, x["rois"], x["output_gradient"], **changes)
        for way, changes in WAYS.items()
        for name, x in fixtures.items()
    }


def named_rois():
    names = [(file, str(name)) for file in FILES for name in np.load(FIXTURES / f"{file}.npz")["names"]]
    return [pytest.param(*pair, id="-".join(pair)) for pair in names]


@both_ways
@pytest.mark.parametrize(("file", "name"), named_rois())
def test_bins_are_torchvisions(fixtures, ours, way, file, name):
    row = fixtures[file]["names"].tolist().index(name)
    np.testing.assert_allclose(ours[way, file][0][row], fixtures[file]["pooled"][row], rtol=1e-5, atol=1e-5)


@both_ways
@pytest.mark.parametrize("file", FILES)
def test_gradient_of_the_features_is_torchvisions(fixtures, ours, way, file):
    np.testing.assert_allclose(ours[way, file][1], fixtures[file]["features_gradient"], rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("file", FILES)
def test_both_ways_of_pooling_agree_and_share_one_gradient(ours, file):
    (by_products, gradient), (gathered, other_gradient) = ours["products", file], ours["gathered", file]
    np.testing.assert_allclose(by_products, gathered, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gradient, other_gradient)


def test_maps_up_to_the_limit_are_pooled_by_products_and_larger_ones_gathered():
    def operations(rows, columns, **limit):
        features, rois = np.zeros((rows, columns, 2), np.float32), np.zeros((1, 4), np.float32)
        program = str(jax.make_jaxpr(lambda x: roi_align(x, rois, 8, **limit))(features))
        return {name for name in ("gather", "dot_general") if f"{name}[" in program}

    assert operations(3, 4, product_cells=12) == operations(32, 32) == {"dot_general"}
    assert operations(3, 4, product_cells=11) == operations(25, 41) == {"gather"}


@both_ways
def test_linear_features_give_the_bins_centres(way):
    rows, columns = jnp.meshgrid(jnp.arange(8.0), jnp.arange(12.0), indexing="ij")
    features = jnp.stack([rows, columns, jnp.ones_like(rows)], axis=-1)
    # 32 x 16 px at stride 8: bins of 2 x 1 cells; half a cell lies between a pixel's and a cell's coordinate.
    pooled = roi_align(features, jnp.float32([[24, 16, 56, 32]]), 8, output_size=2, **WAYS[way])
    np.testing.assert_allclose(pooled[0, ..., 0], [[2, 2], [3, 3]], rtol=1e-6)
    np.testing.assert_allclose(pooled[0, ..., 1], [[3.5, 5.5], [3.5, 5.5]], rtol=1e-6)
    np.testing.assert_allclose(pooled[0, ..., 2], np.ones((2, 2)), rtol=1e-6)


@both_ways
def test_single_sample_between_four_cells_is_their_mean_and_shares_the_gradient(way):
    features = jnp.float32([[1, 2, 40], [3, 6, 50]])[..., None]
    point = jnp.float32([[8, 8, 8, 8]])
    pooled, gradient = jax.value_and_grad(lambda x: roi_align(x, point, 8, 1, 1, **WAYS[way])[0, 0, 0, 0])(features)
    assert pooled == 3
    np.testing.assert_allclose(gradient[..., 0], [[0.25, 0.25, 0], [0.25, 0.25, 0]])


def test_gathering_does_not_read_a_nan_cell_from_the_other_end_of_the_row_before():
    features = jnp.arange(20.0).reshape(4, 5, 1).at[3, 0].set(jnp.nan)
    beyond_the_last_centre_of_row_2 = jnp.float32([[40, 20, 40, 20]])
    assert roi_align(features, beyond_the_last_centre_of_row_2, 8, 1, 1, product_cells=0).item() == 14


@both_ways
def test_nan_roi_gives_zeros_and_leaves_the_others_values_and_gradient(fixtures, ours, way):
    theirs = fixtures["roi_align_stride8"]
    pooled, gradient = ours[way, "roi_align_stride8"]
    padding = np.full((3, 4), np.nan, np.float32)
    padding[1, 1:] = 20
    rois = np.concatenate([padding, theirs["rois"]])
    output_gradient = np.concatenate([theirs["output_gradient"][:3] + 1, theirs["output_gradient"]])
    padded_pooled, padded_gradient = pooled_and_gradient(theirs, rois, output_gradient, **WAYS[way])
    np.testing.assert_array_equal(padded_pooled[:3], np.zeros_like(padded_pooled[:3]))
    np.testing.assert_allclose(padded_pooled[3:], pooled, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(padded_gradient, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 4, 19, 64])
def test_chunks_that_do_and_do_not_divide_the_rois_give_the_same_gradient(fixtures, ours, chunk_size):
    theirs = fixtures["roi_align_stride16"]
    _, gradient = pooled_and_gradient(theirs, theirs["rois"], theirs["output_gradient"], chunk_size=chunk_size)
    np.testing.assert_allclose(gradient, ours["products", "roi_align_stride16"][1], rtol=1e-5, atol=1e-5)


@both_ways
def test_batch_of_images_gives_what_each_gives_alone(way):
    rng = np.random.default_rng(4)
    features = rng.standard_normal((2, 5, 7, 3), np.float32)
    corner, size = rng.uniform(-10, 40, (2, 4, 2)), rng.uniform(5, 40, (2, 4, 2))
    rois = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    output_gradient = rng.standard_normal((2, 4, 7, 7, 3), np.float32)

    def both(features, rois, output_gradient):
        pooled, pull_back = jax.vjp(lambda x: roi_align(x, rois, 8, **WAYS[way]), features)
        return pooled, pull_back(output_gradient)[0]

    batch = jax.jit(jax.vmap(both))(features, rois, output_gradient)
    for image in range(2):
        alone = both(features[image], rois[image], output_gradient[image])
        for together, single in zip(batch, alone, strict=True):
            np.testing.assert_allclose(together[image], single, rtol=1e-5, atol=1e-5)


@both_ways
def test_no_gradient_flows_to_the_rois(way):
    features = np.random.default_rng(6).standard_normal((5, 7, 3), np.float32)
    rois = jnp.float32([[4, 4, 30, 30], [np.nan] * 4])
    np.testing.assert_array_equal(
        jax.grad(lambda x: roi_align(features, x, 8, **WAYS[way]).sum())(rois), np.zeros((2, 4))
    )
