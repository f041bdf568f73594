"""What the tests of single modules share."""

import jax
import numpy as np


def zero_params(module, features):
    """Parameters of the shapes of a module, all zero."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), features)["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


def random_params(module, features):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), zero_params(module, features))


def apply(module, params, features):
    return jax.device_get(jax.jit(module.apply)({"params": params}, features))
