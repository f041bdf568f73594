"""What the tests share: two CPU devices, and teachers small enough to compile in seconds."""

import atexit
import contextlib
import gc
import os
import resource
import shutil
import signal
import tempfile

# Read when JAX is first imported. Data parallel training needs two devices; the CPU gives the same numbers everywhere.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
# JAX looks only once, at its first compilation, whether there is a cache. With one, equal programs compile once.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="dcrl_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# What a script starts in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest


def shrink(config):
    config.data.height_px, config.data.width_px = 32, 48
    config.data.max_boxes = 3
    config.backbone.width = 1 / 32
    config.backbone.norm = "none"
    config.anchors.per_cell = 3
    config.rpn.sampled = 72
    config.rpn.max_positive = 8
    config.rpn.before_nms = 40
    config.rpn.kept_training = 40
    config.rpn.kept_testing = 10
    config.roi.size = 3
    config.roi.sampled = 24
    config.roi.max_positive = 6
    config.roi.hidden = 8
    fusion = {"teacher": config, "student": config.get("teacher")}.get(config.role)
    if fusion is not None:
        fusion.fusion.grid = (2, 3)
        fusion.fusion.hidden = 8
    return config


@pytest.fixture(scope="session")
def tiny_config():
    """Makes a fresh config of a complete detector for 48x32 pixels: 6x4 cells with 3 anchors each; by its role."""
    from configs import baseline, student, teacher

    recipes = {"teacher": teacher, "student": student, "baseline": baseline}

    def make(role="teacher"):
        return shrink(recipes[role].get_config("synthetic"))

    return make


@pytest.fixture(scope="session")
def random_params():
    """Makes parameters of a network in NumPy, because the initialisers take seconds to compile."""
    import jax

    def make(network, seed=0):
        rng = np.random.default_rng(seed)

        def draw(shape):
            scale = 0.1 if len(shape) == 1 else np.sqrt(2.0 / np.prod(shape[:-1]))
            return rng.normal(0.0, scale, shape).astype(np.float32)

        return jax.tree.map(lambda leaf: draw(leaf.shape), network.param_shapes())

    return make


@pytest.fixture(scope="session")
def no_room():
    """``with no_room(size):`` no file of this process grows beyond some bytes, which is met as a full disk is."""

    @contextlib.contextmanager
    def limit(size):
        former, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
        try:
            yield
        finally:
            # Before the test ends: what pytest writes of it may go to a file too.
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
            signal.signal(signal.SIGXFSZ, handler)

    return limit


@pytest.fixture(scope="module", autouse=True)
def freed_programs():
    """Lets go of a module's compiled programs: all of them together exceed the memory maps that a process may have."""
    import jax

    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles a module's programs without LLVM's optimizations, in a third of the time."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def shallow_backbone():
    """One convolution in each of VGG's blocks: a third of the time to compile; all else is as it was."""
    from dcrl_jax.models import vgg16

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "BLOCKS", tuple((channels, 1) for channels, _ in vgg16.BLOCKS))
        yield
