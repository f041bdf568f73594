"""DCRD-PDN, the student: RGB alone, distilled from the frozen teacher (paper Sec. IV, V-B).

    python main.py --config=configs/student.py            the paper's recipe on KAIST: batch 64, SGD, 150 epochs
    python main.py --config=configs/student.py:synthetic  generated scenes, minutes on two CPU cores
    python main.py --config=configs/student.py:msrs       real pairs of MSRS

The teacher is trained first, in the workdir's ``teacher/``, unless ``--config.teacher.checkpoint`` names one. The paper
reports a miss rate of 25.89 % (reasonable, all; original annotations) beside 46.23 % of the baseline and 23.37 % of the
teacher, and 12.58 % on the improved annotations.
"""

from configs import common, teacher


def get_config(data: str = "kaist"):
    """The recipe on one of the data sets 'kaist', 'synthetic' and 'msrs'."""
    config = common.use_data(common.detector("student"), data)
    common.add_distillation(config, teacher.get_config(data))
    return config
