"""Renders and encodes many scenes on all cores, in order.

The workers are plain Python programs that write to a pipe. ``multiprocessing`` is not used: a forked child of a process
whose libraries run threads can hang, and a spawned one first imports the user's main program again, with all that it
imports. For the same reason this module needs nothing but NumPy and OpenCV.
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
from dcrl_jax.devices import usable_cores

SPLITS = ("train", "validation", "test")
_NOISE_STREAM = 3  # keeps the label noise's generator apart from those of the scene


class SceneOptions(NamedTuple):
    """What decides a split's records, besides their index."""

    split: str  # one of SPLITS
    seed: int
    height_px: int
    width_px: int
    label_noise: bool = False
    typical_share: float = TYPICAL_SHARE  # median height of the people as a share of the image's


def encode_scene(options: SceneOptions, index: int) -> dict:
    """Returns record ``index`` of a split as ``datasets.records`` describes it, images as PNG bytes."""
    seeds = (options.seed, SPLITS.index(options.split))
    scene = render(seeds, index, options.height_px, options.width_px, options.typical_share)
    boxes, occlusion, ignore, _ = scene.people
    if options.label_noise:
        rng = np.random.default_rng([*seeds, index, _NOISE_STREAM])
        boxes, source = add_label_noise(rng, boxes, options.height_px, options.width_px)
        of_somebody = source >= 0
        occlusion = np.where(of_somebody, np.append(occlusion, 0)[source], 0)
        ignore = np.where(of_somebody, np.append(ignore, False)[source], False)
    return {
        "image_id": f"{options.split}_{index:06d}",
        "visible": _png(scene.visible[..., ::-1]),
        "lwir": _png(scene.lwir),
        "condition": int(scene.is_night),
        "objects": [
            {"box": box, "label": "person", "occlusion": int(level), "ignore": bool(ignored)}
            for box, level, ignored in zip(boxes, occlusion, ignore, strict=True)
        ],
    }


def encode_scenes(options: SceneOptions, count: int, processes: int | None = None) -> Iterator[dict]:
    """Yields records 0 to ``count - 1`` in order.

    Args:
        options: which split, and what is in it.
        count: number of records.
        processes: how many render; None for one on each core. The records do not depend on it.

    Raises:
        RuntimeError: when a worker ends early; it has printed why.
    """
    processes = min(processes or usable_cores(), count)
    # The workers find these packages where this process did.
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path or os.getcwd() for path in sys.path))
    fields = [str(int(f) if isinstance(f, bool) else f) for f in options]
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
            try:
                yield pickle.load(worker.stdout)
            except EOFError:
                raise RuntimeError(f"A process that renders scenes ended with status {worker.wait()}.") from None
    finally:
        for worker in workers:
            worker.kill()
            worker.stdout.close()
            worker.wait()


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()


def _work(arguments: list[str]) -> None:
    """Writes every ``step``-th record, pickled, to standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("split")
    for name in ("seed", "height_px", "width_px", "label_noise"):
        parser.add_argument(name, type=int)
    parser.add_argument("typical_share", type=float)
    for name in ("first", "count", "step"):
        parser.add_argument(name, type=int)
    a = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    options = SceneOptions(a.split, a.seed, a.height_px, a.width_px, bool(a.label_noise), a.typical_share)
    try:
        for index in range(a.first, a.count, a.step):
            pickle.dump(encode_scene(options, index), sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)  # whoever reads has stopped, and says so


if __name__ == "__main__":
    _work(sys.argv[1:])
