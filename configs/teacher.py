"""DCRL-PDN, the teacher: paired RGB and thermal images (paper Sec. III, V-B).

    python main.py --config=configs/teacher.py            the paper's recipe on KAIST: batch 64, 100 epochs
    python main.py --config=configs/teacher.py:synthetic  generated scenes, minutes on two CPU cores
    python main.py --config=configs/teacher.py:msrs       real pairs of MSRS

The paper reports a miss rate of 23.37 % (reasonable, all; trained and tested on the original annotations) and 9.16 %
on the improved ones.
"""

from configs import common


def get_config(data: str = "kaist"):
    """The recipe on one of the data sets 'kaist', 'synthetic' and 'msrs'."""
    config = common.detector("teacher")
    common.add_multimodal(config)
    return common.use_data(config, data)
