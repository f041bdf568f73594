"""Rendering and encoding of many scenes on all cores, in order.

The workers are Python programs that write to a pipe. ``multiprocessing`` is no alternative: a forked child of a process
whose libraries run threads can hang, and a spawned child first imports the user's main program and all its modules. For
a fast start of the workers, this module imports no libraries but NumPy and OpenCV.
"""

import argparse
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from datasets.synthetic_rgbt.label_noise import add_label_noise
from datasets.synthetic_rgbt.scenes import render
from datasets.synthetic_rgbt.world import TYPICAL_SHARE
from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.devices import usable_cores

SPLITS = ("train", "validation", "test")
_NOISE_STREAM = 3  # of random numbers; the scene itself uses 0 to 2


class SceneOptions(NamedTuple):
    """The options that determine a record, together with its index."""

    split: str  # one of SPLITS
    seed: int
    height_px: int
    width_px: int
    label_noise: bool = False
    typical_share: float = TYPICAL_SHARE  # median height of the people as a share of the image's


def encode_scene(options: SceneOptions, index: int) -> dict:
    """Return record ``index`` of a split in the schema of ``datasets.records``; images are PNG bytes."""
    seeds = (options.seed, SPLITS.index(options.split))
    scene = render(seeds, index, options.height_px, options.width_px, options.typical_share)
    boxes, occlusion, ignore, _ = scene.people
    if options.label_noise:
        rng = np.random.default_rng([*seeds, index, _NOISE_STREAM])
        boxes, source = add_label_noise(rng, boxes, options.height_px, options.width_px)
        is_person = source >= 0
        occlusion = np.where(is_person, np.append(occlusion, 0)[source], 0)
        ignore = np.where(is_person, np.append(ignore, False)[source], False)
    return {
        "image_id": f"{options.split}_{index:06d}",
        "visible": _png(scene.visible[..., ::-1]),
        "lwir": _png(scene.lwir),
        "condition": int(scene.is_night),
        "objects": [
            {"box": box, "label": PERSON, "occlusion": int(level), "ignore": bool(ignored)}
            for box, level, ignored in zip(boxes, occlusion, ignore, strict=True)
        ],
    }


def encode_scenes(options: SceneOptions, count: int, processes: int | None = None) -> Iterator[dict]:
    """Yield records 0 to ``count - 1`` in order.

    Args:
        options: the split, and how to render it.
        count: number of records.
        processes: number of workers; None for one per usable core. The records do not depend on it.

    Raises:
        RuntimeError: a worker ended early; it has printed the reason.
    """
    processes = min(processes or usable_cores(), count)
    # The workers search for packages in the same folders as this process.
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path or os.getcwd() for path in sys.path))
    fields = [str(int(value) if isinstance(value, bool) else value) for value in options]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, *fields, str(first), str(count), str(processes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for first in range(processes)
    ]
    try:
        for index in range(count):
            worker = workers[index % processes]
            assert worker.stdout is not None  # a pipe
            try:
                yield pickle.load(worker.stdout)
            except EOFError:
                raise RuntimeError(f"A process that renders scenes ended with status {worker.wait()}.") from None
    finally:
        for worker in workers:
            with worker:  # closes the pipe and waits
                worker.kill()


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()


def _work(arguments: list[str]) -> None:
    """Write the records ``first``, ``first + step``... below ``count`` to standard output, pickled."""
    parser = argparse.ArgumentParser()
    parser.add_argument("split")
    for name in ("seed", "height_px", "width_px", "label_noise"):
        parser.add_argument(name, type=int)
    parser.add_argument("typical_share", type=float)
    for name in ("first", "count", "step"):
        parser.add_argument(name, type=int)
    work = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    options = SceneOptions(
        work.split, work.seed, work.height_px, work.width_px, bool(work.label_noise), work.typical_share
    )
    try:
        for index in range(work.first, work.count, work.step):
            pickle.dump(encode_scene(options, index), sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)  # the reading process has stopped and prints the reason


if __name__ == "__main__":
    _work(sys.argv[1:])
