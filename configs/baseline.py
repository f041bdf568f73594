"""The RGB-only baseline: the student's network trained on its own losses, without a teacher (paper Table IV).

    python main.py --config=configs/baseline.py                KAIST, the default that trains: batch 64, 12 epochs
    python main.py --config=configs/baseline.py:kaist/literal  KAIST, the paper's letter: batch 64, SGD, 150 epochs
    python main.py --config=configs/baseline.py:synthetic      generated scenes, minutes on two CPU cores
    python main.py --config=configs/baseline.py:msrs           RGB images of MSRS

The paper reports a miss rate of 46.23 % in its Table IV and 52.08 % in its Table V (reasonable, all; original
annotations).
"""

from ml_collections import ConfigDict

from configs import common
from dcrl_jax.config import default_config


def get_config(data: str = "kaist") -> ConfigDict:
    """Return the recipe on a data set; see ``common.use_data`` for the names."""
    return common.use_data(default_config("baseline"), data)
