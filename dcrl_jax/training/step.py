"""One training step of a teacher, a student or a baseline as pure functions: loss, gradients, update."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dcrl_jax.losses.detection import weighted_sum
from dcrl_jax.models.network import Network
from dcrl_jax.parallel import AXIS, indices_in_global_batch
from dcrl_jax.structures import Array
from dcrl_jax.training.optimizer import frozen_mask
from dcrl_jax.training.terms import TrainingRules, detection_terms, distillation_terms, forward


class TrainState(NamedTuple):
    """The state that a step updates."""

    step: Array | np.int32  # int32 [], number of steps done
    params: Any
    opt_state: optax.OptState


class FrozenTeacher(NamedTuple):
    """A trained teacher, from which a student learns."""

    network: Network
    params: Any
    config: ConfigDict  # of the teacher's training
    source: str  # the path that the parameters come from


def image_keys(seed: int, step: Array, images: int) -> jax.Array:
    """Return one random key per image of this device's batch, [images]; call it inside the pmapped step.

    An image has the same key for any number of devices and processes: its position in the global batch decides.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices_in_global_batch(images))


def make_loss(
    network: Network, rules: TrainingRules, teacher: Network | None = None
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """Return the loss of Eq. 1, or of Eq. 14 with a teacher.

    Returns:
        ``loss(params, frozen, batch, keys)``, which returns the weighted sum, and a dict of it (``loss``) and the terms
        by name. ``frozen`` holds the teacher's parameters as its only item, or nothing; ``keys`` has one key per image.
    """

    def loss(params, frozen, batch, keys):
        if rules.frozen_blocks:
            # The optimizer keeps these parameters; this spares their gradients.
            is_frozen = frozen_mask(rules.frozen_blocks, params)
            params = jax.tree.map(lambda leaf, stop: jax.lax.stop_gradient(leaf) if stop else leaf, params, is_frozen)
        run = forward(network, params, batch, keys, rules)
        terms = detection_terms(run)
        if teacher is not None:
            (teacher_params,) = frozen
            terms |= distillation_terms(run, network, params, teacher, teacher_params, batch, rules)
        total = weighted_sum(terms, rules.weights)
        return total, {"loss": total, **terms}

    return loss


def make_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    rules: TrainingRules,
    seed: int,
    teacher: Network | None = None,
    accumulation_steps: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Return the step for ``parallel.parallel_step``: gradients and metrics are means over the devices.

    Args:
        network: the network to train.
        optimizer: the optimizer of its parameters.
        rules: see TrainingRules.
        seed: the seed of the sampling.
        teacher: the frozen teacher of a student. Its parameters are an argument of the step; they are not
            differentiated and not returned.
        accumulation_steps: number of parts in which a device works through its images, one after the other. Every term
            is a mean over images, so the gradient equals that of all images at once, in the memory of one part.

    Returns:
        ``step(state, batch)``, or ``step(state, teacher_params, batch)`` with a teacher, which returns the new state
        and the metrics: the terms, their weighted sum ``loss`` and ``gradient_norm``, each float32 [].
    """
    loss = make_loss(network, rules, teacher)

    def step(state, *arguments):
        *frozen, batch = arguments
        keys = image_keys(seed, state.step, batch.boxes.shape[0])
        gradients_of = functools.partial(jax.grad(loss, has_aux=True), state.params, frozen)
        gradients, metrics = _mean_over_parts(gradients_of, (batch, keys), accumulation_steps)
        gradients, metrics = jax.lax.pmean((gradients, metrics), AXIS)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return step


def _mean_over_parts(function: Callable, images: Any, parts: int) -> Any:
    """Return the mean of ``function`` over equal parts of the leading axis, one part at a time."""
    if parts == 1:
        return function(*images)
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), images)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(*part)), None

    shapes = jax.eval_shape(function, *jax.tree.map(lambda leaf: leaf[0], split))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), split)
    return jax.tree.map(lambda leaf: leaf / parts, total)
