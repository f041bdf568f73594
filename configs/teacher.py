"""DCRL-PDN, the teacher: paired RGB and thermal images (paper Sec. III, V-B).

    python main.py --config=configs/teacher.py                KAIST, the default that trains: batch 64, 12 epochs
    python main.py --config=configs/teacher.py:kaist/literal  KAIST, the paper's letter: batch 64, Adam, 100 epochs
    python main.py --config=configs/teacher.py:synthetic      generated scenes, minutes on two CPU cores
    python main.py --config=configs/teacher.py:msrs           real pairs of MSRS

The paper reports a miss rate of 23.37 % (reasonable, all; trained and tested on the original annotations) and 9.16 %
on the improved ones.
"""

from ml_collections import ConfigDict

from configs import common
from dcrl_jax.config import default_config


def get_config(data: str = "kaist") -> ConfigDict:
    """Return the recipe on a data set; see ``common.use_data`` for the names."""
    config = default_config("teacher")
    config.optimizer.name = "adam"  # paper V-B
    config.optimizer.decay_epochs = (50.0, 75.0)  # paper V-B
    config.train.epochs = 100.0  # paper V-B
    return common.use_data(config, data)
