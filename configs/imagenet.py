"""The default that trains a network of full width from ImageNet's VGG-16, where the paper's letter does not.

Each line departs from the paper. benchmarks/runs.md#first-steps and benchmarks/README.md#gpu have the measurements;
what is only reasoned says so. ``configs/*.py:kaist/literal`` is the paper's letter.
"""

from ml_collections import ConfigDict

VGG16 = "hf://timm/vgg16.tv_in1k/model.safetensors"  # ImageNet's, paper V-B


def start_from_imagenet(config: ConfigDict) -> None:
    """Change a config for training from ImageNet's weights at full width."""
    config.init.vgg16 = VGG16
    config.init.rescale = True  # VGG-16's own features, of RMS 47 to 440, make CFL's gate 0 or 1
    if config.role == "teacher":
        config.cfl.init = "identity"  # Gaussian kernels scramble the channels that ImageNet's next block reads
        config.optimizer.fusion_rate_scale = 0.1  # at the full rate one modality gets all weight in the first steps
    config.loss.per_branch_weight = 1.0  # a teacher's branch goes on learning while its weight is small; reasoned
    config.backbone.frozen_blocks = 2  # as Faster R-CNN
    if config.role == "student":
        config.distillation.relative = True  # L_F was five sixths of the loss, and the student below its baseline
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-4  # Adam's 1e-3 multiplied the features by 500 in one step
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.clip_norm = 10.0
