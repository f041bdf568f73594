"""Images/s and memory of a training step at full size, beside torchvision's and what ``step_memory`` predicts."""

import functools
import time
from typing import NamedTuple

import jax

from benchmarks import torchvision_side
from benchmarks.gpu.facts import record_peaks
from benchmarks.gpu.record import Record, precise_config
from benchmarks.step_memory import fixed_bytes, image_bytes
from benchmarks.steps import TrainingStep, repeated
from benchmarks.timing import median_seconds
from dcrl_jax.jax_errors import is_out_of_memory
from dcrl_jax.training.fit import GIB, step_bytes

REPEATS, REPEATS_IN_REHEARSAL = 5, 1


class Case(NamedTuple):
    """One setting of a step."""

    role: str
    precision: str
    remat: bool
    images: int


CASES_IN_REHEARSAL = [
    Case("baseline", "bfloat16", True, 2),
    Case("teacher", "TF32", False, 2),
    Case("student", "TF32", False, 2),
]


def cases() -> list[Case]:
    """Return all settings, the most important first, since the time may not be enough for all."""
    first = [
        Case("baseline", "bfloat16", False, 8),
        Case("baseline", "TF32", False, 8),
        Case("student", "bfloat16", False, 32),
        Case("teacher", "bfloat16", False, 16),
        Case("student", "TF32", False, 16),
        Case("teacher", "TF32", False, 8),
        Case("baseline", "float32", False, 8),
        Case("teacher", "bfloat16", True, 32),
        Case("student", "bfloat16", True, 64),
    ]
    rest = [
        Case(role, precision, remat, images)
        for remat in (False, True)
        for images in (8, 16, 32, 64)
        for precision in ("bfloat16", "TF32", "float32")
        for role in ("student", "teacher", "baseline")
    ]
    return first + [case for case in rest if case not in first]


def run(record: Record) -> None:
    """Record the cases in their order until the time is over, with torchvision's step beside some baselines."""
    peaks = record_peaks(record)
    compared = set()
    for case in CASES_IN_REHEARSAL if record.rehearse else cases():
        if record.seconds_left() < 0:
            return
        # Once for each precision: torchvision's step has no teacher.
        compares = case.role == "baseline" and case.precision not in compared
        compares = compares and torchvision_side.import_problem() is None
        compared |= {case.precision} if compares else set()
        record.add("step", **case._asdict(), **_measure(case, record.rehearse, compares, peaks[case.precision]))


def _measure(case, rehearse, compares, peak):
    config, matmul = precise_config(case.role, case.precision, rehearse)
    config.backbone.remat = case.remat
    try:
        with jax.default_matmul_precision(matmul):
            training = TrainingStep(config)
            step, arguments = training.on(), training.place(training.initial(), case.images)
            started = time.monotonic()
            compiled = step.lower(*arguments).compile()
            compile_seconds = time.monotonic() - started
            calls, failed = {"dcrl_jax": repeated(step, arguments)}, None
            if compares:
                call, failed = torchvision_side.working_call(
                    functools.partial(torchvision_side.step_call, config, case.images, case.precision)
                )
                calls |= {"torchvision": call} if call else {}
            times = median_seconds(calls, REPEATS_IN_REHEARSAL if rehearse else REPEATS)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"out_of_memory": True}
    seconds = times["dcrl_jax"]
    predicted = _predict(case.role, case.precision, case.remat, rehearse)
    tflop = case.images * _image_tflop(case.role, rehearse)
    torchvision_bytes = torchvision_side.peak_bytes() if compares else None
    return {
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "images_per_second": case.images / seconds,
        "tflop": tflop,
        "share_of_peak": tflop / seconds / peak,
        "torchvision_seconds": times.get("torchvision"),
        "torchvision_failed": failed,
        "ratio": seconds / times["torchvision"] if "torchvision" in times else None,
        "gib": {
            "predicted": predicted.fixed_gib + case.images * predicted.image_gib,
            "compiled": step_bytes(compiled) / GIB,
            # Of the largest step so far.
            "allocator_peak": (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / GIB or None,
            "torchvision_peak": torchvision_bytes and torchvision_bytes / GIB,
        },
    }


class _Prediction(NamedTuple):
    """The memory of a step, counted from shapes."""

    fixed_gib: float
    image_gib: float  # for each image


@functools.cache
def _predict(role: str, precision: str, remat: bool, rehearse: bool) -> _Prediction:
    config, _ = precise_config(role, precision, rehearse)
    config.backbone.remat = remat
    return _Prediction(fixed_bytes(config) / GIB, image_bytes(config) / GIB)


@functools.cache
def _image_tflop(role: str, rehearse: bool) -> float:
    """Return the operations of each image, which every precision has, with remat or without."""
    return TrainingStep(precise_config(role, "float32", rehearse)[0]).image_flops() / 1e12
