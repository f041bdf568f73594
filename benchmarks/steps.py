"""The training step of a role from random parameters on noise, for the benchmarks of its time, memory and devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.inference.benchmark import direct_flops
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import CHANNELS, Batch
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState, make_loss, make_step
from dcrl_jax.training.terms import training_rules

KAIST_TRAINING_IMAGES = 25_086


class TrainingStep:
    """The step of a role, with a frozen teacher for a student. Methods compile and allocate; the constructor does not.

    Attributes:
        network: the network that is trained.
        loss: the result of ``make_loss``.
    """

    def __init__(self, config: ConfigDict):
        """Build the networks of a config."""
        self._config, self._rules = config, training_rules(config)
        self.network = build_network(config)
        self._teacher = build_network(teacher_config(config)) if config.role == "student" else None
        self._optimizer = build_optimizer(config, build_schedule(config, KAIST_TRAINING_IMAGES))
        self.loss = make_loss(self.network, self._rules, self._teacher)

    def initial(self) -> tuple[TrainState, tuple]:
        """Return the initial state and the frozen arguments (the parameters of a student's teacher)."""
        params = self.network.init_params(0)
        state = TrainState(np.int32(0), params, self._optimizer.init(params))
        return state, () if self._teacher is None else (self._teacher.init_params(1),)

    def initial_shapes(self) -> tuple[TrainState, tuple]:
        """Return the shapes of ``initial``."""
        return jax.eval_shape(self.initial)

    def on(self, devices: Sequence[Any] | None = None, accumulation_steps: int = 1) -> Callable:
        """Return the pmapped ``step(state, *frozen, batch)`` for the given devices, by default the first one."""
        frozen = 0 if self._teacher is None else 1
        return parallel.parallel_step(self._function(accumulation_steps), _mesh(devices), frozen)

    def place(
        self, initial: tuple[TrainState, tuple], images: int, devices: Sequence[Any] | None = None
    ) -> tuple[Any, ...]:
        """Return the arguments of ``on(devices)`` on these devices: ``initial`` and a batch of noise."""
        mesh = _mesh(devices)
        # Copies, because the step reuses the buffers of its state.
        state, frozen = parallel.replicate(jax.tree.map(np.array, jax.device_get(initial)), mesh)
        shared = jax.tree.map(
            lambda leaf: leaf.reshape(mesh.devices.size, -1, *leaf.shape[2:]), noise_batch(images, self._config)
        )
        return state, *frozen, jax.device_put(shared, parallel.batch_sharding(mesh))

    def flops(self, images: int) -> float:
        """Return the floating point operations of a step, as XLA counts them before it compiles the program.

        See ``direct_flops``. XLA counts one iteration of a loop: of RoIAlign's gradient only one chunk of
        RoIs, which leaves out some 0.5 % of the step.
        """
        state, frozen = self.initial_shapes()
        # Some versions of JAX give no account of a pmapped program.
        in_axes = (None,) * (1 + len(frozen)) + (0,)
        one_device = jax.jit(jax.vmap(self._function(), in_axes, axis_name=parallel.AXIS))
        return direct_flops(one_device, state, *frozen, noise_batch(images, self._config))

    def image_flops(self) -> float:
        """Return the operations that each image adds to a step; those of the optimizer are not among them."""
        return self.flops(2) - self.flops(1)

    def _function(self, accumulation_steps=1):
        return make_step(self.network, self._optimizer, self._rules, 0, self._teacher, accumulation_steps)


def repeated(step: Callable, arguments: Sequence[Any]) -> Callable[[], dict[str, jax.Array]]:
    """Return a call that takes one step after another on the same batch and returns the metrics.

    Args:
        step: the result of ``TrainingStep.on``.
        arguments: the result of ``TrainingStep.place``; the first step reuses their buffers.
    """
    state, *others = arguments

    def call():
        nonlocal state
        state, metrics = step(state, *others)
        return metrics

    return call


def noise_batch(images: int, config: ConfigDict) -> Batch:
    """Return noise with one or two pedestrians in each image: a batch for one device, NumPy [1, images, ...]."""
    rng = np.random.default_rng(0)
    height, width, max_boxes = config.data.height_px, config.data.width_px, config.data.max_boxes
    boxes = np.zeros((1, images, max_boxes, 4), np.float32)
    boxes[..., 0, :] = np.array([0.15, 0.4, 0.21, 0.6]) * [width, height, width, height]
    boxes[..., 1, :] = np.array([0.6, 0.35, 0.75, 0.75]) * [width, height, width, height]
    is_person = np.zeros((1, images, max_boxes), bool)
    is_person[..., 0] = True
    is_person[:, ::2, 1] = True
    visible, lwir = (
        rng.integers(0, 256, (1, images, height, width, CHANNELS[name]), np.uint8) for name in ("visible", "lwir")
    )
    return Batch(
        visible=visible,
        lwir=None if config.role == "baseline" else lwir,
        boxes=boxes,
        is_person=is_person,
        is_ignore=np.zeros_like(is_person),
        is_night=np.zeros((1, images), bool),
        index=np.arange(images, dtype=np.int32)[None],
        valid=np.ones((1, images), bool),
    )


def _mesh(devices):
    return Mesh(devices or jax.local_devices()[:1], (parallel.AXIS,))
