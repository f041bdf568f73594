"""Tiny trained detectors, built once for all tests of inference."""

import functools

import jax
import numpy as np
import pytest

from dcrl_jax import checkpoints
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.network import build_network


@pytest.fixture(scope="module", autouse=True)
def quick_networks(quick_compile, shallow_backbone):
    """One convolution per block of VGG, and programs without LLVM's optimizations: both compile in less time."""


class Trained:
    """A role's config, network and parameters, a workdir with them at step 7, and a detector."""

    def __init__(self, config, draw_params, folder):
        self.config, self.workdir = config, folder
        self.network = build_network(config)
        self.params = draw_params(self.network)
        with checkpoints.open_manager(folder / "best") as manager:
            checkpoints.save_best(manager, 7, self.params, config, 0.5)

    @functools.cached_property
    def detector(self):
        return Detector(self.params, self.config, batch_size=4)

    def images(self, count, seed=0):
        """A batch of random images of each modality."""
        rng = np.random.default_rng(seed)
        return [rng.integers(0, 256, image.shape, np.uint8) for image in self.network.image_shapes(count)]

    def detect(self, *images):
        """The network's own detections in a batch of its size, and its modality weights."""
        return jax.device_get(self.detector.run_network(*images))


@pytest.fixture(scope="session")
def trained(tiny_config, random_params, tmp_path_factory):
    """Returns a role's Trained, built once; call it in a test, where ``quick_networks`` is on."""

    def train(role):
        config = tiny_config(role)
        config.backbone.norm = "group"
        return Trained(config, random_params, tmp_path_factory.mktemp(role))

    return functools.cache(train)
