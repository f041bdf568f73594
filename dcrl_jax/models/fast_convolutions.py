"""Winograd's algorithm for the wide 3x3 convolutions of a model, for inference on a CPU, without changing the model."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.cfl import GroupedConv
from dcrl_jax.ops.winograd import conv3x3, transform_kernel

# With fewer channels the transformations of input and output cost more than the products save.
MIN_INPUTS, MIN_OUTPUTS = 64, 128

# Transformed kernels by the path of their module in the parameter tree, joined by "/".
Kernels = Mapping[str, jax.Array]


def transform_kernels(params: Any) -> Kernels:
    """Return the transformed kernels of all wide 3x3 convolutions in a parameter tree, four times their size."""
    wide = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *module, name = (key.key for key in path)
        is_3x3 = name == "kernel" and leaf.ndim == 4 and leaf.shape[:2] == (3, 3)
        if is_3x3 and leaf.shape[2] >= MIN_INPUTS and leaf.shape[3] >= MIN_OUTPUTS:
            wide["/".join(module)] = leaf
    return jax.jit(lambda kernels: jax.tree.map(transform_kernel, kernels))(wide)


@contextlib.contextmanager
def winograd_convolutions(kernels: Kernels) -> Iterator[None]:
    """Let the modules at the paths of ``kernels`` convolve float32 features with them until the end of the block."""

    def convolve(call, arguments, keywords, context):
        module = context.module
        is_convolution = isinstance(module, nn.Conv | GroupedConv) and context.method_name == "__call__"
        kernel = kernels.get("/".join(module.path)) if is_convolution else None
        if kernel is None or arguments[0].dtype != jnp.float32:
            return call(*arguments, **keywords)
        if isinstance(module, nn.Conv):
            return conv3x3(arguments[0], kernel) + module.get_variable("params", "bias")
        groups = zip(*(jnp.split(x, module.groups, axis=-1) for x in (arguments[0], kernel)), strict=True)
        return jnp.concatenate([conv3x3(*group) for group in groups], axis=-1)

    with nn.intercept_methods(convolve):
        yield
