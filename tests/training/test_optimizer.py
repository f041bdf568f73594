"""Learning rates by step and the optimizers of a config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import teacher
from dcrl_jax.config import check_config
from dcrl_jax.errors import InputError
from dcrl_jax.training.optimizer import build_optimizer, build_schedule, total_steps

IMAGES = 640  # ten steps of 64 an epoch


def make_config(**optimizer):
    config = teacher.get_config()
    config.optimizer.update(optimizer)
    return config


def rates(config, *steps, images=IMAGES):
    schedule = build_schedule(config, images)
    return [float(schedule(jnp.int32(step))) for step in steps]


@pytest.mark.parametrize(("batch_size", "reference", "scale"), [(64, 0, 1), (256, 64, 4), (16, 64, 0.25), (64, 64, 1)])
def test_reference_batch_size_scales_the_rate_with_the_batch(batch_size, reference, scale):
    config = make_config(reference_batch_size=reference, learning_rate=0.002, warmup_steps=4, schedule="cosine")
    config.train.update(batch_size=batch_size, steps=20)
    np.testing.assert_allclose(rates(config, 2, 4), [0.001 * scale, 0.002 * scale], rtol=1e-6)
    config.optimizer.update(schedule="steps", warmup_steps=0, decay_epochs=())
    np.testing.assert_allclose(rates(config, 0, 19), [0.002 * scale] * 2, rtol=1e-6)


def params_and_gradients():
    params = {
        "backbones_visible": {"conv": {"kernel": jnp.array([1.0, -2.0])}},
        "modality_fusion": {"hidden": {"kernel": jnp.array([3.0])}, "logits": {"bias": jnp.array([4.0])}},
    }
    gradients = {
        "backbones_visible": {"conv": {"kernel": jnp.array([0.3, -0.4])}},
        "modality_fusion": {"hidden": {"kernel": jnp.array([1.2])}, "logits": {"bias": jnp.array([0.0])}},
    }
    return params, gradients


def updates_of(config, steps=1):
    """What the last of some equal steps adds to the parameters."""
    optimizer = build_optimizer(config, build_schedule(config, IMAGES))
    params, gradients = params_and_gradients()
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return jax.device_get(updates)


def test_epochs_become_steps_of_the_whole_batch():
    config = make_config()
    assert total_steps(config, IMAGES) == 1000
    config.train.batch_size = 100
    config.train.epochs = 1.5
    assert total_steps(config, 667) == 10


def test_steps_come_before_epochs_if_given():
    config = make_config()
    config.train.steps = 7
    assert total_steps(config, IMAGES) == 7


def test_tiny_run_has_at_least_one_step():
    config = make_config()
    config.train.epochs = 0.001
    assert total_steps(config, 10) == 1


def test_paper_s_rate_falls_to_a_tenth_after_50_and_after_75_epochs():
    steps = (0, 499, 500, 749, 750, 999)
    np.testing.assert_allclose(rates(make_config(), *steps), [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-5)


def test_decay_comes_at_the_same_step_with_a_warm_up_that_rises_linearly():
    config = make_config(warmup_steps=20)
    steps = (0, 1, 10, 19, 20, 499, 500, 750)
    expected = [0, 5e-5, 5e-4, 9.5e-4, 1e-3, 1e-3, 1e-4, 1e-5]
    np.testing.assert_allclose(rates(config, *steps), expected, rtol=1e-5)


def test_decay_factor_and_epochs_come_from_the_config():
    config = make_config(decay_epochs=(2.5,), decay_factor=0.5, learning_rate=0.2)
    np.testing.assert_allclose(rates(config, 24, 25), [0.2, 0.1], rtol=1e-6)


def test_cosine_falls_to_half_in_the_middle_and_to_zero_at_the_end():
    config = make_config(schedule="cosine", decay_factor=0.5)
    expected = [1e-3, 1e-3 * (2 + np.sqrt(2)) / 4, 5e-4, 0]
    np.testing.assert_allclose(rates(config, 0, 250, 500, 1000), expected, rtol=1e-5, atol=1e-10)


def test_cosine_starts_after_the_warm_up_and_ends_with_the_run():
    config = make_config(schedule="cosine", warmup_steps=200)
    config.train.steps = 600
    expected = [0, 5e-4, 1e-3, 5e-4, 0]
    np.testing.assert_allclose(rates(config, 0, 100, 200, 400, 600), expected, rtol=1e-5, atol=1e-10)


def test_sgd_with_momentum_by_hand():
    config = make_config(name="sgd", learning_rate=0.1, momentum=0.5)
    update = updates_of(config, steps=2)["backbones_visible"]["conv"]["kernel"]
    # The second step's momentum is the gradient and half of the first.
    np.testing.assert_allclose(update, [-0.1 * 1.5 * 0.3, 0.1 * 1.5 * 0.4], rtol=1e-5)


def test_adam_s_first_step_is_the_rate_in_the_gradient_s_direction():
    update = updates_of(make_config(name="adam"))
    np.testing.assert_allclose(update["backbones_visible"]["conv"]["kernel"], [-1e-3, 1e-3], rtol=1e-4)
    assert update["modality_fusion"]["logits"]["bias"] == 0.0


def test_weight_decay_of_sgd_is_added_to_the_gradient_before_momentum_by_hand():
    config = make_config(name="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.1, clip_norm=0.13)
    update = updates_of(config, steps=2)["backbones_visible"]["conv"]["kernel"]
    # Clipped to 0.03; then 0.03 + 0.1 * 1, and 0.03 + 0.1 * (1 - 0.013) with half of the former.
    np.testing.assert_allclose(update[0], -0.1 * (0.1287 + 0.5 * 0.13), rtol=1e-5)
    # -0.04 - 0.1 * 2, and -0.04 - 0.1 * (2 - 0.024).
    np.testing.assert_allclose(update[1], 0.1 * (0.2376 + 0.5 * 0.24), rtol=1e-5)


def test_weight_decay_of_adam_is_added_to_the_gradient_whose_size_does_not_count():
    update = updates_of(make_config(name="adam", weight_decay=0.4))
    # -0.4 - 0.4 * 2 has the sign of the gradient, 0 + 0.4 * 4 is all that the bias gets.
    np.testing.assert_allclose(update["backbones_visible"]["conv"]["kernel"], [-1e-3, 1e-3], rtol=1e-4)
    np.testing.assert_allclose(update["modality_fusion"]["logits"]["bias"], [-1e-3], rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_without_weight_decay_the_optimizer_s_state_is_that_of_checkpoints_from_before_there_was_any(name):
    params, _ = params_and_gradients()
    state = build_optimizer(make_config(name=name), optax.constant_schedule(0.1)).init(params)
    expected = {"sgd": optax.sgd(optax.constant_schedule(0.1), 0.9), "adam": optax.adam(optax.constant_schedule(0.1))}
    assert jax.tree.structure(state) == jax.tree.structure((expected[name].init(params),))


def test_weight_decay_of_adamw_shrinks_the_weights_by_the_rate_times_it():
    with_decay = updates_of(make_config(name="adamw", weight_decay=0.1))
    without = updates_of(make_config(name="adamw"))
    difference = jax.tree.map(lambda a, b: a - b, with_decay, without)
    # Rate times decay times the weight.
    np.testing.assert_allclose(difference["backbones_visible"]["conv"]["kernel"], [-1e-4, 2e-4], rtol=1e-3)
    np.testing.assert_allclose(difference["modality_fusion"]["logits"]["bias"], [-4e-4], rtol=1e-3)


@pytest.mark.parametrize("name", ["adam", "sgd", "adamw"])
def test_fusion_rate_scale_scales_the_fusion_s_updates_alone(name):
    full = updates_of(make_config(name=name, weight_decay=0.1))
    scaled = updates_of(make_config(name=name, weight_decay=0.1, fusion_rate_scale=0.25))
    jax.tree.map(np.testing.assert_array_equal, full["backbones_visible"], scaled["backbones_visible"])
    quarter = jax.tree.map(lambda leaf: 0.25 * leaf, full["modality_fusion"])
    assert np.abs(quarter["hidden"]["kernel"]) > 0
    jax.tree.map(np.testing.assert_array_equal, quarter, scaled["modality_fusion"])


def test_fusion_rate_scale_leaves_a_model_without_fusion_parameters_alone():
    config = make_config(name="sgd", fusion_rate_scale=0.1, learning_rate=1.0)
    params = {"backbones_visible": {"kernel": jnp.array([1.0])}}
    optimizer = build_optimizer(config, build_schedule(config, IMAGES))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert updates["backbones_visible"]["kernel"] == -1.0


def test_clipping_scales_all_gradients_by_one_factor_when_their_norm_is_above_the_limit():
    # The norm over all parameters is 1.3.
    settings = {"name": "sgd", "learning_rate": 1.0}
    for clip_norm, factor in ((0.13, 0.1), (2.0, 1.0), (0.0, 1.0)):
        update = updates_of(make_config(clip_norm=clip_norm, **settings))
        np.testing.assert_allclose(
            update["backbones_visible"]["conv"]["kernel"], [-0.3 * factor, 0.4 * factor], rtol=1e-5
        )
        np.testing.assert_allclose(update["modality_fusion"]["hidden"]["kernel"], [-1.2 * factor], rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.name", "lamb"),
        ("optimizer.schedule", "linear"),
        ("optimizer.learning_rate", -0.001),
        ("optimizer.warmup_steps", -1),
        ("optimizer.clip_norm", -1.0),
        ("train.steps", 0),
        ("train.epochs", 0.0),
    ],
)
def test_setting_that_means_nothing_is_refused_with_its_key_and_value(key, value):
    config = make_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError) as refusal:
        check_config(config)
    assert str(refusal.value).startswith(f"config.{key} is {value!r}; it must ")
