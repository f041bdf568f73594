"""A trained detector: its network, its parameters and the config of its training."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.models.network import Network, build_network


class Trained(NamedTuple):
    """A restored detector."""

    network: Network
    params: Any  # tree of float32 arrays
    config: ConfigDict
    step: int  # the training step of the parameters


def check_trained(params: Any, config: ConfigDict) -> Network:
    """Build the network of a config, and check that the parameters fit it.

    Raises:
        InputError: the config or the parameters belong to another network or version.
    """
    try:
        network = build_network(config)
    except (AttributeError, KeyError, TypeError) as error:
        reason = str(error).strip('"')
        raise InputError(f"the config does not describe a detector of this version: {reason}.") from error
    checkpoints.check_params(params, network.param_shapes(), "the tree of parameters")
    return network


def restore_trained(path: str) -> Trained:
    """Restore and check a detector.

    Args:
        path: see ``checkpoints.restore_params``.

    Raises:
        InputError: the path holds no checkpoint, or ``check_trained`` refuses it; the message names the path.
    """
    params, config, step = checkpoints.restore_params(path)
    try:
        return Trained(check_trained(params, config), params, config, step)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
