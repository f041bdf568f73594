"""Keys that every recipe shares: the paper's setting on KAIST, and the changes of data and scale for other sets.

Sources: "paper" is Liu et al., Deep Cross-modal Representation Learning and Distillation for Illumination-invariant
Pedestrian Detection; "peers" are two-stage KAIST detectors (MSDS-RCNN, AR-CNN); "ours" is a choice made here. How the
program works, and not what it computes, has no source.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def detector(role: str) -> ConfigDict:
    """The paper's setting on KAIST, what teacher, student and baseline share; ``role`` is one of these three."""
    config = ConfigDict()
    config.role = role
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "kaist"
    config.data.options = ConfigDict()  # arguments of the data set's builder
    config.data.data_dir = placeholder(str)  # where prepared data lies; TFDS's own default if not given
    config.data.manual_dir = placeholder(str)  # where data that you fetched yourself lies
    config.data.train_split = "train"
    config.data.test_split = "test"
    # Scored during training, to choose the best checkpoint. KAIST has none of its own. Where the test split is watched,
    # the last parameters are scored in the end, not the best: a split that chose parameters is no test of them.
    config.data.validation_split = "test"
    config.data.height_px = 512  # KAIST's own size
    config.data.width_px = 640
    config.data.max_boxes = 64  # padding of the annotations of one image; ours: above KAIST's largest count
    config.data.train_labels = ("person",)  # what trains as a pedestrian; ours, as the next five: see KAIST_FILTERS
    config.data.train_ignore_labels = ("people", "person?", "cyclist", "ignore", "unpaired")  # ignore regions
    config.data.train_min_height_px = 0.0  # annotated pixels; smaller ones become ignore regions
    config.data.train_max_occlusion = 2  # 0 none, 1 partial, 2 heavy; above becomes an ignore region
    config.data.train_border_px = ()  # x1, y1, x2, y2: whoever leaves it becomes an ignore region; () for none
    config.data.train_drop_empty = False  # whether images without a pedestrian are left out of training
    config.data.flip_probability = 0.5  # peers
    config.data.brightness_jitter = 0.0  # relative; ours: off
    config.data.blank_probability = 0.0  # of one modality, as a defence against ignoring the other; ours: off

    config.backbone = ConfigDict()
    config.backbone.width = 1.0  # multiplier of VGG-16's channels
    config.backbone.norm = "none"  # none (paper) | group
    config.backbone.stride = 8  # pixels; pool4 dropped as in MSDS-RCNN and AR-CNN; or 16
    config.backbone.dtype = "float32"  # of the activations: float32 | bfloat16; parameters and losses stay float32
    config.backbone.remat = False  # compute each block again in the backward pass: more time, less memory

    config.segmentation = ConfigDict()
    config.segmentation.stages = ("rpg", "rdr")  # Table VI

    config.anchors = ConfigDict()
    config.anchors.per_cell = 9  # peers
    config.anchors.aspect_ratio = 0.41  # width / height of a pedestrian; peers
    config.anchors.smallest_px = 30.0  # height at an input of reference_height_px; scaled with the input; peers
    config.anchors.largest_px = 500.0  # peers
    config.anchors.reference_height_px = 512.0

    config.rpn = ConfigDict()
    config.rpn.positive_iou = 0.5  # paper V-B
    config.rpn.negative_iou = 0.3  # peers
    config.rpn.ignore_ioa = 0.5  # ours
    config.rpn.match_best_anchor = True  # Faster R-CNN: the best anchor of each pedestrian is positive
    config.rpn.sampled = 256  # peers
    config.rpn.max_positive = 128  # peers
    config.rpn.offset_std = (0.1, 0.1, 0.2, 0.2)  # Fast R-CNN's divisors, of both stages
    config.rpn.min_size_px = 4.0  # smaller proposals are dropped; ours
    config.rpn.before_nms = 6000  # peers
    config.rpn.nms_iou = 0.7  # peers
    config.rpn.kept_training = 1000  # ours
    config.rpn.kept_testing = 300  # peers

    config.roi = ConfigDict()
    config.roi.positive_iou = 0.5  # peers
    config.roi.ignore_ioa = 0.5  # ours
    config.roi.sampled = 128  # peers
    config.roi.max_positive = 32  # peers
    config.roi.size = 7  # bins on a side; peers
    config.roi.samples_per_bin = 2  # on a side; peers
    config.roi.hidden = 4096  # peers

    config.final = ConfigDict()
    config.final.min_score = 0.001  # ours
    config.final.nms_iou = 0.3  # peers
    config.final.max_detections = 100  # per image; ours

    config.loss = ConfigDict()
    config.loss.box_weight = 1.0  # lambda, paper III-A
    config.loss.segmentation_weight = 1.0  # eta, paper III-A
    config.loss.per_branch_weight = 0.0  # of each branch's own losses (teacher); paper: only the fused outputs

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # adam | sgd | adamw; paper V-B: sgd for the student, adam for the teacher
    config.optimizer.learning_rate = 1e-3  # paper V-B, of both
    # If above 0, the rate is for batches of this size and scales linearly with train.batch_size; paper: no scaling.
    config.optimizer.reference_batch_size = 0
    config.optimizer.fusion_rate_scale = 1.0  # times the learning rate, for the modality fusion (teacher); paper: none
    config.optimizer.schedule = "steps"  # steps (paper V-B) | cosine
    config.optimizer.decay_epochs = ()  # of "steps"; the paper names some for the teacher alone
    config.optimizer.decay_factor = 0.1  # paper V-B
    config.optimizer.warmup_steps = 0  # paper: none
    config.optimizer.momentum = 0.9  # of sgd; paper V-B
    # sgd and adam add it times the weights to the gradient (L2, as PyTorch's do), adamw shrinks the weights by it times
    # the rate (decoupled); paper: none; peers: sgd with 5e-4.
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0  # global norm of the gradients; 0 = off, as in the paper

    config.train = ConfigDict()
    config.train.batch_size = 64  # over all devices; paper V-B
    # Parts in which a device works through its share of the batch; as few as fit its memory if not given.
    config.train.accumulation_steps = placeholder(int)
    config.train.epochs = 150.0  # paper V-B: 150 for the student, 100 for the teacher
    config.train.steps = placeholder(int)  # instead of epochs, if given
    config.train.log_every_steps = 20
    config.train.evaluate_every_epochs = 5.0  # also saves a checkpoint; the best by miss rate is kept apart
    config.train.checkpoint_every_minutes = 15.0

    config.init = ConfigDict()
    config.init.vgg16 = placeholder(str)  # safetensors file or hf://owner/name/file of VGG-16; none or '': random
    config.init.checkpoint = placeholder(str)  # a workdir to start the parameters from
    config.init.roles = ()  # what the checkpoint must be of, where training cannot do without; () asks for none

    config.eval = ConfigDict()
    config.eval.batch_size = 8
    # Who counts: kaist (reasonable, by the next two keys) | caltech | nightowls (their own, dcrl_jax/evaluation/rules).
    config.eval.rules = "kaist"
    config.eval.min_height_px = 55.0  # KAIST reasonable, annotated pixels
    config.eval.border_px = (5.0, 5.0, 635.0, 507.0)  # KAIST: boxes beyond it are ignored; () for none
    config.eval.scale_and_occlusion = True  # whether KAIST's six further subsets are scored too
    return config


