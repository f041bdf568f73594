"""One training step, as pure functions: terms, gradients, update. The same for teacher, student and baseline."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcrl_jax.losses.detection import weighted_sum
from dcrl_jax.models.build import Detector
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.parallel import AXIS, places_in_global_batch
from dcrl_jax.structures import Array
from dcrl_jax.training.rules import TrainingRules
from dcrl_jax.training.terms import detection_terms, distillation_terms, forward


class TrainState(NamedTuple):
    """What changes from step to step."""

    step: Array  # int32 []
    params: Any
    opt_state: optax.OptState


def image_keys(seed: int, step: Array, images: int) -> jax.Array:
    """One key per image of this device's batch, the same however many devices and hosts share the global batch.

    Must run inside the pmapped step: the images' places in the global batch follow from the device's.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places_in_global_batch(images))


def make_loss(
    model: Detector, anchors: Array, rules: TrainingRules, teacher: Teacher | None = None
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """Eq. 1, or Eq. 14 with a teacher: ``loss(params, frozen, batch, keys)``, its value and its named terms.

    ``frozen`` holds the teacher's parameters, or nothing; ``keys`` has one for each image.
    """

    def loss(params, frozen, batch, keys):
        run = forward(model, params, anchors, batch, keys, rules)
        terms = detection_terms(run)
        if teacher is not None:
            terms |= distillation_terms(run, model, params, teacher, *frozen, batch, rules)
        total = weighted_sum(terms, rules.weights)
        return total, {"loss": total, **terms}

    return loss


def make_step(
    model: Detector,
    optimizer: optax.GradientTransformation,
    anchors: Array,
    rules: TrainingRules,
    seed: int,
    teacher: Teacher | None = None,
    accumulation_steps: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Build the step for ``parallel.parallel_step``: gradients and metrics are means over the devices.

    Args:
        model: what is trained.
        optimizer: of its parameters.
        anchors: float32 [N, 4].
        rules: see TrainingRules.
        seed: of the sampling.
        teacher: the frozen teacher of a student. Its parameters are then an argument of the step, which reads them and
            nothing else: they are not differentiated and do not come out.
        accumulation_steps: parts in which a device works through its images, one after the other. Since every term is a
            mean over images, the gradient is that of all at once, for the memory of one part.

    Returns:
        ``step(state, batch)``, or ``step(state, teacher_params, batch)`` with a teacher. It gives the new state and the
        metrics: the terms, their weighted sum ``loss`` and ``gradient_norm``, each float32 [].
    """

    loss = make_loss(model, anchors, rules, teacher)

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
    """Mean of ``function`` over equal parts of its arguments' leading axis, holding one part's outputs at a time."""
    if parts == 1:
        return function(*images)
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), images)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(*part)), None

    shapes = jax.eval_shape(function, *jax.tree.map(lambda leaf: leaf[0], split))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), split)
    return jax.tree.map(lambda leaf: leaf / parts, total)
