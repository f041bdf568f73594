"""Seconds a frame, as in the paper's Table VII, and images/s of larger batches, beside torchvision's in turns."""

import functools
import itertools

import jax
import numpy as np

from benchmarks import torchvision_side
from benchmarks.gpu.record import Record, precise_config
from benchmarks.timing import median_seconds
from dcrl_jax.inference.benchmark import FRAME, count_flops, noise_images, proposal_and_nms_calls
from dcrl_jax.inference.detector import Detector
from dcrl_jax.jax_errors import is_out_of_memory
from dcrl_jax.models.network import build_network

REPEATS, REPEATS_IN_REHEARSAL = 30, 2
BATCHES, BATCH_REPEATS = (8, 32), 5
CASES = [
    ("student", "TF32"),
    ("student", "bfloat16"),
    ("teacher", "bfloat16"),
    ("teacher", "TF32"),
    ("student", "float32"),
    ("teacher", "float32"),
]
CASES_IN_REHEARSAL = [("student", "TF32"), ("teacher", "bfloat16")]
EAGER, COMPILED = "torchvision", "torchvision, torch.compile"


def run(record: Record) -> None:
    """Record student and teacher in each precision: one image, the student beside torch.compile, then batches."""
    cases = CASES_IN_REHEARSAL if record.rehearse else CASES
    passes = [
        [functools.partial(_one_image, record, *case, EAGER) for case in cases],
        # Compilation by torch takes most of a minute.
        [functools.partial(_one_image, record, *case, COMPILED) for case in cases if case[0] == "student"],
        [functools.partial(_batch, record, *case, size) for case in cases for size in BATCHES],
    ]
    for measure in itertools.chain.from_iterable(passes):
        if record.seconds_left() < 0:
            return
        measure()


def _one_image(record, role, precision, beside):
    config, matmul = precise_config(role, precision, record.rehearse)
    network = build_network(config)
    with jax.default_matmul_precision(matmul):
        params = network.init_params(0)
        detector = Detector(params, config)
        images = noise_images(detector, *network.input_size)
        on_device = [jax.device_put(image[None]) for image in images]
        frame = noise_images(detector, *FRAME)
        calls = {
            "network": lambda: detector.run_network(*on_device),
            "frame": lambda: detector(*frame),
            **proposal_and_nms_calls(network, params, on_device),
        }
        torch_calls, failed = {}, {}
        if role == "student" and torchvision_side.import_problem() is None:
            torch_calls, failed = _torchvision_call(config, images[0], precision, beside)
        seconds = median_seconds(calls | torch_calls, REPEATS_IN_REHEARSAL if record.rehearse else REPEATS)
        record.add(
            "one image",
            role=role,
            precision=precision,
            seconds=seconds,
            share_of_proposals_and_nms=(seconds["proposals and their NMS"] + seconds["final NMS"]) / seconds["network"],
            ratio={name: seconds["network"] / seconds[name] for name in torch_calls},
            failed=failed,
            tflop=count_flops(network) / 1e12,
        )


def _torchvision_call(config, image, precision, name):
    """Return the call by its name, or the reason why there is none by its name."""

    def make_call():
        detector = torchvision_side.build_detector(config)
        return torchvision_side.frame_call(detector, image, precision, compiled=name == COMPILED)

    call, reason = torchvision_side.working_call(make_call)
    return ({}, {name: reason}) if call is None else ({name: call}, {})


def _batch(record, role, precision, size):
    config, matmul = precise_config(role, precision, record.rehearse)
    network = build_network(config)
    with jax.default_matmul_precision(matmul):
        detector = Detector(network.init_params(0), config)
        images = noise_images(detector, *network.input_size)
        batch = [jax.device_put(np.repeat(image[None], size, axis=0)) for image in images]
        try:
            seconds = median_seconds({"batch": lambda: detector.run_network(*batch)}, BATCH_REPEATS)["batch"]
            figures = {"images_per_second": size / seconds}
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            figures = {"out_of_memory": True}
    record.add("batch", role=role, precision=precision, images=size, **figures)
