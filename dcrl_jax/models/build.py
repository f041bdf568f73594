"""Names of models/network.py under their former path."""

from dcrl_jax.models.detect import ProposalRules  # noqa: F401
from dcrl_jax.models.network import *  # noqa: F403
from dcrl_jax.models.network import Model as Detector  # noqa: F401
from dcrl_jax.models.network import build_network


def init_params(model, config, seed):
    """Old form."""
    del model
    return build_network(config).init_params(seed)
