"""Changes that recipes share: small networks, filters of KAIST's annotations, data sets.

``dcrl_jax/config.py`` has every key with its default, source and meaning. Values here are ours unless a comment names
their source.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.folders import FOLDERS, use_folder
from configs.imagenet import VGG16, start_from_imagenet


def small_scale(config: ConfigDict) -> None:
    """Change a config for a network that starts from random parameters and trains on a CPU."""
    config.backbone.width = 0.125
    config.backbone.norm = "group"
    config.roi.hidden = 128
    config.roi.sampled = 64
    config.roi.max_positive = 16
    config.rpn.sampled = 64
    config.rpn.max_positive = 32
    config.rpn.min_size_px = 2.0
    config.rpn.before_nms = 600
    config.rpn.kept_training = 100
    config.rpn.kept_testing = 100
    if config.role == "teacher":
        config.cfl.specific_gain = 2.0  # He's; features do not grow, since every convolution is normalised
        config.fusion.hidden = 64
        # At the full rate Adam moves all weight to one modality within the first steps, before the branches can detect.
        config.optimizer.fusion_rate_scale = 0.1
    config.data.max_boxes = 16
    config.optimizer.name = "adamw"
    config.optimizer.schedule = "cosine"
    config.loss.per_branch_weight = 1.0  # a teacher's branch goes on learning while its weight is small
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 10.0
    config.train.batch_size = 8
    config.eval.batch_size = 20
    config.eval.border_px = ()
    config.eval.scale_and_occlusion = False


# Peers' rules for the annotations of KAIST that train as people or become ignore regions.
KAIST_FILTERS = {
    "ar-cnn": {
        "data.train_labels": ("person", "cyclist"),
        "data.train_ignore_labels": ("people", "person?", "ignore", "unpaired"),
        "data.train_max_occlusion": 1,
        "data.train_drop_empty": True,
    },
    "msds-rcnn": {"rpn.ignore_ioa": 0.2, "roi.ignore_ioa": 0.2},
    "mlpd": {
        "data.train_labels": ("person", "people", "person?", "cyclist"),
        "data.train_ignore_labels": ("ignore", "unpaired"),
        "data.train_min_height_px": 12.0,
        "data.train_border_px": (5.0, 5.0, 635.0, 507.0),
    },
}


def _add_kaist_options(options: ConfigDict) -> None:
    """Add the options of KAIST's builder; see datasets/README.md."""
    options.annotations = "original"  # original | improved | sanitized | paired
    options.train_stride = 2  # frames from one training image to the next
    options.test_stride = 20
    options.train_list = placeholder(str)  # an image list instead of the stride
    options.test_list = placeholder(str)
    options.train_annotations = placeholder(str)  # folder in the copy, if several fit
    options.test_annotations = placeholder(str)
    options.allow_incomplete = False  # whether missing test images are a warning instead of an error


def kaist_anchors(config: ConfigDict) -> None:
    """Set anchors for the people of KAIST's training images, who are 24 to 304 px tall (99.9 % up to 276)."""
    config.anchors.smallest_px = 24.0
    config.anchors.largest_px = 320.0


def _train_on_kaist(config: ConfigDict) -> None:
    """Change the paper's recipe on KAIST for one that trains; what KAIST alone decides is reasoned, not measured."""
    start_from_imagenet(config)
    kaist_anchors(config)
    config.data.train_drop_empty = True  # 63 % of the training frames have no person; peers leave them out, too
    # Complete videos by day and by night, 7 % of the frames, choose the parameters instead of the test split.
    config.data.validation_videos = ("set01/V003", "set03/V001")
    config.optimizer.warmup_steps = 200
    config.train.epochs = 12.0  # from ImageNet's weights two-stage peers train for a few epochs
    config.train.evaluate_every_epochs = 2.0


def use_data(config: ConfigDict, data: str) -> ConfigDict:
    """Set a data set in a config, and a scale that suits it; return the config.

    Args:
        config: a config of ``default_config``, which is changed.
        data: 'kaist', 'kaist/literal' (the paper's letter), 'kaist/FILTER' (training filters of KAIST_FILTERS),
            'synthetic' (128x96 scenes), 'msrs' (real pairs), or a name of ``FOLDERS``: 'folder' (an own folder of
            pairs), 'llvip', 'flir-aligned', 'cvc14', 'm3fd'.

    Raises:
        ValueError: no data set has the name; lists the known ones.
    """
    name, _, preset = data.partition("/")
    if name == "kaist" and preset in ("", "literal", *KAIST_FILTERS):
        config.init.vgg16 = VGG16
        _add_kaist_options(config.data.options)
        if preset != "literal":
            _train_on_kaist(config)
        config.update_from_flattened_dict(KAIST_FILTERS.get(preset, {}))
        return config
    if data == "synthetic":
        small_scale(config)
        config.data.name = "synthetic_rgbt"
        config.data.validation_split = "validation"
        config.data.options.height_px = 96
        config.data.options.width_px = 128
        config.data.options.seed = 0
        config.data.options.train = 2000  # scenes
        config.data.options.validation = 200
        config.data.options.test = 400
        config.data.options.label_noise = False  # of the training boxes
        config.data.height_px = 96
        config.data.width_px = 128
        config.train.epochs = 3.0
        config.train.evaluate_every_epochs = 1.5
        config.eval.min_height_px = 16.0
        return config
    if data == "msrs":
        start_from_imagenet(config)
        config.data.name = "msrs"
        config.data.options.labels = "fusion"  # fusion | visible | infrared
        config.data.options.missing_labels = "background"  # what an image without a label file is: background | error
        config.data.height_px = 480
        config.data.width_px = 640
        config.data.crop = (240, 320)  # a quarter of the computation, three quarters of the people
        config.data.max_boxes = 32
        config.anchors.smallest_px = 20.0  # half of the people are shorter than 43 px
        config.roi.hidden = 512
        config.train.batch_size = 4
        config.train.epochs = 16.0 if config.role == "teacher" else 24.0  # a teacher's step takes three times as long
        config.train.evaluate_every_epochs = 8.0
        config.eval.min_height_px = 20.0
        config.eval.border_px = ()
        config.eval.scale_and_occlusion = False
        return config
    if data in FOLDERS:
        return use_folder(config, data)
    known = ["kaist", "kaist/literal", *(f"kaist/{preset}" for preset in KAIST_FILTERS), "synthetic", "msrs", *FOLDERS]
    raise ValueError(f"configs know the data sets {', '.join(known)}, not {data!r}")
