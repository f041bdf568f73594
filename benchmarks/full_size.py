"""Parameters, memory and time at full size, 640x512 and width 1: compiles a training step and takes some.

    python -m benchmarks.full_size --role=teacher
    python -m benchmarks.full_size --role=student     the frozen teacher included, beside the baseline's step
    python -m benchmarks.full_size --flops            operations of one image's step of all roles; compiles nothing

The memory is the compiled step's own account: arguments (parameters, optimizer state, batch) and the temporary
buffers that the step needs besides. What grows with the batch is the difference between two batch sizes. The teacher's
share of the student's step is what that step takes longer than the baseline's, which is the same without a teacher.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import baseline, student, teacher
from dcrl_jax import parallel
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.structures import Batch
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.fit import GIB
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.step import TrainState, make_step

KAIST_TRAINING_IMAGES = 25_086


def one_batch(images: int, config: ConfigDict) -> Batch:
    """Noise with one or two pedestrians in each image, [1, images, ...]."""
    rng = np.random.default_rng(0)
    height, width, max_boxes = config.data.height_px, config.data.width_px, config.data.max_boxes
    boxes = np.zeros((1, images, max_boxes, 4), np.float32)
    boxes[..., 0, :] = np.array([0.15, 0.4, 0.21, 0.6]) * [width, height, width, height]
    boxes[..., 1, :] = np.array([0.6, 0.35, 0.75, 0.75]) * [width, height, width, height]
    is_person = np.zeros((1, images, max_boxes), bool)
    is_person[..., 0] = True
    is_person[:, ::2, 1] = True
    return Batch(
        visible=rng.integers(0, 256, (1, images, height, width, 3), np.uint8),
        lwir=None if config.role == "baseline" else rng.integers(0, 256, (1, images, height, width, 1), np.uint8),
        boxes=boxes,
        is_person=is_person,
        is_ignore=np.zeros_like(is_person),
        is_night=np.zeros((1, images), bool),
        index=np.arange(images, dtype=np.int32)[None],
        valid=np.ones((1, images), bool),
    )


class Built(NamedTuple):
    """A training step and what makes its arguments, which nothing has computed yet."""

    step: Callable  # on the mesh
    plain: Callable  # the same, of one device's share, as a function over an axis ``parallel.AXIS``
    mesh: jax.sharding.Mesh
    initial_state: Callable[[], TrainState]
    frozen: Callable[[], tuple]  # a student's teacher
    anchors: int


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None, accumulation_steps: int = 1) -> Built:
    """The step of a role on some devices, or on the first one, with its frozen teacher if it has one."""
    model, anchors = build_model(config), build_anchors(config)
    mesh = jax.sharding.Mesh(devices or jax.local_devices()[:1], (parallel.AXIS,))
    optimizer = build_optimizer(config, build_schedule(config, KAIST_TRAINING_IMAGES))
    own = teacher_config(config) if config.role == "student" else None
    guide = build_model(own) if own else None
    plain = make_step(model, optimizer, anchors, training_rules(config), 0, guide, accumulation_steps)
    step = parallel.parallel_step(plain, mesh, frozen_arguments=0 if guide is None else 1)

    def initial_state():
        params = init_params(model, config, 0)
        return TrainState(np.int32(0), params, optimizer.init(params))

    def frozen():
        return () if guide is None else (init_params(guide, own, 1),)

    return Built(step, plain, mesh, initial_state, frozen, len(anchors))


def teraflops(config: ConfigDict, images: int) -> float:
    """1e12 floating point operations of a step, as XLA counts them in the program before it compiles it.

    A multiply-add is two. Of a loop one round is counted: of RoIAlign's gradient one chunk of RoIs, which leaves out
    some 0.5 % of the step.
    """
    built = build(config)
    state, frozen = jax.eval_shape(built.initial_state), jax.eval_shape(built.frozen)
    # Of a pmapped program some versions of JAX give no account.
    in_axes = (None,) * (1 + len(frozen)) + (0,)
    one_device = jax.jit(jax.vmap(built.plain, in_axes, axis_name=parallel.AXIS))
    return one_device.lower(state, *frozen, one_batch(images, config)).cost_analysis()["flops"] / 1e12


def measure(config: ConfigDict, steps: int) -> float:
    """Print one role's figures; returns the fastest of its steps in seconds."""
    step, _, mesh, initial_state, make_frozen, anchors = build(config)
    frozen = parallel.replicate(make_frozen(), mesh)
    abstract = jax.eval_shape(initial_state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
    size = f"{config.data.width_px}x{config.data.height_px}"
    print(f"{config.role} of {size}, width {config.backbone.width:g}, head {config.roi.hidden}, {anchors:,} anchors")
    print(f"parameters: {parameters:,} ({4 * parameters / GIB:.2f} GiB as float32)")

    temporary = {}
    for images in (2, 1):
        batch = one_batch(images, config)
        started = time.perf_counter()
        compiled = step.lower(abstract, *frozen, batch).compile()
        account = compiled.memory_analysis()
        temporary[images] = account.temp_size_in_bytes
        print(
            f"batch {images}: compiled in {time.perf_counter() - started:.0f} s; arguments "
            f"{account.argument_size_in_bytes / GIB:.2f} GiB, temporary {temporary[images] / GIB:.2f} GiB",
            flush=True,
        )
    print(f"memory per image: {(temporary[2] - temporary[1]) / GIB:.2f} GiB")

    state = parallel.replicate(jax.tree.map(np.array, jax.device_get(initial_state())), mesh)
    batch = jax.device_put(batch, parallel.batch_sharding(mesh))
    times = []
    for number in range(steps + 1):
        started = time.perf_counter()
        state, metrics = step(state, *frozen, batch)
        loss = float(metrics["loss"])
        name = f"step {number}" if number else "first step, with compilation"
        times.append(time.perf_counter() - started)
        print(f"{name}: {times[-1]:.1f} s, loss {loss:.3f}", flush=True)
    return min(times[1:])


def main() -> None:
    """Print the tables of the roles asked for."""
    quiet_without_gpu()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--role", choices=("teacher", "student"), default="teacher")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--flops", action="store_true", help="count the operations of all roles, and do nothing else")
    options = parser.parse_args()
    if options.flops:
        for config in (teacher.get_config(), student.get_config(), baseline.get_config()):
            # The difference leaves out the optimizer, which works once for all images.
            count = teraflops(config, 2) - teraflops(config, 1)
            print(f"{config.role}: {count:.3f} TFLOP an image", flush=True)
        return
    if options.role == "teacher":
        measure(teacher.get_config(), options.steps)
        return
    alone = measure(baseline.get_config(), options.steps)
    print()
    together = measure(student.get_config(), options.steps)
    print(f"\nthe frozen teacher's share of the student's step: {1 - alone / together:.2f}")


if __name__ == "__main__":
    main()
