"""Learning rates by step and the optimizers of a config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import teacher
from dcrl_jax.training.optimizer import build_optimizer, build_schedule, total_steps

IMAGES = 640  # ten steps of 64 an epoch


def make_config(train=None, **optimizer):
    config = teacher.get_config("kaist/literal")
    config.optimizer.update(optimizer)
    config.train.update(train or {})
    return config


@pytest.mark.parametrize(
    ("train", "images", "steps"),
    [
        ({}, 640, 1000),
        ({"batch_size": 100, "epochs": 1.5}, 667, 10),
        ({"steps": 7}, 640, 7),
        ({"epochs": 0.001}, 10, 1),
    ],
    ids=["epochs", "rounded", "steps", "at least one"],
)
def test_epochs_become_steps(train, images, steps):
    assert total_steps(make_config(train), images) == steps


COSINE = {"schedule": "cosine", "decay_factor": 0.5}
QUARTER = 1e-3 * (2 + np.sqrt(2)) / 4  # (1 + cos 45 degrees) / 2


@pytest.mark.parametrize(
    ("optimizer", "train", "rates"),
    [
        # The paper: a tenth after 50 and after 75 epochs.
        ({}, {}, {0: 1e-3, 499: 1e-3, 500: 1e-4, 749: 1e-4, 750: 1e-5, 999: 1e-5}),
        ({"warmup_steps": 20}, {}, {0: 0, 1: 5e-5, 10: 5e-4, 19: 9.5e-4, 20: 1e-3, 499: 1e-3, 500: 1e-4, 750: 1e-5}),
        ({"decay_epochs": (2.5,), "decay_factor": 0.5, "learning_rate": 0.2}, {}, {24: 0.2, 25: 0.1}),
        (COSINE, {}, {0: 1e-3, 250: QUARTER, 500: 5e-4, 1000: 0}),
        (COSINE | {"warmup_steps": 200}, {"steps": 600}, {0: 0, 100: 5e-4, 200: 1e-3, 400: 5e-4, 600: 0}),
        ({"reference_batch_size": 64, "decay_epochs": ()}, {"batch_size": 256}, {0: 4e-3, 19: 4e-3}),
        (COSINE | {"reference_batch_size": 64, "warmup_steps": 4}, {"batch_size": 16}, {2: 1.25e-4, 4: 2.5e-4}),
    ],
    ids=["paper", "warm-up", "decay", "cosine", "cosine and warm-up", "larger batch", "smaller batch"],
)
def test_learning_rate_follows_the_schedule(optimizer, train, rates):
    schedule = build_schedule(make_config(train, **optimizer), IMAGES)
    found = [schedule(jnp.int32(step)) for step in rates]
    np.testing.assert_allclose(found, list(rates.values()), rtol=1e-5, atol=1e-10)


PARAMS = {
    "backbones_visible": {"conv": {"kernel": np.float32([1, -2])}},
    "modality_fusion": {"hidden": {"kernel": np.float32([3])}, "logits": {"bias": np.float32([4])}},
}
# The norm of all gradients is 1.3.
GRADIENTS = {
    "backbones_visible": {"conv": {"kernel": np.float32([0.3, -0.4])}},
    "modality_fusion": {"hidden": {"kernel": np.float32([1.2])}, "logits": {"bias": np.float32([0])}},
}


SGD = {"name": "sgd", "momentum": 0.5}


def updates_of(steps=1, **optimizer):
    """Return what the last of some equal steps adds to the kernel of the backbone, and to both of the fusion."""
    config = make_config(**optimizer)
    optimizer, params = build_optimizer(config, build_schedule(config, IMAGES)), PARAMS
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return np.concatenate(jax.tree.leaves(updates))


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # The second step's momentum is the gradient and half of the first.
        (SGD | {"learning_rate": 0.1, "steps": 2}, -0.1 * 1.5 * np.array([0.3, -0.4, 1.2, 0])),
        # The gradients are clipped to a tenth; L2 adds 0.1 times the weights. Of the first weight: 0.03 + 0.1 * 1, and
        # 0.03 + 0.1 * (1 - 0.013) with half of the former. Of the second: -0.04 - 0.1 * 2, -0.04 - 0.1 * (2 - 0.024).
        # Of the third: 0.12 + 0.1 * 3, 0.12 + 0.1 * (3 - 0.042). Of the fourth: 0.1 * 4, 0.1 * (4 - 0.04).
        (
            SGD | {"learning_rate": 0.1, "weight_decay": 0.1, "clip_norm": 0.13, "steps": 2},
            -0.1 * np.array([0.1287 + 0.5 * 0.13, -0.2376 - 0.5 * 0.24, 0.4158 + 0.5 * 0.42, 0.396 + 0.5 * 0.4]),
        ),
        # Adam's first step is the rate in the direction of the gradient.
        ({"name": "adam"}, [-1e-3, 1e-3, -1e-3, 0]),
        # -0.4 - 0.4 * 2 has the sign of the gradient, 0 + 0.4 * 4 is all that the bias gets.
        ({"name": "adam", "weight_decay": 0.4}, [-1e-3, 1e-3, -1e-3, -1e-3]),
        # In addition the rate times the decay times the weight.
        ({"name": "adamw", "weight_decay": 0.1}, [-1e-3 - 1e-4, 1e-3 + 2e-4, -1e-3 - 3e-4, -4e-4]),
        (SGD | {"learning_rate": 1.0, "clip_norm": 0.13}, [-0.03, 0.04, -0.12, 0]),
        (SGD | {"learning_rate": 1.0, "clip_norm": 2.0}, [-0.3, 0.4, -1.2, 0]),
    ],
    ids=["sgd", "sgd with decay", "adam", "adam with decay", "adamw", "clipped", "below the norm"],
)
def test_optimizer_updates_parameters_as_by_hand(optimizer, expected):
    np.testing.assert_allclose(updates_of(**optimizer), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["adam", "sgd", "adamw"])
def test_fusion_rate_scale_scales_only_the_fusion(name):
    updates, scaled = (updates_of(name=name, weight_decay=0.1, fusion_rate_scale=scale) for scale in (1.0, 0.25))
    np.testing.assert_array_equal(scaled, np.float32([1, 1, 0.25, 0.25]) * updates)
    optimizer = build_optimizer(make_config(name=name, fusion_rate_scale=0.1), optax.constant_schedule(0.1))
    student = {"backbone": PARAMS["backbones_visible"]}
    updates, _ = optimizer.update(student, optimizer.init(student), student)
    assert np.all(updates["backbone"]["conv"]["kernel"] != 0)


def test_frozen_blocks_keep_their_convolutions_whatever_decays():
    config = make_config(name="adamw", weight_decay=0.1)
    config.backbone.frozen_blocks = 2
    convolutions = {name: np.float32([1]) for name in ("conv1_2", "norm2_1", "conv3_1")}
    params = {"backbones_lwir": convolutions, "rpn": {"conv1_1": np.float32([1])}}
    optimizer = build_optimizer(config, optax.constant_schedule(0.1))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    moved = jax.tree.map(lambda update: bool(update != 0), updates)
    assert moved == {
        "backbones_lwir": {"conv1_2": False, "norm2_1": False, "conv3_1": True},
        "rpn": {"conv1_1": True},
    }


@pytest.mark.parametrize("expected", [optax.sgd(lambda _: 0.1, 0.9), optax.adam(lambda _: 0.1)], ids=["sgd", "adam"])
def test_state_without_weight_decay_is_that_of_earlier_checkpoints(expected, request):
    name = request.node.callspec.id
    state = build_optimizer(make_config(name=name), optax.constant_schedule(0.1)).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure((expected.init(PARAMS),))
