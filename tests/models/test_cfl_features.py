"""S and R of every level of a small teacher against the equations in NumPy, and what the ablations leave out."""

import jax
import numpy as np
import pytest

from dcrl_jax.models.build import build_model
from dcrl_jax.models.cfl_features import cfl_features, cfl_magnitudes
from dcrl_jax.models.vgg16 import normalise
from dcrl_jax.structures import MODALITIES

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")


@pytest.fixture(scope="module")
def teacher(tiny_config, random_params):
    config = tiny_config()
    model = build_model(config)
    return model, random_params(model, config)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (2, 32, 48, 3), np.uint8), rng.integers(0, 256, (2, 32, 48, 1), np.uint8)


def conv3x3(x, kernel):
    """NumPy's 3x3 convolution [B, H, W, I] by [3, 3, I, O] with a border of zeros."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def by_hand(params, name, x):
    """S^m of Eq. 2 and R^m of Eq. 3 for alpha = 0.5 and G = 2."""
    half = x.shape[-1] // 2
    shared, own = x[..., :half], x[..., half:]
    parts = np.split(own, 2, axis=-1), np.split(params[f"grouped_{name}"]["kernel"], 2, axis=-1)
    grouped = np.concatenate([conv3x3(*part) for part in zip(*parts, strict=True)], axis=-1)
    return shared @ params["shared"]["kernel"][0, 0], grouped + own @ params[f"pointwise_{name}"]["kernel"][0, 0]


def test_features_of_every_level_are_those_of_eq_2_and_3(teacher, pair):
    model, params = teacher

    def with_inputs(params, visible, lwir):
        """The levels, and what goes into the CFL module of each."""

        def run(module, *images):
            features, inputs = tuple(normalise(image) for image in images), []
            for block in range(1, 6):
                pairs = zip(MODALITIES, features, strict=True)
                inputs.append(tuple(module.backbones[name].block(block, x) for name, x in pairs))
                features = module.block(block, features)
            return inputs

        inputs = model.apply({"params": params}, visible, lwir, method=run)
        return cfl_features(model, params, visible, lwir), inputs

    levels, inputs = jax.device_get(jax.jit(with_inputs)(params, *pair))
    assert len(levels) == len(inputs) == 5
    for number, (level, features) in enumerate(zip(levels, inputs, strict=True)):
        for modality, name in enumerate(MODALITIES):
            shared, specific = by_hand(params[f"cfl_blocks_{number}"], name, features[modality])
            assert shared.std() > 0
            np.testing.assert_allclose(level.shared[modality], shared, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(level.specific[modality], specific, rtol=1e-4, atol=1e-4)


def test_magnitudes_are_means_over_channels(teacher, pair):
    model, params = teacher

    def both(params, *images):
        return cfl_features(model, params, *images), cfl_magnitudes(model, params, *images)

    features, magnitudes = jax.device_get(jax.jit(both)(params, *pair))
    assert [level.shared[0].shape for level in magnitudes] == [
        (2, 32, 48),
        (2, 16, 24),
        (2, 8, 12),
        (2, 4, 6),
        (2, 4, 6),
    ]
    for level, reduced in zip(features, magnitudes, strict=True):
        for kind in ("shared", "specific"):
            for modality in range(2):
                expected = np.abs(getattr(level, kind)[modality]).mean(axis=-1)
                np.testing.assert_allclose(getattr(reduced, kind)[modality], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("alpha", "kinds"), [(0.0, (False, True)), (0.5, (True, True)), (1.0, (True, False))], ids=["SFL", "both", "MFL"]
)
def test_what_an_ablation_does_not_learn_is_none(tiny_config, random_params, pair, alpha, kinds):
    config = tiny_config()
    config.cfl.shared_fraction = alpha
    config.backbone.remat = True
    config.backbone.dtype = "bfloat16"
    model = build_model(config)
    params = random_params(model, config)
    features = jax.eval_shape(lambda: cfl_features(model, params, *pair))
    assert [tuple(one is not None for one in level) for level in features] == [kinds] * 5
    assert {leaf.dtype for leaf in jax.tree.leaves(features)} == {np.dtype(jax.numpy.bfloat16)}
    magnitudes = jax.eval_shape(lambda: cfl_magnitudes(model, params, *pair))
    assert {leaf.dtype for leaf in jax.tree.leaves(magnitudes)} == {np.dtype(np.float32)}


def test_teacher_without_cfl_has_no_levels(tiny_config, random_params, pair):
    config = tiny_config()
    config.cfl.enabled = False
    model = build_model(config)
    assert jax.eval_shape(lambda: cfl_features(model, random_params(model, config), *pair)) == []
