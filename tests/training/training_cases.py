"""What the tests of training share: a batch of every kind of image, and runs compared bit by bit."""

import jax
import numpy as np

from dcrl_jax import checkpoints
from dcrl_jax.structures import Batch


def make_batch():
    """Four pairs: two people and padding, a person and an ignore region, nobody, an ignore region."""
    rng = np.random.default_rng(11)
    first, second, region = [4, 4, 12, 24], [30, 6, 40, 30], [24, 0, 44, 32]
    boxes = np.zeros((4, 3, 4), np.float32)
    boxes[0, :2], boxes[1, :2], boxes[3, 1] = (first, second), (second, [0, 0, 20, 20]), region
    is_person = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    is_ignore = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    return Batch(
        visible=rng.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8),
        lwir=rng.integers(0, 256, (4, 32, 48, 1), dtype=np.uint8),
        boxes=boxes,
        is_person=is_person,
        is_ignore=is_ignore,
        is_night=np.zeros(4, bool),
        index=np.arange(4, dtype=np.int32),
        valid=np.ones(4, bool),
    )


def newest_params(workdir):
    """Step and parameters of a workdir's newest checkpoint."""
    params, _, step = checkpoints.restore_params(str(workdir / checkpoints.RESUME_FOLDER))
    return step, jax.device_get(params)


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)
