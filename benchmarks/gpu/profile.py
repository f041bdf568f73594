"""The ten costliest operations of a training step and of a frame, by a trace."""

import argparse
import collections
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.full_size import build, one_batch
from benchmarks.gpu.record import Record, full_config
from dcrl_jax import parallel
from dcrl_jax.inference.benchmark import noise_images
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.build import build_model, init_params

STEPS, FRAMES, SHOWN = 2, 5, 10
IMAGES = {"teacher": 8, "student": 16}


def run(record: Record, options: argparse.Namespace) -> None:
    """Record the operations of the student's frame, then of the teacher's and the student's step, in bfloat16."""
    config = full_config("student", options)
    config.backbone.dtype = "bfloat16"
    detector = Detector(init_params(build_model(config), config, 0), config)
    images = noise_images(detector, config.data.height_px, config.data.width_px)
    on_device = [jax.device_put(image[None]) for image in images]
    _add(record, "frame", "student", 1, lambda: detector.run_network(*on_device), FRAMES)
    for role, images in IMAGES.items():
        if record.seconds_left() < 0:
            return
        images = 2 if options.rehearse else images
        config = full_config(role, options)
        config.backbone.dtype = "bfloat16"
        built = build(config)
        arguments = jax.tree.map(np.array, jax.device_get((built.initial_state(), built.frozen())))
        state, frozen = parallel.replicate(arguments, built.mesh)
        batch = jax.device_put(one_batch(images, config), parallel.batch_sharding(built.mesh))

        def step(built=built, frozen=frozen, batch=batch):
            nonlocal state
            state, metrics = built.step(state, *frozen, batch)
            return metrics

        _add(record, "step", role, images, step, STEPS)


def _add(record: Record, name: str, role: str, images: int, call: Callable[[], Any], times: int) -> None:
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(times):
                jax.block_until_ready(call())
        milliseconds = operations_ms(Path(folder))
    total = sum(milliseconds.values())
    costliest = sorted(milliseconds.items(), key=lambda item: -item[1])[:SHOWN]
    record.add(
        name,
        role=role,
        precision="bfloat16",
        images=images,
        total_ms=total / times,
        operations=[{"name": which, "ms": ms / times, "share": ms / total} for which, ms in costliest],
    )


def operations_ms(folder: Path) -> dict[str, float]:
    """Return the milliseconds of each operation in a trace of ``jax.profiler``, by its name.

    Of a GPU those of the streams that run kernels count, of a CPU those of the threads that run programs. What runs at
    the same time on several of them counts on each.
    """
    totals: dict[str, float] = collections.defaultdict(float)
    for path in folder.rglob("*.trace.json.gz"):
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        names = {"process_name": {}, "thread_name": {}}
        for event in events:
            if event.get("name") in names:
                names[event["name"]][event["pid"], event.get("tid")] = event["args"]["name"]
        processes = {process: name for (process, _), name in names["process_name"].items()}
        has_gpu = any("GPU" in name for name in processes.values())
        for event in events:
            if event.get("ph") != "X":
                continue
            thread = names["thread_name"].get((event["pid"], event["tid"]), "")
            on_gpu = "GPU" in processes.get(event["pid"], "") and "Stream" in thread
            # A CPU's trace has the program's operations with arguments that name them.
            operation = event.get("args", {}).get("hlo_op")
            if on_gpu if has_gpu else operation:
                name = f"{operation}: {event['name']}" if on_gpu and operation else event["name"]
                totals[name] += event["dur"] / 1000
    return dict(totals)
