"""Do many devices compute what one computes? Gradients, losses and collectives of a step on 1, 2, 4 and 8 devices.

    python -m benchmarks.data_parallel

One global batch, one set of parameters, one step of teacher and of student on fake CPU devices. The deviation is that
from the gradient on one device, as a whole (the norm of the difference over the norm) and of its worst tensor. The
collectives are counted in the compiled program, with the bytes that each device puts into them. The last rows work
through each device's share in parts (``train.accumulation_steps``).
"""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.full_size import build, one_batch
from configs import student, teacher
from dcrl_jax import parallel
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.reports.tables import format_table

DEVICES = (1, 2, 4, 8)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


class Step(NamedTuple):
    """One step of a role: what it gave, and the collectives of its program."""

    gradient: Any
    metrics: dict[str, float]
    collectives: dict[str, tuple[int, int]]  # by name: how many, and the bytes of all of them


def collectives_of(program: str) -> dict[str, tuple[int, int]]:
    """Number and bytes of the collectives in a compiled program's text, by name."""
    found = {}
    pattern = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
    for shapes, name in pattern.findall(program):
        size = sum(
            _BYTES[kind] * int(np.prod([int(side) for side in sides.split(",") if side], dtype=np.int64))
            for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        count, total = found.get(name, (0, 0))
        found[name] = (count + 1, total + size)
    return found


def step_runner(config: ConfigDict, images: int) -> Callable[[Sequence[jax.Device], int], Step]:
    """``run(devices, accumulation_steps)``: a role's step from seeded parameters on one batch, on these devices."""
    config = config.copy_and_resolve_references()
    # The momentum of the first step is its gradient.
    config.optimizer.update(name="sgd", momentum=0.9, weight_decay=0.0, clip_norm=0.0, fusion_rate_scale=1.0)
    built = build(config)
    arguments = jax.device_get((built.initial_state(), built.frozen()))
    whole = one_batch(images, config)

    def run(devices: Sequence[jax.Device], accumulation_steps: int) -> Step:
        built = build(config, devices, accumulation_steps)
        # Copies, because the step reuses the buffers of its state.
        state, frozen = parallel.replicate(jax.tree.map(np.array, arguments), built.mesh)
        shared = jax.tree.map(lambda leaf: leaf.reshape(len(devices), -1, *leaf.shape[2:]), whole)
        batch = jax.device_put(shared, parallel.batch_sharding(built.mesh))
        compiled = built.step.lower(state, *frozen, batch).compile()
        state, metrics = jax.device_get(compiled(state, *frozen, batch))
        trace = jax.tree.leaves(state.opt_state, is_leaf=lambda node: hasattr(node, "trace"))[0].trace
        return Step(trace, {name: float(value) for name, value in metrics.items()}, collectives_of(compiled.as_text()))

    return run


class Deviation(NamedTuple):
    """How far a step is from another: norms of differences over norms, and the worst of losses and gradient norm."""

    gradient: float
    worst_tensor: float
    worst_tensor_name: str
    losses: float


def deviation(one: Step, other: Step) -> Deviation:
    """Return how far the second step is from the first."""

    def norm(leaves: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in leaves)))

    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(one.gradient)]
    pairs = list(zip(jax.tree.leaves(one.gradient), jax.tree.leaves(other.gradient), strict=True))
    whole = norm([b - a for a, b in pairs]) / norm([a for a, _ in pairs])
    # The fusion's hidden layer has no gradient yet: its last layer starts from zeros.
    tensors = [
        (norm([b - a]) / norm([a]) if a.any() else math.inf, name)
        for name, (a, b) in zip(names, pairs, strict=True)
        if a.any() or b.any()
    ]
    metrics = max(abs(other.metrics[name] - value) / abs(value) for name, value in one.metrics.items() if value)
    return Deviation(whole, *max(tensors), metrics)


def compare(config: ConfigDict, images: int, settings: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """One row for each setting (devices, accumulation steps), beside one device that takes all images at once."""
    run = step_runner(config, images)
    one = run(jax.local_devices()[:1], 1)
    rows = []
    for devices, accumulation_steps in settings:
        step = run(jax.local_devices()[:devices], accumulation_steps)
        apart = deviation(one, step)
        rows.append(
            {
                "role": config.role,
                "devices": devices,
                "accumulation_steps": accumulation_steps,
                "gradient": apart.gradient,
                "worst_tensor": apart.worst_tensor,
                "losses": apart.losses,
                "gradient_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(step.gradient)),
                "collectives": step.collectives,
            }
        )
    return rows


def main() -> None:
    """Print the table; there are no options."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    quiet_without_gpu()
    jax.config.update("jax_num_cpu_devices", DEVICES[-1])
    columns = ["parts of a share", "gradient", "worst tensor", "losses", "collectives: number, MB", "gradient, MB"]
    for recipe in (teacher, student):
        table = []
        for row in compare(recipe.get_config("synthetic"), 8, [(count, 1) for count in DEVICES[1:]] + [(1, 4), (2, 2)]):
            collectives = ", ".join(f"{n} {name}, {b / 1e6:.2f}" for name, (n, b) in row["collectives"].items())
            deviations = [f"{row[name]:.1e}" for name in ("gradient", "worst_tensor", "losses")]
            table.append(
                [
                    f"{row['role']}, {row['devices']} devices",
                    str(row["accumulation_steps"]),
                    *deviations,
                    collectives or "none",
                    f"{row['gradient_bytes'] / 1e6:.2f}",
                ]
            )
        print(format_table(table, ["batch of 8, 128x96", *columns]), flush=True)
        print()


if __name__ == "__main__":
    main()
