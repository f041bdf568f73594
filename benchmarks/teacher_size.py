"""Parameters, memory and time of the full-size teacher: compiles its training step and takes one.

    python benchmarks/teacher_size.py

The memory is the compiled step's own account: arguments (parameters, optimizer state, batch) and the temporary
buffers that the step needs besides. What grows with the batch is the difference between two batch sizes.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from configs import teacher
from dcrl_jax import parallel
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.structures import Batch
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.step import TrainState, make_step

GIB = 2**30


def one_batch(images: int, height: int, width: int, max_boxes: int) -> Batch:
    """Noise with two pedestrians in each image, [1, images, ...]."""
    rng = np.random.default_rng(0)
    boxes = np.zeros((1, images, max_boxes, 4), np.float32)
    boxes[..., 0, :] = (100, 200, 140, 300)
    boxes[..., 1, :] = (400, 180, 480, 380)
    is_person = np.zeros((1, images, max_boxes), bool)
    is_person[..., :2] = True
    return Batch(
        visible=rng.integers(0, 256, (1, images, height, width, 3), np.uint8),
        lwir=rng.integers(0, 256, (1, images, height, width, 1), np.uint8),
        boxes=boxes,
        is_person=is_person,
        is_ignore=np.zeros_like(is_person),
        is_night=np.zeros((1, images), bool),
        index=np.arange(images, dtype=np.int32)[None],
        valid=np.ones((1, images), bool),
    )


def main() -> None:
    """Print the table."""
    quiet_without_gpu()
    config = teacher.get_config()
    model, anchors = build_model(config), build_anchors(config)
    mesh = jax.sharding.Mesh(jax.local_devices()[:1], (parallel.AXIS,))
    optimizer = build_optimizer(config, build_schedule(config, 25086))
    step = parallel.parallel_step(make_step(model, optimizer, anchors, training_rules(config), 0), mesh)

    def initial_state():
        params = init_params(model, config, 0)
        return TrainState(np.int32(0), params, optimizer.init(params))

    abstract = jax.eval_shape(initial_state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
    size = f"{config.data.width_px}x{config.data.height_px}"
    print(f"teacher of {size}, width {config.backbone.width:g}, head {config.roi.hidden}, {len(anchors):,} anchors")
    print(f"parameters: {parameters:,} ({4 * parameters / GIB:.2f} GiB as float32)")

    temporary = {}
    for images in (2, 1):
        batch = one_batch(images, config.data.height_px, config.data.width_px, config.data.max_boxes)
        started = time.perf_counter()
        compiled = step.lower(abstract, batch).compile()
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
    for name in ("first step, with compilation", "second step"):
        started = time.perf_counter()
        state, metrics = step(state, batch)
        loss = float(metrics["loss"])
        print(f"{name}: {time.perf_counter() - started:.1f} s, loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
