"""VGG-16's features compared with torchvision's, at an eighth of its channels."""

from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dcrl_jax.models import pretrained, vgg16
from dcrl_jax.models.vgg16 import BLOCKS, Vgg16
from dcrl_jax.ops.pooling import max_pool

pytestmark = pytest.mark.usefixtures("quick_compile")

FIXTURE = Path(__file__).parents[1] / "fixtures" / "vgg16_features.npz"
WIDTH = 0.125


@pytest.fixture(scope="module")
def torchvision():
    return dict(np.load(FIXTURE))


def all_blocks(module, image, stride):
    """Features of every block, each from the pooled features of the block before."""
    features, outputs = vgg16.normalise(image), []
    for block in range(1, len(BLOCKS) + 1):
        features = module.block(block, features)
        outputs.append(features)
        if block in vgg16.pools_after(stride):
            features = max_pool(features)
    return outputs


def zero_params(norm, image):
    shapes = jax.eval_shape(lambda key: Vgg16(WIDTH, norm).init(key, image, 8, method=all_blocks), jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes["params"])


@pytest.fixture(scope="module")
def convolutions(torchvision, tmp_path_factory):
    """The fixture's weights, loaded as a user's file of torchvision's weights is."""
    tensors = {}
    for name, values in torchvision.items():
        if name.startswith("features.") and not name.endswith("scale"):
            tensors[name] = values * torchvision[f"{name.rsplit('.', 1)[0]}.scale"]
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    save_file(tensors, path)
    params = {"backbones_visible": zero_params("none", torchvision["image"][None])}
    return pretrained.load_vgg16(str(path), params)["backbones_visible"]


def assert_close(ours, expected, name):
    assert ours.shape == (1, *expected.shape)
    assert np.abs(np.asarray(ours[0]) - expected).max() / np.abs(expected).max() < 1e-5, name


@pytest.mark.parametrize("stride", [8, 16])
def test_features_of_each_block_equal_torchvision(torchvision, convolutions, stride):
    run = jax.jit(Vgg16(WIDTH).apply, static_argnums=2, static_argnames="method")
    features = run({"params": convolutions}, torchvision["image"][None], stride, method=all_blocks)
    for name, ours in zip(["conv1", "conv2", "conv3", "conv4", f"conv5_stride{stride}"], features, strict=True):
        assert_close(ours, torchvision[name], name)
    assert features[-1].shape[1:3] == {8: (4, 6), 16: (2, 3)}[stride]


def test_group_norm_is_between_convolution_and_relu(torchvision, convolutions):
    params = dict(convolutions)
    for name in ("norm1_1", "norm1_2"):
        params[name] = {kind: torchvision[f"{name}.{kind}"] for kind in ("scale", "bias")}
    block = jax.jit(lambda p, x: Vgg16(WIDTH, "group").apply({"params": p}, 1, vgg16.normalise(x), method="block"))
    assert_close(block(params, torchvision["image"][None]), torchvision["conv1_with_group_norm"], "conv1")


def test_every_convolution_has_a_norm_if_configured(torchvision, convolutions):
    params = zero_params("group", torchvision["image"][None])
    assert set(params) == {name.replace("conv", kind) for name in convolutions for kind in ("conv", "norm")}
    assert len(params) == 2 * 13


def test_normalise_equals_torchvision_and_replicates_grey(torchvision):
    np.testing.assert_array_equal(vgg16.IMAGENET_MEAN, torchvision["mean"])
    np.testing.assert_array_equal(vgg16.IMAGENET_STD, torchvision["std"])
    image, normalise = torchvision["image"], jax.jit(vgg16.normalise)
    np.testing.assert_allclose(normalise(image), torchvision["normalised"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(normalise(image[..., :1]), normalise(np.repeat(image[..., :1], 3, axis=-1)))


@pytest.mark.parametrize(
    ("width", "channels"), [(1.0, [64, 128, 256, 512, 512]), (WIDTH, [8, 16, 32, 64, 64]), (0.01, [4, 4, 4, 5, 5])]
)
def test_channels_follow_the_width_and_are_at_least_four(width, channels):
    assert [vgg16.block_channels(block, width) for block in range(1, 6)] == channels
