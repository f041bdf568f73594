"""One step on eight CPU devices, printed as JSON; in a process of its own, since devices are set at its start."""

import json
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Compare teacher and student at the size of the tests."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from conftest import shrink

    from benchmarks.data_parallel import compare
    from configs import student, teacher
    from dcrl_jax.models import vgg16

    jax.config.update("jax_disable_most_optimizations", True)
    vgg16.BLOCKS = tuple((channels, 1) for channels, _ in vgg16.BLOCKS)
    settings = {"teacher": [(8, 1), (2, 4)], "student": [(4, 1)]}
    rows = []
    for recipe in (teacher, student):
        config = shrink(recipe.get_config("synthetic"))
        rows += compare(config, 8, settings[config.role])
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
