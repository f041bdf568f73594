"""Images/s of the input pipeline at 640x512, from JPEG pairs to batches, and the cores that feed a GPU.

    python -m benchmarks.input_throughput                              rendered pairs, in a temporary folder
    python -m benchmarks.input_throughput --manual_dir=KAIST           real pairs, prepared if they are not yet
    python -m benchmarks.input_throughput --data_dir=DIR --threads=8,16
    python -m benchmarks.input_throughput --config.data.brightness_jitter=0.2

The batches are those of training (``training.data.train_batches``) with the paper's configs, ``:kaist/literal`` of
configs/student.py (pairs; the teacher's are the same) and of configs/baseline.py (RGB only), onto the devices of the
machine. Rendered pairs are scenes
of datasets/synthetic_rgbt, stored as JPEG in the layout and the file sizes of KAIST (visible 640x512, some 60 kB;
thermal in one channel, some 35 kB) and prepared by the builder of KAIST. They are in memory after the first epoch, so
no disk is measured.

Images/s depend on other load on the machine; the cores in use show how many it left. Images per second of processor
time, of all threads together, depend on it less. Decoding, mirroring and copying release Python's lock, so that threads
can use all cores; reading records, padding and Grain took 1 ms an image together on one busy core, so the lock should
bound one process at some 1,000 images/s. Up to there worker processes should gain little.

A GPU consumes its peak, times the share that training reaches, over the operations of a training step.
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

from benchmarks.timing import describe_machine_and_peak
from datasets.synthetic_rgbt.scenes import render
from dcrl_jax import parallel
from dcrl_jax.command_line import Parser, exit_on_error, parse_recipe
from dcrl_jax.data import sources, transforms
from dcrl_jax.devices import quiet_without_gpu, usable_cores
from dcrl_jax.structures import MODALITIES
from dcrl_jax.tables import format_table
from dcrl_jax.training.data import box_filter_of, open_train_source, train_batches

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {"pairs": "student", "RGB only": "baseline"}
# 1e12 floating point operations of one image's training step at 640x512: `python -m benchmarks.full_size --flops`.
TERAFLOPS_PER_IMAGE = {"teacher": 2.10, "student": 1.64, "baseline": 0.92}
# 1e12 floating point operations a second, without sparsity, by NVIDIA's data sheets.
PEAK_TERAFLOPS = {"A100, TF32": 156.0, "A100, bfloat16": 312.0, "H100 SXM, TF32": 495.0, "H100 SXM, bfloat16": 989.0}
UTILISATION = 0.4  # assumed share of a GPU's peak that training reaches

QUALITIES = {"visible": 90, "lwir": 80}  # of rendered pairs as JPEG: they give files of about KAIST's size
STAGES = ("read", "decode", "resize", "augment", "pad", "collate")


class Rate(NamedTuple):
    """The images of one run of the pipeline, and the time that they took."""

    images: int
    wall_s: float
    processor_s: float  # of all threads

    @property
    def per_second(self) -> float:
        """Images per second."""
        return self.images / self.wall_s

    @property
    def per_core_second(self) -> float:
        """Images per second of processor time."""
        return self.images / self.processor_s


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; return its options and the arguments that set config keys."""
    parser = Parser(__doc__)
    parser.add_argument("--manual_dir", help="a copy of KAIST, instead of rendered pairs")
    parser.add_argument("--data_dir", help="folder of KAIST's prepared data, or for preparing --manual_dir")
    parser.add_argument("--pairs", type=int, default=128, help="rendered pairs, all different; default: 128")
    parser.add_argument("--batches", type=int, default=8, help="timed in each run, after two others; default: 8")
    parser.add_argument("--threads", help="numbers of threads; default: 1,2,4 and the number of CPUs")
    options, rest = parser.parse_known_args(arguments)
    for name in ("pairs", "batches"):
        if (value := getattr(options, name)) < 1:
            parser.error(f"--{name} {value}: expected at least 1")
    default = f"1,2,4,{usable_cores()}"
    try:
        threads = {int(number) for number in (options.threads or default).split(",")}
    except ValueError:
        threads = {0}
    if min(threads) < 1:
        parser.error(f"--threads {options.threads}: expected whole numbers of at least 1, as in 1,2,4")
    options.threads = sorted(threads)
    return options, rest


