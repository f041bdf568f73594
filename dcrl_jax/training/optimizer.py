"""Optimizers and learning-rate schedules from a config."""

import functools
import re
from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def total_steps(config: ConfigDict, training_images: int) -> int:
    """Return the number of steps of the complete run, from ``train.steps`` or else ``train.epochs``."""
    if config.train.steps is not None:
        return config.train.steps
    return max(1, round(config.train.epochs * training_images / config.train.batch_size))


def build_schedule(config: ConfigDict, training_images: int) -> optax.Schedule:
    """Return the learning rate as a function of the step.

    After a linear warm-up, the schedule 'steps' multiplies the rate by ``decay_factor`` at each of ``decay_epochs``,
    and 'cosine' lowers it to zero at the last step. ``reference_batch_size`` scales the rate by
    ``batch_size / reference_batch_size``.

    Args:
        config: a config, whose ``optimizer`` and ``train`` keys are read.
        training_images: number of images of an epoch.
    """
    keys = config.optimizer
    rate = keys.learning_rate
    if keys.reference_batch_size:
        rate *= config.train.batch_size / keys.reference_batch_size
    steps = total_steps(config, training_images)
    warmup = keys.warmup_steps
    if keys.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(1, steps - warmup))
    else:
        epoch_steps = training_images / config.train.batch_size
        boundaries = {round(epoch * epoch_steps) - warmup: keys.decay_factor for epoch in keys.decay_epochs}
        after = optax.piecewise_constant_schedule(rate, boundaries)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def build_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Return Adam, SGD with momentum or AdamW, after clipping by global norm if ``clip_norm`` is above 0.

    Weight decay is decoupled in AdamW (Loshchilov and Hutter). SGD and Adam add it times the weights to the clipped
    gradient (L2), as PyTorch's optimizers do. All parameters decay, including biases.
    """
    keys = config.optimizer
    parts = [optax.clip_by_global_norm(keys.clip_norm)] if keys.clip_norm > 0 else []
    if keys.name == "adamw":
        parts.append(optax.adamw(schedule, weight_decay=keys.weight_decay))
    else:
        if keys.weight_decay > 0:
            parts.append(optax.add_decayed_weights(keys.weight_decay))
        parts.append(optax.adam(schedule) if keys.name == "adam" else optax.sgd(schedule, momentum=keys.momentum))
    if keys.fusion_rate_scale != 1.0:
        parts.append(optax.masked(optax.scale(keys.fusion_rate_scale), _is_fusion))
    if config.backbone.frozen_blocks:
        parts.append(optax.masked(optax.set_to_zero(), functools.partial(frozen_mask, config.backbone.frozen_blocks)))
    return optax.chain(*parts)


def frozen_mask(blocks: int, params: Any) -> Any:
    """Return a tree like ``params`` that is True for the convolutions of VGG-16's first ``blocks`` blocks."""

    def is_frozen(path, _):
        names = [key.key for key in path]
        convolution = re.match(r"(?:conv|norm)(\d)_", names[1]) if names[0].startswith("backbone") else None
        return convolution is not None and int(convolution[1]) <= blocks

    return jax.tree_util.tree_map_with_path(is_frozen, params)


def _is_fusion(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "modality_fusion", params)
