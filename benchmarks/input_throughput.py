"""Images/s of the input pipeline at 640x512, from JPEG pairs to batches, and how many cores a GPU needs to be fed.

    python -m benchmarks.input_throughput                              pairs of its own making, in a temporary folder
    python -m benchmarks.input_throughput --manual_dir=KAIST           real ones, prepared if they are not yet
    python -m benchmarks.input_throughput --data_dir=DIR --threads=8,16
    python -m benchmarks.input_throughput --override=data.brightness_jitter=0.2 --override=data.height_px=256

The batches are those of training: ``train_data`` of the training loop, with the config of configs/student.py (pairs;
the teacher's are the same) and of configs/baseline.py (RGB alone), onto the devices of the machine. The pairs of its
own making are scenes of datasets/synthetic_rgbt, stored as JPEG in the shape of KAIST (visible 640x512, some 60 kB;
thermal in one channel, some 35 kB), which the builder of KAIST prepares; they lie in memory after the first epoch, so
that no disk is measured.

Images/s depend on what else the machine does, and cores in use say how many it left; images per second of processor
time, of all threads together, depend on it less. Decoding, mirroring and copying let go of Python's lock, so threads
can use all cores; reading records, padding and Grain took 1 ms an image together on one busy core, so what holds the
lock should bound one process at some 1,000 images/s. Up to there worker processes should win little.

A GPU takes as many images/s as its peak and a share of it (``--utilisation``) make of a training step's floating point
operations. The peaks are those of bfloat16: a network in float32 takes fewer images, so the cores in the last table are
the most that are needed.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks.overrides import changes_of
from configs import baseline, student
from dcrl_jax import parallel
from dcrl_jax.data import sources, transforms
from dcrl_jax.devices import quiet_without_gpu, usable_cores
from dcrl_jax.errors import InputError
from dcrl_jax.reports.tables import format_table
from dcrl_jax.structures import MODALITIES
from dcrl_jax.training.loop import box_filter_of, open_train_source, train_data

# 1e12 floating point operations of one image's training step at 640x512: `python -m benchmarks.full_size --flops`.
TERAFLOPS_PER_IMAGE = {"teacher": 2.10, "student": 1.64, "baseline": 0.92}
# 1e12 floating point operations a second in bfloat16, without sparsity, by NVIDIA's data sheets.
PEAK_TERAFLOPS = {"A100": 312.0, "H100 SXM": 989.0}

# Of the pairs of its own making: JPEG qualities that give files of about KAIST's size.
QUALITIES = {"visible": 90, "lwir": 80}
STAGES = ("read", "decode", "resize", "augment", "pad", "collate")


class Rate(NamedTuple):
    """What one run of the pipeline took."""

    images: int
    wall_s: float
    processor_s: float  # of all threads

    @property
    def per_second(self) -> float:
        return self.images / self.wall_s

    @property
    def per_core_second(self) -> float:
        return self.images / self.processor_s


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manual_dir", help="a copy of KAIST, instead of pairs of its own making")
    parser.add_argument("--data_dir", help="where prepared data of KAIST lies, or is put from --manual_dir")
    parser.add_argument("--pairs", type=int, default=128, help="of its own making, all different")
    parser.add_argument("--batches", type=int, default=8, help="that are timed in each run; two come before")
    parser.add_argument("--threads", help="numbers of threads, by default 1,2,4 and the number of CPUs")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="a key of the config")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of a GPU's peak that training reaches")
    parser.add_argument(
        "--teraflops_per_image", type=float, help="of one image's training step, instead of the known ones"
    )
    options = parser.parse_args(arguments)
    for name in ("pairs", "batches", "utilisation", "teraflops_per_image"):
        if (value := getattr(options, name)) is not None and value <= 0:
            parser.error(f"--{name} {value}: expected more than 0")
    try:
        threads = (
            [int(number) for number in options.threads.split(",")] if options.threads else [1, 2, 4, usable_cores()]
        )
    except ValueError:
        threads = [0]
    if min(threads) < 1:
        parser.error(f"--threads {options.threads}: expected whole numbers of at least 1, as in 1,2,4")
    options.threads = sorted(set(threads))
    return options


def make_pairs(folder: Path, count: int) -> dict[str, Any]:
    """Writes ``count`` training pairs and a test pair in KAIST's layout; returns the ``data`` keys that name them."""
    from datasets.synthetic_rgbt.scenes import render

    lists = {"train": [f"set00/V000/I{number:05d}" for number in range(count)], "test": ["set06/V000/I00000"]}
    for scene_number, image_id in enumerate([*lists["train"], *lists["test"]]):
        scene = render(0, scene_number, 512, 640)
        images = {"visible": cv2.cvtColor(scene.visible, cv2.COLOR_RGB2BGR), "lwir": scene.lwir}
        video, _, frame = image_id.rpartition("/")
        for modality, image in images.items():
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITIES[modality]])[1]
            _write(folder / "images" / video / modality / f"{frame}.jpg", encoded.tobytes())
        boxes = np.rint(scene.people.boxes).astype(int).tolist()
        lines = [f"person {x} {y} {w} {h} 0 0 0 0 0 0 0\n" for x, y, w, h in boxes]
        _write(folder / "annotations" / video / f"{frame}.txt", ("% bbGt version=3\n" + "".join(lines)).encode())
    for split, image_ids in lists.items():
        _write(folder / f"{split}.txt", "\n".join(image_ids).encode())
    named = {f"options.{split}_list": str(folder / f"{split}.txt") for split in lists}
    return {"manual_dir": str(folder), "data_dir": str(folder / "prepared"), **named}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def recipes(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, ConfigDict]:
    """The configs whose batches are measured, by the modalities that they read."""
    made = {"pairs": student.get_config(), "RGB alone": baseline.get_config()}
    for config in made.values():
        config.update_from_flattened_dict({f"data.{key}": value for key, value in data.items()})
        config.update_from_flattened_dict(changes_of(overrides))
    return made