def add_multimodal(config: ConfigDict) -> None:
    """What a teacher has besides: its modules, and its own optimizer and length of training."""
    config.cfl = ConfigDict()
    config.cfl.enabled = True
    config.cfl.shared_fraction = 0.5  # alpha, paper V-B
    config.cfl.groups = 2  # G, paper V-B
    config.cfl.aggregation = "attention"  # attention (Eq. 4-6) | average (Table II, without AAS)
    # Variance at the start of P's and V's weights times their fan-in. Ours: half of He's 2, which their sum then has;
    # with 2 for each and without normalisation the features grow by half from level to level.
    config.cfl.specific_gain = 1.0

    config.fusion = ConfigDict()
    config.fusion.strategy = "maf"  # maf (Eq. 10-13) | linear | average (Table III)
    config.fusion.grid = (4, 5)  # ours: average to 4x5 cells before the MLP; () flattens the whole map
    config.fusion.hidden = 256  # ours

    config.optimizer.name = "adam"  # paper V-B
    config.optimizer.decay_epochs = (50.0, 75.0)  # paper V-B
    config.train.epochs = 100.0  # paper V-B


def add_distillation(config: ConfigDict, teacher: ConfigDict) -> None:
    """What a student has besides: the terms of Eq. 14-18, and the teacher that it learns from.

    Args:
        config: the student's.
        teacher: the teacher's recipe on the same data; its sections are taken over.
    """
    config.distillation = ConfigDict()
    config.distillation.fea = True  # feature level, Eq. 15; the four names are Table IV's
    config.distillation.cls = True  # classification, Eq. 16
    config.distillation.bbr = True  # box regression, Eq. 17
    config.distillation.seg = True  # segmentation, Eq. 18
    config.distillation.rho = 0.5  # weight of L_F, paper IV-A
    config.distillation.zeta = 0.5  # share of the hard labels in Eq. 16, paper V-B
    config.distillation.temperature = 1.0  # T of Eq. 16; ours: the paper names none
    config.distillation.epsilon = 0.5  # weight of L_b in Eq. 17, paper V-B
    config.distillation.delta = 0.0  # margin of Eq. 17, normalised offsets squared; ours: the paper names none
    config.distillation.xi = 0.5  # share of the annotated masks in Eq. 18, paper V-B

    # The teacher's own keys. It shares all others with its student, and is trained first unless there is one.
    config.teacher = ConfigDict()
    config.teacher.checkpoint = placeholder(str)  # a trained teacher's workdir, or one checkpoint
    for section in ("cfl", "fusion", "optimizer", "train"):
        config.teacher[section] = teacher[section]
    config.teacher.init = ConfigDict()
    config.teacher.init.checkpoint = placeholder(str)  # a workdir to start the teacher's parameters from


