"""VGG-16's features beside torchvision's, at an eighth of its channels."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from dcrl_jax.models import pretrained, vgg16
from dcrl_jax.models.vgg16 import BLOCKS, Vgg16

FIXTURE = Path(__file__).parents[1] / "fixtures" / "vgg16_features.npz"
WIDTH = 0.125


@pytest.fixture(scope="module")
def theirs():
    return dict(np.load(FIXTURE))


def all_blocks(module, image, stride):
    """Features of every block, each fed by the pooled ones before it."""
    features, outputs = vgg16.normalise(image), []
    for block in range(1, len(BLOCKS) + 1):
        features = module.block(block, features)
        outputs.append(features)
        if block in vgg16.pools_after(stride):
            features = vgg16.pool(features)
    return outputs


def initial_params(norm, image):
    abstract = jax.eval_shape(lambda key: Vgg16(WIDTH, norm).init(key, image, 8, method=all_blocks), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), abstract["params"])


@pytest.fixture(scope="module")
def convolutions(theirs, tmp_path_factory):
    """The fixture's weights, by the way that a user's file of torchvision's weights takes."""
    tensors = {}
    for name, values in theirs.items():
        if name.startswith("features.") and not name.endswith("scale"):
            tensors[name] = values * theirs[f"{name.rsplit('.', 1)[0]}.scale"]
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    save_file(tensors, path)
    params = {"backbones_visible": initial_params("none", theirs["image"][None])}
    return pretrained.load_vgg16(str(path), params)["backbones_visible"]


@pytest.fixture(scope="module")
def features(theirs, convolutions):
    """Features of every block by stride."""
    run = jax.jit(Vgg16(WIDTH).apply, static_argnums=2, static_argnames="method")
    image = jnp.asarray(theirs["image"])[None]
    return {stride: run({"params": convolutions}, image, stride, method=all_blocks) for stride in (8, 16)}


def assert_close(ours, expected):
    assert ours.shape == (1, *expected.shape)
    assert np.abs(np.asarray(ours[0]) - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("block", [1, 2, 3, 4, 5])
def test_features_of_each_block_are_torchvisions(theirs, features, block, stride):
    name = f"conv5_stride{stride}" if block == 5 else f"conv{block}"
    assert_close(features[stride][block - 1], theirs[name])


def test_group_norm_stands_between_convolution_and_relu_as_torchs_does(theirs, convolutions):
    params = dict(convolutions)
    for name in ("norm1_1", "norm1_2"):
        params[name] = {kind: theirs[f"{name}.{kind}"] for kind in ("scale", "bias")}
    image = vgg16.normalise(theirs["image"][None])
    ours = Vgg16(WIDTH, "group").apply({"params": params}, 1, image, method="block")
    assert_close(ours, theirs["conv1_with_group_norm"])


@pytest.mark.parametrize(("norm", "layers_per_convolution"), [("none", 1), ("group", 2)])
def test_every_convolution_has_a_norm_only_where_asked(theirs, norm, layers_per_convolution):
    params = initial_params(norm, theirs["image"][None])
    assert len(params) == 13 * layers_per_convolution
    assert {name for name in params if name.startswith("conv")} == {
        f"conv{block}_{layer}" for block, (_, count) in enumerate(BLOCKS, 1) for layer in range(1, count + 1)
    }


def test_normalise_is_torchvisions(theirs):
    np.testing.assert_array_equal(vgg16.IMAGENET_MEAN, theirs["mean"])
    np.testing.assert_array_equal(vgg16.IMAGENET_STD, theirs["std"])
    np.testing.assert_allclose(vgg16.normalise(theirs["image"]), theirs["normalised"], rtol=1e-5, atol=1e-6)


def test_normalise_replicates_grey(theirs):
    grey = theirs["image"][..., :1]
    np.testing.assert_array_equal(vgg16.normalise(grey), vgg16.normalise(np.repeat(grey, 3, axis=-1)))


def test_channels_follow_the_width_and_never_fall_below_four():
    assert [vgg16.block_channels(block, 1.0) for block in range(1, 6)] == [64, 128, 256, 512, 512]
    assert [vgg16.block_channels(block, WIDTH) for block in range(1, 6)] == [8, 16, 32, 64, 64]
    assert [vgg16.block_channels(block, 0.01) for block in range(1, 6)] == [4, 4, 4, 5, 5]


@pytest.mark.parametrize(("stride", "cells"), [(8, (4, 6)), (16, (2, 3))])
def test_last_features_have_the_stride_asked_for(features, stride, cells):
    assert features[stride][-1].shape[1:3] == cells


def test_pool_takes_the_largest_of_two_by_two():
    features = jnp.arange(24.0).reshape(1, 2, 6, 2)
    np.testing.assert_array_equal(vgg16.pool(features)[0], [[[14, 15], [18, 19], [22, 23]]])
