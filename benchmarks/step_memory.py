"""Memory of a full-size training step (640x512, width 1) in float32, bfloat16 and with blocks computed again.

    python -m benchmarks.step_memory                    all settings of teacher and student: 16 compilations
    python -m benchmarks.step_memory --role=student

By the compiled step's own account; nothing is run and nothing allocated. Arguments are parameters, optimizer state and
a student's frozen teacher, whatever the batch; the rest is what the step needs besides, at a batch of one and for each
further image. The last columns are the images that fit one device: what is left of its memory after a tenth that the
driver, the libraries and fragmentation take. More images than that need ``train.accumulation_steps``.

A CPU's compiler does the convolutions of bfloat16 in float32, with copies that a GPU does not make: there the figures
of bfloat16 are upper bounds.
"""

import argparse
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.full_size import GIB, build, one_batch
from configs import student, teacher
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.reports.tables import format_table

RECIPES = {"teacher": teacher, "student": student}
SETTINGS = [(dtype, remat) for dtype in ("float32", "bfloat16") for remat in (False, True)]
DEVICE_GIB = (16, 40, 80)
USABLE = 0.9


def bytes_of_step(config: ConfigDict, images: int) -> tuple[int, int]:
    """Bytes of a step's arguments and of its temporary buffers, from shapes alone."""
    built = build(config)
    state, frozen = jax.eval_shape(built.initial_state), jax.eval_shape(built.frozen)
    account = built.step.lower(state, *frozen, one_batch(images, config)).compile().memory_analysis()
    return account.argument_size_in_bytes, account.temp_size_in_bytes


def largest_batch(device_gib: float, arguments: float, first: float, further: float) -> int:
    """Images that fit a device: 0 if not even one does. All in GiB."""
    left = USABLE * device_gib - arguments - first
    return 0 if left < 0 else 1 + int(left / further)


def main() -> None:
    """Print the table of the roles asked for."""
    quiet_without_gpu()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--role", choices=tuple(RECIPES), action="append", help="by default both")
    options = parser.parse_args()
    rows = []
    for role in options.role or RECIPES:
        for dtype, remat in SETTINGS:
            config = RECIPES[role].get_config()
            config.backbone.update(dtype=dtype, remat=remat)
            name = f"{role}, {dtype}{', remat' if remat else ''}"
            started = time.perf_counter()
            (arguments, first), (_, two) = (bytes_of_step(config, images) for images in (1, 2))
            sizes = np.array([arguments, first, two - first]) / GIB
            rows.append([name, *sizes, *(largest_batch(gib, *sizes) for gib in DEVICE_GIB)])
            print(
                f"{name}: arguments {sizes[0]:.2f} GiB, first image {sizes[1]:.2f}, each further {sizes[2]:.2f} "
                f"(compiled twice in {time.perf_counter() - started:.0f} s)",
                flush=True,
            )
    columns = ["GiB", "arguments", "first image", "each further", *(f"images in {gib}" for gib in DEVICE_GIB)]
    print("\n" + format_table(rows, columns))


if __name__ == "__main__":
    main()
