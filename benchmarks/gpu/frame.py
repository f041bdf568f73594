"""Seconds a frame, as in the paper's Table VII, and images/s of larger batches, beside torchvision's in turns."""

import argparse
import functools

import jax
import numpy as np

from benchmarks.gpu import torchvision_side
from benchmarks.gpu.record import PRECISIONS, Record, full_config
from dcrl_jax.inference.benchmark import (
    FRAME,
    count_flops,
    noise_images,
    parts_beside_the_network,
    time_in_turns,
)
from dcrl_jax.inference.detector import Detector
from dcrl_jax.jax_errors import is_out_of_memory
from dcrl_jax.models.build import build_model, init_params

REPEATS, REPEATS_IN_REHEARSAL = 30, 2
BATCHES, BATCH_REPEATS = (8, 32), 5


def run(record: Record, options: argparse.Namespace) -> None:
    """Record student and teacher in each precision: first one image at a time, then batches."""
    repeats = REPEATS_IN_REHEARSAL if options.rehearse else REPEATS
    cases = [(role, precision) for precision in ("TF32", "bfloat16", "float32") for role in ("student", "teacher")]
    if options.rehearse:
        cases = [("student", "TF32"), ("teacher", "bfloat16")]
    for role, precision in cases:
        if record.seconds_left() < 0:
            return
        _one_image(record, options, role, precision, repeats)
    for role, precision in cases:
        for size in BATCHES:
            if record.seconds_left() < 0:
                return
            _batch(record, options, role, precision, size)


def _one_image(record, options, role, precision, repeats):
    config, matmul = _config(role, precision, options)
    with jax.default_matmul_precision(matmul):
        params = init_params(build_model(config), config, 0)
        detector = Detector(params, config)
        images = noise_images(detector, config.data.height_px, config.data.width_px)
        on_device = [jax.device_put(image[None]) for image in images]
        frame = noise_images(detector, *FRAME)
        calls = {
            "network": lambda: detector.run_network(*on_device),
            "frame": lambda: detector(*frame),
            **parts_beside_the_network(params, config, on_device),
        }
        failed = {}
        if role == "student" and torchvision_side.is_installed():
            for name, compiled in (("torchvision", False), ("torchvision, torch.compile", True)):
                call, reason = torchvision_side.working_call(
                    functools.partial(torchvision_side.frame_call, config, images[0], precision, compiled)
                )
                if call is None:
                    failed[name] = reason
                else:
                    calls[name] = call
        times = {name: float(np.median(taken)) for name, taken in time_in_turns(calls, repeats).items()}
        network = times["network"]
        record.add(
            "one image",
            role=role,
            precision=precision,
            seconds=times,
            share_of_proposals_and_nms=(times["proposals and their NMS"] + times["final NMS"]) / network,
            ratio={name: network / seconds for name, seconds in times.items() if name.startswith("torchvision")},
            failed=failed,
            tflop=count_flops(config) / 1e12,
        )


def _batch(record, options, role, precision, size):
    config, matmul = _config(role, precision, options)
    with jax.default_matmul_precision(matmul):
        detector = Detector(init_params(build_model(config), config, 0), config)
        images = noise_images(detector, config.data.height_px, config.data.width_px)
        batch = [jax.device_put(np.repeat(image[None], size, axis=0)) for image in images]
        try:
            times = time_in_turns({"batch": lambda: detector.run_network(*batch)}, BATCH_REPEATS)["batch"]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            record.add("batch", role=role, precision=precision, images=size, out_of_memory=True)
            return
        rate = size / float(np.median(times))
        record.add("batch", role=role, precision=precision, images=size, images_per_second=rate)


def _config(role, precision, options):
    config = full_config(role, options)
    config.backbone.dtype, matmul = PRECISIONS[precision]
    return config, matmul
