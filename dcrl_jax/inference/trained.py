"""A trained detector: its network, its parameters and the config of its training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dcrl_jax import checkpoints, param_trees
from dcrl_jax.errors import InputError
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.registration import Registration, names_file, read_registration, registration_of


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
    param_trees.check_params(params, network.param_shapes(), "the tree of parameters")
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


def find_registration(config: ConfigDict, lwir_to_visible: str | Sequence[float] | None) -> Registration | None:
    """Return how a detector registers the thermal images that a user gives it.

    This is the one rule. The records of a data set were registered when it was prepared, and training and scoring take
    them as they are. A user's pair has not been: a detector registers each, as ``lwir_to_visible`` says, or as the data
    set of its training did. It does so whatever the sizes, since two images of one size may show different parts.

    Args:
        config: of the detector's training.
        lwir_to_visible: see ``registration.read_registration``; None or empty for that of the training.

    Raises:
        InputError: the value is invalid, the detector takes no thermal images, or the config names a file.
    """
    if config.role != "teacher":
        if lwir_to_visible is not None:
            raise InputError(f"this detector is a {config.role}, which sees RGB only: omit lwir_to_visible.")
        return None
    if registration := read_registration(lwir_to_visible, Path()):
        return registration
    # Training writes numbers. A name may lead to any file of this machine, and the detector may be anybody's.
    if names_file(value := config.data.options.get("lwir_to_visible")):
        raise InputError(
            f"config.data.options.lwir_to_visible is {value!r}, a file of the machine of this detector's training, "
            "which is not opened. Its thermal images were registered so, and those that it is to look at must be: give "
            "the numbers, or a file with them, as --lwir_to_visible (in Python: lwir_to_visible of Detector)."
        )
    return registration_of(config.data)
