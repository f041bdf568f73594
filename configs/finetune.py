"""Fine-tuning on RGB-only data, from detectors trained on RGB-thermal pairs: Table V (paper V-D-4).

    python main.py --config=configs/finetune.py:caltech/dcrd --config.init.checkpoint=runs/student
    python main.py --config=configs/finetune.py:caltech/baseline --config.init.checkpoint=runs/baseline
    python main.py --config=configs/finetune.py:nightowls ...          from a student or a baseline
    python main.py --config=configs/finetune.py:synthetic_visible ...  generated scenes, minutes on two CPU cores

The rows of Table V, ``/baseline`` and ``/dcrd``, differ only in their start: a checkpoint of a baseline or a student.
Without a row, either is accepted. Both train the student's network on its own losses, as the baseline does, without a
teacher and without thermal images.

The network must be that of the checkpoint. The checkpoint of a small-scale run, such as ``:synthetic``, therefore needs
more flags on Caltech and NightOwls; the refusal of a run without them lists these flags.

The paper's miss rates on Caltech and NightOwls are 22.26 and 20.28 % for the baseline, 7.52 and 16.73 % for DCRD-PDN.
It does not say how it fine-tuned.
"""

from ml_collections import ConfigDict

from configs import common
from dcrl_jax.config import default_config

# The roles that the checkpoint of a row may have.
ROWS = {"": ("student", "baseline"), "baseline": ("baseline",), "dcrd": ("student",)}


def get_config(argument: str = "") -> ConfigDict:
    """Return the recipe of a data set or of one row: ``DATA`` or ``DATA/ROW``.

    Raises:
        ValueError: there is no such recipe; lists the known ones.
    """
    data, _, row = argument.partition("/")
    if data not in _CHANGES or row not in ROWS:
        known = [f"{data}{row and '/'}{row}" for data in _CHANGES for row in ROWS]
        raise ValueError(f"fine-tuning knows {', '.join(known)}, not {argument!r}")
    config = default_config("baseline")
    config.init.roles = ROWS[row]
    _CHANGES[data](config)
    return config


def _large(config: ConfigDict) -> None:
    """Set what both real data sets share; rate, momentum and batch are those of the student (paper V-B)."""
    # Ours: on Caltech 513,000 images in 8,000 steps of 64. Other VGG-16 detectors take some 120,000 steps of one image
    # at the same rate, from ImageNet's weights only.
    common.kaist_anchors(config)  # those of the checkpoint
    config.train.epochs = 12.0
    config.optimizer.decay_epochs = (8.0,)
    config.train.evaluate_every_epochs = 4.0  # ours: NightOwls has 51,848 images to score
    config.data.train_min_height_px = 50.0  # ours: as in the test; shorter people are ignore regions there too
    config.data.train_max_occlusion = 1
    config.eval.scale_and_occlusion = False


def _caltech(config: ConfigDict) -> None:
    _large(config)
    config.data.name = "caltech_pedestrian"
    config.data.options.annotations = "original"  # original | new; Table V's figures are on the original ones
    config.data.options.train_skip = 3  # frames; "10x", as the VGG-16 peers of Table V train
    config.data.options.allow_incomplete = False  # whether missing test images are a warning instead of an error
    # Caltech's own size. Anchors scale with the height, 23 to 300 px, so that a person of the same share of the image
    # has the same anchors as before.
    config.data.height_px = 480
    config.data.width_px = 640
    # Other labels are background, as in the test. About half of the images have people; all are kept.
    config.data.train_ignore_labels = ("people", "person?", "ignore")
    config.data.train_border_px = (5.0, 5.0, 635.0, 475.0)  # Caltech reasonable
    config.eval.rules = "caltech"


def _nightowls(config: ConfigDict) -> None:
    _large(config)
    config.data.name = "nightowls"
    config.data.options.allow_incomplete = False  # whether missing test images are a warning instead of an error
    config.data.test_split = "validation"  # the labels of the test images are withheld
    config.data.validation_split = "validation"
    config.data.height_px = 640  # NightOwls' own size; anchors of 30 to 400 px
    config.data.width_px = 1024
    # Ours: riders look like people. The test counts detections on them as false; training ignores them.
    config.data.train_ignore_labels = ("ignore", "bicycledriver", "motorbikedriver")
    config.data.train_drop_empty = True  # ours: 42,273 pedestrians are in 279,000 images (paper V-D-4)
    config.eval.rules = "nightowls"


def _synthetic_visible(config: ConfigDict) -> None:
    common.small_scale(config)
    config.data.name = "synthetic_visible"
    config.data.validation_split = "validation"
    config.data.options.height_px = 112  # another size than the 128x96 of the RGB-thermal scenes
    config.data.options.width_px = 160
    config.data.options.seed = 0
    config.data.options.train = 200  # scenes; ours: few, as a set to fine-tune on is
    config.data.options.validation = 100
    config.data.options.test = 400
    config.data.height_px = 112
    config.data.width_px = 160
    config.train.epochs = 8.0  # ours: a minute and a half on two CPU cores
    config.train.evaluate_every_epochs = 4.0
    config.eval.min_height_px = 16.0


_CHANGES = {"caltech": _caltech, "nightowls": _nightowls, "synthetic_visible": _synthetic_visible}
