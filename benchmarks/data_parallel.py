"""Do many devices compute what one computes? Gradients, losses and collectives of a step on 1, 2, 4 and 8 devices.

    python -m benchmarks.data_parallel

One step of teacher and of student on fake CPU devices, with the same parameters and the same global batch. The
deviation from the gradient on one device is the norm of the difference over the norm, of the complete gradient and of
its worst tensor. The collectives are counted in the compiled program, with the bytes that each device puts into them.
The last rows work through each device's share in parts (``train.accumulation_steps``).
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.steps import TrainingStep
from configs import student, teacher
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.tables import format_table

# Devices, and the parts of a device's share.
SETTINGS = [(2, 1), (4, 1), (8, 1), (1, 4), (2, 2)]
IMAGES = 8
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


class FirstStep(NamedTuple):
    """The first step of a role."""

    gradient: Any
    metrics: dict[str, float]
    collectives: dict[str, tuple[int, int]]  # of the compiled program; see ``collectives_of``


def collectives_of(program: str) -> dict[str, tuple[int, int]]:
    """Return the number of collectives in a compiled program's text and their total bytes, by the collective's name."""
    collectives = {}
    pattern = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
    for shapes, name in pattern.findall(program):
        size = sum(
            _BYTES[dtype] * math.prod(int(side) for side in sides.split(",") if side)
            for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        count, total = collectives.get(name, (0, 0))
        collectives[name] = (count + 1, total + size)
    return collectives


class Comparison:
    """One step of a role, to be taken on different devices with the same parameters and the same batch."""

    def __init__(self, config: ConfigDict, images: int):
        """Draw the parameters; ``images`` is the size of the batch."""
        config = config.copy_and_resolve_references()
        # The momentum after the first step is its gradient.
        config.optimizer.update(name="sgd", momentum=0.9, weight_decay=0.0, clip_norm=0.0, fusion_rate_scale=1.0)
        self._training, self._images = TrainingStep(config), images
        self._initial = jax.device_get(self._training.initial())

    def first_step(self, devices: Sequence[Any], accumulation_steps: int = 1) -> FirstStep:
        """Take the step on the given devices, each with ``accumulation_steps`` parts of its share."""
        arguments = self._training.place(self._initial, self._images, devices)
        compiled = self._training.on(devices, accumulation_steps).lower(*arguments).compile()
        state, metrics = jax.device_get(compiled(*arguments))
        trace = jax.tree.leaves(state.opt_state, is_leaf=lambda node: hasattr(node, "trace"))[0].trace
        metrics = {name: float(value) for name, value in metrics.items()}
        return FirstStep(trace, metrics, collectives_of(compiled.as_text()))


class Deviation(NamedTuple):
    """The deviation of a step from a reference."""

    gradient: float  # norm of the difference over the reference's norm
    worst_tensor: float  # the same for the tensor with the largest deviation
    worst_tensor_name: str
    losses: float  # the largest relative difference of a loss term or of the gradient norm


def deviation(step: FirstStep, reference: FirstStep) -> Deviation:
    """Return the deviation of a step from a reference."""

    def norm(leaves: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in leaves)))

    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(reference.gradient)]
    pairs = list(zip(jax.tree.leaves(reference.gradient), jax.tree.leaves(step.gradient), strict=True))
    gradient = norm([actual - expected for expected, actual in pairs]) / norm([expected for expected, _ in pairs])
    # The fusion's hidden layer has no gradient in the first step, since its last layer starts from zeros.
    tensors = [
        (norm([actual - expected]) / norm([expected]) if expected.any() else math.inf, name)
        for name, (expected, actual) in zip(names, pairs, strict=True)
        if expected.any() or actual.any()
    ]
    losses = max(abs(step.metrics[name] - value) / abs(value) for name, value in reference.metrics.items() if value)
    return Deviation(gradient, *max(tensors), losses)


def compare(config: ConfigDict, images: int, settings: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return one row for each setting (devices, accumulation steps), compared with one device and one part."""
    comparison = Comparison(config, images)
    reference = comparison.first_step(jax.local_devices()[:1])
    rows = []
    for devices, accumulation_steps in settings:
        step = comparison.first_step(jax.local_devices()[:devices], accumulation_steps)
        rows.append(
            {
                "role": config.role,
                "devices": devices,
                "accumulation_steps": accumulation_steps,
                **deviation(step, reference)._asdict(),
                "gradient_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(step.gradient)),
                "collectives": step.collectives,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of each role; there are no options."""
    Parser(__doc__).parse_args(arguments)
    quiet_without_gpu()
    with exit_on_error():
        jax.config.update("jax_num_cpu_devices", max(devices for devices, _ in SETTINGS))
        for recipe in (teacher, student):
            _print_table(recipe.get_config("synthetic"))


def _print_table(config):
    rows = []
    for row in compare(config, IMAGES, SETTINGS):
        collectives = ", ".join(f"{n} {name}, {size / 1e6:.2f}" for name, (n, size) in row["collectives"].items())
        rows.append(
            [
                f"{row['role']}, {row['devices']} devices",
                row["accumulation_steps"],
                *(f"{row[name]:.1e}" for name in ("gradient", "worst_tensor", "losses")),
                collectives or "none",
                row["gradient_bytes"] / 1e6,
            ]
        )
    size = f"batch of {IMAGES}, {config.data.width_px}x{config.data.height_px}"
    columns = ["parts of a share", "gradient", "worst tensor", "losses", "collectives: number, MB", "gradient, MB"]
    print(f"{format_table(rows, [size, *columns])}\n", flush=True)


if __name__ == "__main__":
    main()
