"""Recipes on an own folder of pairs, and on public data sets as settings of it.

    python main.py --config=configs/student.py:folder --config.data.manual_dir=DIR
    python main.py --config=configs/student.py:llvip --config.data.manual_dir=LLVIP

``datasets/README.md#rgbt_folder`` has every option, and where to get the data sets. Networks have full width and start
from ImageNet's VGG-16. Of these recipes, only their kind has been trained: benchmarks/README.md has the figures on
MSRS's pairs. Values are ours unless a comment names their source.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.imagenet import start_from_imagenet

# By the argument of a recipe: differences from ``use_folder``'s settings.
FOLDERS: dict[str, dict[str, object]] = {
    "folder": {},
    # LLVIP (Jia et al., ICCV workshops 2021): 15,488 pairs of 1280x1024, of fixed cameras, mostly by night; one XML for
    # both images. Its folders are the splits, 12,025 and 3,463 pairs. Papers count every person: AP, and the miss rate
    # without a least height.
    "llvip": {
        "data.options.name": "llvip",
        "train.epochs": 12.0,
        "train.evaluate_every_epochs": 3.0,
    },
    # FLIR-aligned (Zhang et al., ICIP 2020): 5,142 pairs of 640x512, boxes drawn on the thermal images. Several splits
    # are in use; this is that of the set's own lists, 4,129 and 1,013 pairs. Papers give AP of person, car and bicycle.
    "flir-aligned": {
        "data.options.name": "flir_aligned",
        "data.options.visible": "**/JPEGImages/*_RGB.jpg",
        "data.options.lwir": "**/JPEGImages/*_PreviewData.jpeg",
        "data.options.labels": "lwir",
        "data.options.train_list": "**/align_train.txt",
        "data.options.test_list": "**/align_validation.txt",
        "train.epochs": 12.0,
        "train.evaluate_every_epochs": 3.0,
    },
    # CVC-14 (Gonzalez et al., Sensors 2016): pairs of 640x471, grey visible images, own boxes of each camera; its
    # folders Train and NewTest are the splits. Papers train and test with the visible boxes (AR-CNN) and score as on
    # KAIST: people of at least 55 pixels.
    "cvc14": {
        "data.options.name": "cvc14",
        "data.grey_visible": True,
        "data.height_px": 480,
        "eval.min_height_px": 55.0,
        "train.epochs": 12.0,
        "train.evaluate_every_epochs": 3.0,
    },
    # M3FD (Liu et al., CVPR 2022): 4,200 pairs, most of 1024x768, without an official split. Blocks of
    # neighbouring frames are drawn, since random frames would have near copies on both sides; datasets/README.md has
    # the options for the published lists of M3FD-zxSplit. Papers give AP of six classes.
    "m3fd": {
        "data.options.name": "m3fd",
        "data.options.person_labels": "people",
        "data.options.sequence_images": 100,
        "data.options.test_share": 0.3,
        "data.height_px": 480,
        "train.epochs": 24.0,
        "train.evaluate_every_epochs": 6.0,
    },
}


def use_folder(config: ConfigDict, name: str) -> ConfigDict:
    """Set an own folder, or one of the data sets of ``FOLDERS``, in a config; return the config, which is changed."""
    _add_options(config.data.options)
    config.data.name = "rgbt_folder"
    config.data.max_boxes = 128
    config.anchors.smallest_px = 20.0  # smaller than in KAIST, since everybody who is labelled counts
    config.roi.hidden = 1024
    start_from_imagenet(config)
    config.train.batch_size = 8
    config.train.epochs = 24.0
    config.train.evaluate_every_epochs = 6.0
    config.eval.min_height_px = 0.0
    config.eval.border_px = ()
    config.eval.scale_and_occlusion = False
    config.update_from_flattened_dict(FOLDERS[name])
    return config


def _add_options(options: ConfigDict) -> None:
    """Add the options of the builder of own folders; see datasets/README.md."""
    options.name = "pairs"  # of the prepared data, so that several folders can be prepared
    options.pairs = placeholder(str)  # CSV list of the pairs
    options.visible = placeholder(str)  # pattern or folder of the visible images
    options.lwir = placeholder(str)
    options.labels = "visible"  # visible | lwir | both
    options.label_folder = placeholder(str)
    options.person_labels = ""  # empty: person, pedestrian and the like
    options.ignore_labels = ""
    options.class_names = ""  # of YOLO's class numbers; empty: a list of names in the folder
    options.missing_labels = "background"  # what an image without a label file is: background | error
    options.split = "auto"  # auto: as lists or folders say, else by sequence; see datasets/README.md
    options.train_list = placeholder(str)
    options.test_list = placeholder(str)
    options.validation_list = placeholder(str)
    options.test_share = 0.2  # of a split by sequences
    options.split_seed = 0
    options.sequence = placeholder(str)  # regular expression: its groups in a pair's name tell the sequence
    options.sequence_images = 0  # if above 0, images in a row that are taken as a sequence
    options.night = placeholder(str)  # regular expression: pairs with it in their name are night
    options.lwir_to_visible = placeholder(str)  # how the thermal image lies in the visible one
    options.allow_incomplete = False  # whether missing test images are a warning instead of an error
