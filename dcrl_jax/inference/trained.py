"""Parameters with the config that they were trained with, as far as they are of a detector of this version."""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError
from dcrl_jax.models.build import Detector, build_anchors, build_model, init_params
from dcrl_jax.models.detect import detection_rules


class Trained(NamedTuple):
    """A detector as it is restored."""

    params: Any  # tree of float32 arrays
    config: ConfigDict
    step: int  # of its training


def check_trained(params: Any, config: ConfigDict) -> Detector:
    """The model of a config, which the parameters fit.

    Raises:
        InputError: the config or the parameters are of another model or version.
    """
    try:
        model = build_model(config)
        build_anchors(config)
        detection_rules(config)
    except (AttributeError, KeyError, TypeError) as error:
        reason = str(error).strip('"')
        raise InputError(f"the config is not one of this version's detectors: {reason}.") from error
    checkpoints.check_params(params, jax.eval_shape(lambda: init_params(model, config, 0)), "the tree of parameters")
    return model


def restore_trained(path: str) -> Trained:
    """Restore and check what ``checkpoints.restore_params`` finds.

    Raises:
        InputError: nothing is there, it cannot be read, or as ``check_trained``; names the path.
    """
    trained = Trained(*checkpoints.restore_params(path))
    try:
        check_trained(trained.params, trained.config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return trained