def make_pairs(folder: Path, count: int) -> dict[str, Any]:
    """Write ``count`` training pairs and a test pair in KAIST's layout; return the ``data`` keys that name them."""
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
    split_lists = {f"data.options.{split}_list": str(folder / f"{split}.txt") for split in lists}
    return {"data.manual_dir": str(folder), "data.data_dir": str(folder / "prepared"), **split_lists}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def recipes(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, ConfigDict]:
    """Return the configs whose batches are measured, by the modalities that they read.

    Raises:
        InputError: an override is not --config.KEY=VALUE, or a config has no such key or value.
    """
    configs = {}
    for name, role in RECIPES.items():
        recipe = parse_recipe([f"--config={ROOT / 'configs' / role}.py:kaist/literal", *overrides])
        assert recipe is not None
        configs[name] = recipe.config
        configs[name].update_from_flattened_dict(data)
    return configs


def timed_batches(source: Sequence[Any], config: ConfigDict, threads: int, batches: int) -> Rate:
    """Time ``batches`` batches, taken as fast as they come, after two others that fill the buffers."""
    iterator = train_batches(source, config, parallel.batch_sharding(parallel.device_mesh()), num_threads=threads)
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
    """Return the processor time in ms an image of each of ``STAGES``, one image after the other in one thread."""
    data, rng = config.data, np.random.default_rng(0)
    modalities = MODALITIES if config.role == "student" else MODALITIES[:1]
    box_filter = box_filter_of(data)
    seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

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


def demand(per_core_second: dict[str, float]) -> list[list[object]]:
    """Return rows of role, its operations, GPU, images/s that the GPU consumes, and the cores that feed it.

    Args:
        per_core_second: images that one core reads per second, by the keys of ``RECIPES``.
    """
    rows = []
    for role, teraflops in TERAFLOPS_PER_IMAGE.items():
        supply = per_core_second["RGB only" if role == "baseline" else "pairs"]
        for gpu, peak in PEAK_TERAFLOPS.items():
            consumed = UTILISATION * peak / teraflops
            rows.append([role, teraflops, gpu, consumed, consumed / supply])
    return rows


def measure(configs: dict[str, ConfigDict], batches: int, threads: Sequence[int], quietly: bool) -> None:
    """Print the three tables.

    Args:
        configs: the result of ``recipes``.
        batches: number of batches timed in each run.
        threads: numbers of threads, one for each run.
        quietly: whether to hide what the builder prints about its data.
    """
    with contextlib.redirect_stdout(io.StringIO() if quietly else sys.stdout):
        builder = sources.prepare(configs["pairs"].data)
    opened = {name: open_train_source(builder, config.data) for name, config in configs.items()}
    pairs, config = opened["pairs"], configs["pairs"]
    records = [pairs[index] for index in range(min(100, len(pairs)))]
    kilobytes = {name: np.mean([len(record[name]) for record in records]) / 1000 for name in MODALITIES}
    print(
        f"\n{len(pairs):,} pairs of {builder.info.full_name}; visible {kilobytes['visible']:.0f} kB, thermal "
        f"{kilobytes['lwir']:.0f} kB on average; batches of {config.train.batch_size} at "
        f"{config.data.width_px}x{config.data.height_px}."
    )
    print(f"{describe_machine_and_peak()}; OpenCV {cv2.__version__}.\n")

    rows, per_core_second = [], {}
    for name, config in configs.items():
        for count in threads:
            rate = timed_batches(opened[name], config, count, batches)
            rows.append([name, count, rate.per_second, rate.per_core_second, rate.processor_s / rate.wall_s])
            per_core_second[name] = max(rate.per_core_second, per_core_second.get(name, 0.0))
    columns = ("batches of", "threads", "images/s", "images a second of a core", "cores in use")
    print(format_table(rows, columns, decimals=1), flush=True)

    rows = []
    for name, config in configs.items():
        times = stage_times(opened[name], config, batches * config.train.batch_size)
        total = sum(times.values())
        rows += [[name, stage, time_ms, 100 * time_ms / total] for stage, time_ms in times.items()]
        rows.append([name, "all", total, 100.0])
    print("\n" + format_table(rows, ("batches of", "stage, in one thread", "ms an image", "%")), flush=True)

    columns = ("step of", "TFLOP an image", "GPU", "images/s it consumes", "cores to feed it")
    print(f"\nOne GPU at {UTILISATION:g} of its peak, and cores like these:\n")
    print(format_table(demand(per_core_second), columns))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on real pairs if there are any, else on rendered ones."""
    options, overrides = parse(arguments)
    quiet_without_gpu()
    logging.set_verbosity(logging.ERROR)
    with exit_on_error(), tempfile.TemporaryDirectory() as folder:
        if real := options.data_dir or options.manual_dir:
            data = {"data.data_dir": options.data_dir, "data.manual_dir": options.manual_dir}
        else:
            recipes({}, overrides)  # refuses overrides before pairs are rendered
            data = make_pairs(Path(folder), options.pairs)
        measure(recipes(data, overrides), options.batches, options.threads, quietly=not real)


if __name__ == "__main__":
    main()
