"""Trees of parameters: their leaves by path, whether they fit a network, and their fingerprint."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dcrl_jax.errors import InputError, first_few

Shapes = Mapping[str, tuple[int, ...]]


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path, e.g. 'backbone/conv1_1/kernel', in the order of ``jax.tree.leaves``.

    Keys of dicts, named tuples and sequences look the same, since a checkpoint stores all of them as dicts.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a tree's leaves by path."""
    return {path: tuple(np.shape(leaf)) for path, leaf in leaves_by_path(tree).items()}


def check_fits(shapes: Shapes, expected: Shapes, source: str) -> None:
    """Check that shapes by path are those of the configured network.

    Raises:
        InputError: paths or shapes differ; lists the first five differences.
    """
    differences = [f"{path}: missing" for path in expected if path not in shapes]
    differences += [f"{path}: not expected" for path in shapes if path not in expected]
    differences += [
        f"{path}: {shapes[path]} instead of {expected[path]}"
        for path in expected
        if path in shapes and shapes[path] != expected[path]
    ]
    if differences:
        shown = "\n  ".join(first_few(differences, 5))
        raise InputError(
            f"{source} does not fit the configured model:\n  {shown}\n"
            "Use the config that it was trained with, or another workdir."
        )


def check_params(params: Any, expected: Any, source: str) -> None:
    """Check that parameters fit a network.

    Args:
        params: the parameters.
        expected: the result of ``Network.param_shapes``.
        source: the path of ``params``, for the message.

    Raises:
        InputError: keys or shapes differ; lists the first five differences. Or a value is not finite.
    """
    check_fits(shapes_by_path(params), shapes_by_path(expected), source)
    for path, leaf in leaves_by_path(params).items():
        if not np.isfinite(jax.device_get(leaf)).all():
            raise InputError(f"{source}: {path} has values that are not finite. Such a network finds nothing.")


def fingerprint(params: Any) -> str:
    """Return the SHA-256 of the names, shapes, dtypes and values of a parameter tree, as hexadecimal digits."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in sorted(leaves, key=lambda entry: jax.tree_util.keystr(entry[0])):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
