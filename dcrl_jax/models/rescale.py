"""A backbone of ImageNet with all features at the same scale.

VGG-16's own features grow to an RMS of several hundred in conv1 to conv4 and fall to 3 in conv5. The gate of Eq. 4 is 0
or 1 at such values, and an optimizer that moves all weights by the same amount changes some layers much faster than
others.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.student import Student
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.models.vgg16 import BLOCKS, normalise, pools_after
from dcrl_jax.ops.convolution import conv3x3
from dcrl_jax.ops.pooling import max_pool
from dcrl_jax.structures import Array

# The scale of a CFL module changes its gate too, so it is found by iteration.
_ITERATIONS = 4


def rescale(model: Teacher | Student, params: Any, images: Sequence[Array]) -> Any:
    """Scale kernels and biases so that the features of every layer have RMS 1 on some images.

    A backbone computes the same function as before, but for one factor per layer, because convolution, ReLU and max
    pool are homogeneous. W, P and V of a CFL module are scaled together, so that both its outputs together have RMS 1.

    Args:
        model: without normalisation layers.
        params: its parameters.
        images: images of each modality of the model, uint8 [B, H, W, 3 or 1].

    Returns:
        New parameters, float32.
    """
    has_cfl = isinstance(model, Teacher) and model.cfl
    names = [f"backbones_{name}" for name in model.modalities] if isinstance(model, Teacher) else ["backbone"]
    params = params | {name: dict(params[name]) for name in names}
    maps = [normalise(jnp.asarray(image)) for image in images]
    scales = [jnp.ones(()) for _ in names]  # of the unscaled features
    for block, (_, convolutions) in enumerate(BLOCKS, 1):
        for layer in range(1, convolutions + 1):
            for branch, name in enumerate(names):
                backbone, convolution = params[name], f"conv{block}_{layer}"
                maps[branch], scales[branch], backbone[convolution] = _scaled(
                    maps[branch], scales[branch], backbone[convolution]
                )
        if has_cfl:
            module, name = model.cfl_module(jnp.dtype(jnp.float32)), f"cfl_blocks_{block - 1}"
            maps, params[name] = _scaled_cfl(module, params[name], maps)
        if block in pools_after(model.stride):
            maps = [max_pool(x) for x in maps]
    return params


@jax.jit
def _scaled(features, scale, params):
    """Apply a convolution and ReLU to features that are ``scale`` times smaller than without any scaling."""
    kernel, bias = params["kernel"], params["bias"] / scale
    outputs = nn.relu(conv3x3(features, kernel) + bias)
    rms = _rms(outputs)
    return outputs / rms, scale * rms, {"kernel": kernel / rms, "bias": bias / rms}


@functools.partial(jax.jit, static_argnums=0)
def _scaled_cfl(module, params, maps):
    def outputs_of(params):
        return module.apply({"params": params}, tuple(maps))

    def iterate(_, params):
        rms = _rms(jnp.stack(outputs_of(params)))
        return jax.tree.map(lambda kernel: kernel / rms, params)

    params = jax.lax.fori_loop(0, _ITERATIONS, iterate, params)
    return list(outputs_of(params)), params


def _rms(values):
    return jnp.sqrt(jnp.mean(jnp.square(values)))
