"""RoIAlign compared with torchvision's and computed by hand, pooled by products (small maps) and gathered (large)."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops.roi_align import roi_align

pytestmark = pytest.mark.usefixtures("quick_compile")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ops"
FILES = ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins")
# Every map here is small, and pooled by products unless ``product_cells`` forbids it.
WAYS = {"products": {}, "gathered": {"product_cells": 0}}

both_ways = pytest.mark.parametrize("way", WAYS)


def run(features, rois, output_gradient, stride=8, **options):
    """Pooled values and the gradient of the features."""
    pooled, pull_back = jax.vjp(lambda x: roi_align(x, rois, stride, **options), features)
    return pooled, pull_back(output_gradient)[0]


def pool(fixture, **options):
    options |= {name: int(fixture[name]) for name in ("stride", "samples_per_bin")}
    options["output_size"] = int(fixture["bins"])
    arrays = [fixture[name] for name in ("features", "rois", "output_gradient")]
    return jax.device_get(jax.jit(functools.partial(run, **options))(*arrays))


@pytest.fixture(scope="module")
def fixtures():
    return {name: dict(np.load(FIXTURES / f"{name}.npz")) for name in FILES}


@pytest.fixture(scope="module")
def ours(fixtures):
    """Values and gradients by the way of pooling and the file."""
    return {(way, name): pool(x, **options) for way, options in WAYS.items() for name, x in fixtures.items()}


@both_ways
@pytest.mark.parametrize("file", FILES)
def test_values_and_gradient_equal_torchvision(fixtures, ours, way, file):
    theirs, (pooled, gradient) = fixtures[file], ours[way, file]
    for row, name in enumerate(theirs["names"]):
        np.testing.assert_allclose(pooled[row], theirs["pooled"][row], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(gradient, theirs["features_gradient"], rtol=1e-5, atol=5e-5)
    # Both ways share one gradient, in programs that add up in orders of their own.
    np.testing.assert_allclose(gradient, ours["products", file][1], rtol=1e-5, atol=1e-5)


def test_maps_up_to_the_limit_are_pooled_by_products_and_larger_gathered():
    def operations(rows, columns, **limit):
        features, rois = np.zeros((rows, columns, 2), np.float32), np.zeros((1, 4), np.float32)
        program = str(jax.make_jaxpr(lambda x: roi_align(x, rois, 8, **limit))(features))
        return {name for name in ("gather", "dot_general") if f"{name}[" in program}

    assert operations(3, 4, product_cells=12) == operations(32, 32) == {"dot_general"}
    assert operations(3, 4, product_cells=11) == operations(25, 41) == {"gather"}


def test_gathering_does_not_read_beyond_the_end_of_a_row():
    features = np.arange(20, dtype=np.float32).reshape(4, 5, 1)
    features[3, 0] = np.nan
    beyond_the_last_centre_of_row_2 = np.float32([[40, 20, 40, 20]])
    assert roi_align(features, beyond_the_last_centre_of_row_2, 8, 1, 1, product_cells=0).item() == 14


@both_ways
def test_nan_roi_gives_zeros_and_leaves_the_others(fixtures, ours, way):
    theirs = fixtures["roi_align_stride8"]
    pooled, gradient = ours[way, "roi_align_stride8"]
    padding = np.full((3, 4), np.nan, np.float32)
    padding[1, 1:] = 20
    rois = np.concatenate([padding, theirs["rois"]])
    output_gradient = np.concatenate([theirs["output_gradient"][:3] + 1, theirs["output_gradient"]])
    padded = theirs | {"rois": rois, "output_gradient": output_gradient}
    padded_pooled, padded_gradient = pool(padded, **WAYS[way])
    assert not padded_pooled[:3].any()
    np.testing.assert_allclose(padded_pooled[3:], pooled, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(padded_gradient, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 4, 64])  # of 19 RoIs
def test_gradient_does_not_depend_on_the_chunk_size(fixtures, ours, chunk_size):
    _, gradient = pool(fixtures["roi_align_stride16"], chunk_size=chunk_size)
    np.testing.assert_allclose(gradient, ours["products", "roi_align_stride16"][1], rtol=1e-5, atol=1e-5)


@both_ways
def test_image_gives_the_same_in_a_batch_and_by_itself(way):
    rng = np.random.default_rng(4)
    features = rng.standard_normal((2, 5, 7, 3), np.float32)
    corner, size = rng.uniform(-10, 40, (2, 4, 2)), rng.uniform(5, 40, (2, 4, 2))
    rois = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    output_gradient = rng.standard_normal((2, 4, 7, 7, 3), np.float32)

    program = functools.partial(run, **WAYS[way])
    batch = jax.jit(jax.vmap(program))(features, rois, output_gradient)
    single = jax.jit(program)
    singles = [single(*image) for image in zip(features, rois, output_gradient, strict=True)]
    for together, *images in zip(batch, *singles, strict=True):
        np.testing.assert_allclose(together, images, rtol=1e-5, atol=1e-5)


@both_ways
def test_rois_have_no_gradient(way):
    features = np.random.default_rng(6).standard_normal((5, 7, 3), np.float32)
    gradient = jax.jit(jax.grad(lambda x: roi_align(features, x, 8, **WAYS[way]).sum()))
    assert not gradient(jnp.float32([[4, 4, 30, 30], [np.nan] * 4])).any()
