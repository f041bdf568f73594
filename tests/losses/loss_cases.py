"""What the tests of the loss terms share."""

import functools

import jax
import numpy as np

from dcrl_jax.structures import Targets

LN2, LN3, LN4 = np.log([2.0, 3.0, 4.0])


def make_targets(is_positive, is_sampled, offsets=None):
    is_positive, is_sampled = np.array(is_positive, bool), np.array(is_sampled, bool)
    offsets = np.zeros((*is_positive.shape, 4)) if offsets is None else offsets
    return Targets(is_positive, is_sampled, np.array(offsets, np.float32))


def sure(*shape, at=(), odds=3.0):
    """Logits (0, ln 3) of ``shape``, float32 [*shape, 2], with others at given indices: (index, logits) pairs."""
    logits = np.broadcast_to(np.float32([0.0, np.log(odds)]), (*shape, 2)).copy()
    for index, others in at:
        logits[index] = others
    return logits


def surer(*shape):
    """Logits with a pedestrian's probability of 9/10, and of 3/4 at a temperature of 2."""
    return sure(*shape, odds=9.0)


@functools.cache
def _compiled(term):
    return jax.jit(jax.value_and_grad(term))


def value_and_gradient(term, outputs, *others):
    """The value of a term and its gradient with respect to the outputs."""
    return jax.tree.map(np.asarray, _compiled(term)(np.asarray(outputs, np.float32), *others))


def value(term, outputs, *others):
    return value_and_gradient(term, outputs, *others)[0]