def small_scale(config: ConfigDict) -> None:
    """Settings for networks that start from nothing and train on a CPU; all of them ours."""
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
        config.cfl.specific_gain = 2.0  # nothing grows where every convolution is normalised
        config.fusion.hidden = 64
        # At the full rate Adam moves the gate to one modality within the first steps, before the branches can detect.
        config.optimizer.fusion_rate_scale = 0.1
    config.data.max_boxes = 16
    config.optimizer.name = "adamw"
    config.optimizer.schedule = "cosine"
    config.loss.per_branch_weight = 1.0  # keeps a teacher's branch learning that the gate does not favour yet
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 10.0
    config.train.batch_size = 8
    config.eval.batch_size = 20
    config.eval.border_px = ()
    config.eval.scale_and_occlusion = False


# Which annotations of KAIST train as people, and which become ignore regions, in the recipes of peers.
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
    """The options of KAIST's builder; see datasets/kaist."""
    options.annotations = "original"  # original | improved | sanitized | paired: what trains and what tests
    options.train_stride = 2  # frames from one training image to the next
    options.test_stride = 20
    options.train_list = placeholder(str)  # an image list instead of the stride
    options.test_list = placeholder(str)
    options.train_annotations = placeholder(str)  # folder within the copy, where several would do
    options.test_annotations = placeholder(str)
    options.allow_incomplete = False  # whether missing test images are a warning instead of an error


def use_data(config: ConfigDict, data: str) -> ConfigDict:
    """Change data and scale.

    Args:
        config: of ``detector``.
        data: 'kaist' (no change), 'kaist/FILTER' (training filters of KAIST_FILTERS), 'synthetic' (128x96 scenes) or
            'msrs' (real pairs at 320x240).
    """
    name, _, preset = data.partition("/")
    if name == "kaist" and (not preset or preset in KAIST_FILTERS):
        config.init.vgg16 = "hf://timm/vgg16.tv_in1k/model.safetensors"  # ImageNet's, paper V-B
        _add_kaist_options(config.data.options)
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
        small_scale(config)
        config.data.name = "msrs"
        config.data.options.labels = "fusion"  # fusion | visible | infrared
        config.data.height_px = 240
        config.data.width_px = 320
        config.data.max_boxes = 32
        config.train.epochs = 30.0
        config.train.evaluate_every_epochs = 15.0
        config.eval.min_height_px = 20.0
        return config
    known = ["kaist", *(f"kaist/{preset}" for preset in KAIST_FILTERS), "synthetic", "msrs"]
    raise ValueError(f"configs know the data sets {', '.join(known)}, not {data!r}")