def timed_batches(source: Sequence[Any], config: ConfigDict, threads: int, batches: int) -> Rate:
    """Takes batches as fast as they come; two that fill the buffers are not counted."""
    sharding = parallel.batch_sharding(parallel.device_mesh())
    iterator = train_data(source, config, sharding, num_threads=threads)
    try:
        for _ in range(2):
            jax.block_until_ready(next(iterator))
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(batches):
            jax.block_until_ready(next(iterator))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    finally:
        iterator.close()
    return Rate(batches * config.train.batch_size, wall, processor)


def stage_times(source: Sequence[Any], config: ConfigDict, images: int) -> dict[str, float]:
    """Processor time in ms an image of each of ``STAGES``, one image after the other in one thread."""
    data, rng = config.data, np.random.default_rng(0)
    modalities = MODALITIES if config.role == "student" else MODALITIES[:1]
    box_filter = box_filter_of(data)
    seconds = dict.fromkeys(STAGES, 0.0)

    def run(stage: str, call: Callable, *arguments: Any) -> Any:
        started = time.process_time()
        result = call(*arguments)
        seconds[stage] += time.process_time() - started
        return result

    def augment(pair: transforms.Pair) -> transforms.Pair:
        if data.flip_probability > 0:
            pair = transforms.random_flip(pair, rng, data.flip_probability)
        if data.brightness_jitter > 0:
            pair = transforms.random_brightness(pair, rng, data.brightness_jitter)
        if data.blank_probability > 0:
            pair = transforms.random_blank(pair, rng, data.blank_probability)
        return pair

    def collate(images: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return jax.tree.map(lambda *arrays: np.stack(arrays), *images)

    batch = []
    for number in range(images):
        record = run("read", source.__getitem__, number % len(source))
        pair = run("decode", transforms.decode, record, modalities)
        pair = run("resize", transforms.resize_pair, pair, data.height_px, data.width_px)
        pair = run("augment", augment, pair)
        batch.append(run("pad", transforms.to_padded, pair, data.max_boxes, box_filter))
        if len(batch) == config.train.batch_size or number == images - 1:
            run("collate", collate, batch)
            batch = []
    return {stage: 1000 * total / images for stage, total in seconds.items()}


def images_consumed(teraflops_per_image: float, peak_teraflops: float, utilisation: float) -> float:
    """Images/s that a training step takes on one GPU."""
    return utilisation * peak_teraflops / teraflops_per_image


def demand(
    teraflops_per_image: dict[str, float], per_core_second: dict[str, float], utilisation: float
) -> list[list[object]]:
    """Rows of the last table: role, its operations, GPU, images/s that it takes, cores that give as many."""
    rows = []
    for role, teraflops in teraflops_per_image.items():
        supply = per_core_second["RGB alone" if role == "baseline" else "pairs"]
        for gpu, peak in PEAK_TERAFLOPS.items():
            images = images_consumed(teraflops, peak, utilisation)
            rows.append([role, teraflops, gpu, images, images / supply])
    return rows


def measure(options: argparse.Namespace, data: dict[str, Any]) -> None:
    """Print the three tables."""
    configs = recipes(data, options.override)
    found = io.StringIO()
    # What the builder of KAIST finds in pairs of our own making is of no interest.
    with contextlib.redirect_stdout(found if "options.train_list" in data else sys.stdout):
        builder = sources.prepare(configs["pairs"].data)
    opened = {name: open_train_source(builder, config.data) for name, config in configs.items()}
    some = [opened["pairs"][place] for place in range(min(100, len(opened["pairs"])))]
    kilobytes = {name: np.mean([len(record[name]) for record in some]) / 1000 for name in MODALITIES}
    size = f"{configs['pairs'].data.width_px}x{configs['pairs'].data.height_px}"
    print(
        f"\n{len(opened['pairs']):,} pairs of {builder.info.full_name}; visible {kilobytes['visible']:.0f} kB, "
        f"thermal {kilobytes['lwir']:.0f} kB on average; batches of {configs['pairs'].train.batch_size} at {size}."
    )
    print(f"{usable_cores()} CPUs, {jax.devices()[0].device_kind}, OpenCV {cv2.__version__}, jax {jax.__version__}.\n")

    rows, per_core_second = [], {}
    for name, config in configs.items():
        for threads in options.threads:
            rate = timed_batches(opened[name], config, threads, options.batches)
            rows.append([name, threads, rate.per_second, rate.per_core_second, rate.processor_s / rate.wall_s])
            per_core_second[name] = max(rate.per_core_second, per_core_second.get(name, 0.0))
    columns = ("batches of", "threads", "images/s", "images a second of a core", "cores in use")
    print(format_table(rows, columns, decimals=1), flush=True)

    rows = []
    for name, config in configs.items():
        images = options.batches * config.train.batch_size
        times = stage_times(opened[name], config, images)
        total = sum(times.values())
        rows += [[name, stage, time_ms, 100 * time_ms / total] for stage, time_ms in times.items()]
        rows.append([name, "all", total, 100.0])
    print("\n" + format_table(rows, ("batches of", "stage, in one thread", "ms an image", "%")), flush=True)

    given = options.teraflops_per_image
    known = {"a step as given": given} if given else TERAFLOPS_PER_IMAGE
    columns = ("step of", "TFLOP an image", "GPU", "images/s it takes", "cores to feed it")
    print(f"\nOne GPU at {options.utilisation:g} of its peak in bfloat16, and cores like these:\n")
    print(format_table(demand(known, per_core_second, options.utilisation), columns))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on real data if there is any, else on pairs made for it; raises InputError."""
    quiet_without_gpu()
    logging.set_verbosity(logging.ERROR)
    options = parse(arguments)
    if options.data_dir or options.manual_dir:
        measure(options, {"data_dir": options.data_dir, "manual_dir": options.manual_dir})
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(options, make_pairs(Path(folder), options.pairs))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
