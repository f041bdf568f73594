"""The ten costliest operations of a frame and of a training step, from a trace."""

import collections
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu.record import Record, precise_config
from benchmarks.steps import TrainingStep, repeated
from dcrl_jax.inference.benchmark import noise_images
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.network import build_network

STEPS, FRAMES, SHOWN = 2, 5, 10
IMAGES = {"teacher": 8, "student": 16}
PRECISION = "bfloat16"


def run(record: Record) -> None:
    """Record the operations of the student's frame, then of the teacher's and the student's step."""
    config, _ = precise_config("student", PRECISION, record.rehearse)
    network = build_network(config)
    detector = Detector(network.init_params(0), config)
    images = [jax.device_put(image[None]) for image in noise_images(detector, *network.input_size)]
    _record_operations(record, "frame", "student", 1, lambda: detector.run_network(*images), FRAMES)
    for role, batch in IMAGES.items():
        if record.seconds_left() < 0:
            return
        batch = 2 if record.rehearse else batch
        config, _ = precise_config(role, PRECISION, record.rehearse)
        training = TrainingStep(config)
        step = repeated(training.on(), training.place(training.initial(), batch))
        _record_operations(record, "step", role, batch, step, STEPS)


def _record_operations(
    record: Record, name: str, role: str, images: int, call: Callable[[], Any], repeats: int
) -> None:
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(repeats):
                jax.block_until_ready(call())
        milliseconds = operations_ms(Path(folder))
    total = sum(milliseconds.values())
    costliest = sorted(milliseconds.items(), key=lambda item: -item[1])[:SHOWN]
    record.add(
        name,
        role=role,
        precision=PRECISION,
        images=images,
        total_ms=total / repeats,
        operations=[{"name": operation, "ms": ms / repeats, "share": ms / total} for operation, ms in costliest],
    )


def operations_ms(folder: Path) -> dict[str, float]:
    """Return the milliseconds of each operation in a trace of ``jax.profiler``, by its name.

    On a GPU only the streams that run kernels count, on a CPU only the threads that run programs. An operation that
    runs on several of them at the same time counts on each.
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
            # In a CPU's trace, only the operations of a program have this argument.
            operation = event.get("args", {}).get("hlo_op")
            if on_gpu if has_gpu else operation:
                name = f"{operation}: {event['name']}" if on_gpu and operation else event["name"]
                totals[name] += event["dur"] / 1000
    return dict(totals)
