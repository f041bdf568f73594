"""DCRD-PDN, the student: RGB alone, distilled from the frozen teacher (paper Sec. IV, V-B).

    python main.py --config=configs/student.py                KAIST, the default that trains: batch 64, 12 epochs
    python main.py --config=configs/student.py:kaist/literal  KAIST, the paper's letter: batch 64, SGD, 150 epochs
    python main.py --config=configs/student.py:synthetic      generated scenes, minutes on two CPU cores
    python main.py --config=configs/student.py:msrs           real pairs of MSRS

The teacher is trained first, in the workdir's ``teacher/``, unless ``--config.teacher.checkpoint`` names one. The paper
reports a miss rate of 25.89 % (reasonable, all; original annotations) beside 46.23 % of the baseline and 23.37 % of the
teacher, and 12.58 % on the improved annotations.
"""

from ml_collections import ConfigDict

from configs import common, teacher
from dcrl_jax.config import TEACHER_SECTIONS, default_config


def get_config(data: str = "kaist") -> ConfigDict:
    """Return the recipe on a data set; see ``common.use_data`` for the names."""
    config = common.use_data(default_config("student"), data)
    own_teacher = teacher.get_config(data)
    for section in TEACHER_SECTIONS:
        config.teacher[section] = own_teacher[section]
    return config
