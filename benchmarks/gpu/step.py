"""Images/s and memory of a training step at full size, beside torchvision's and what ``step_memory`` predicts."""

import argparse
import functools
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.full_size import build, one_batch, teraflops
from benchmarks.gpu import torchvision_side
from benchmarks.gpu.facts import matrix_peak
from benchmarks.gpu.record import PRECISIONS, Record, full_config
from benchmarks.step_memory import fixed_bytes, image_bytes
from dcrl_jax import parallel
from dcrl_jax.inference.benchmark import time_in_turns
from dcrl_jax.jax_errors import is_out_of_memory
from dcrl_jax.training.fit import GIB, step_bytes

REPEATS, REPEATS_IN_REHEARSAL = 5, 1


class Case(NamedTuple):
    """One setting of a step."""

    role: str
    precision: str
    remat: bool
    images: int


def cases() -> list[Case]:
    """Return all settings, what says most first: the time may not be enough for the rest."""
    first = [
        Case("baseline", "TF32", False, 8),
        Case("baseline", "bfloat16", False, 8),
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


def run(record: Record, options: argparse.Namespace) -> None:
    """Record the cases in their order until the time is over; torchvision's step beside each first one of its kind."""
    peaks = {precision: matrix_peak(precision) for precision in PRECISIONS}
    for precision, peak in peaks.items():
        record.add("peak", precision=precision, tflops_per_second=peak)
    chosen = [
        Case("baseline", "bfloat16", True, 2),
        Case("teacher", "TF32", False, 2),
        Case("student", "TF32", False, 2),
    ]
    compared = set()
    for case in chosen if options.rehearse else cases():
        if record.seconds_left() < 0:
            return
        beside = case.role == "baseline" and case.precision not in compared and torchvision_side.is_installed()
        compared |= {case.precision} if beside else set()
        _step(record, options, case, beside, peaks[case.precision])


def _step(record, options, case, beside_torchvision, peak):
    config = full_config(case.role, options)
    config.backbone.dtype, matmul = PRECISIONS[case.precision]
    config.backbone.remat = case.remat
    repeats = REPEATS_IN_REHEARSAL if options.rehearse else REPEATS
    try:
        with jax.default_matmul_precision(matmul):
            built = build(config)
            # Copies, because the step reuses the buffers of its state.
            arguments = jax.tree.map(np.array, jax.device_get((built.initial_state(), built.frozen())))
            state, frozen = parallel.replicate(arguments, built.mesh)
            batch = jax.device_put(one_batch(case.images, config), parallel.batch_sharding(built.mesh))
            compiled = built.step.lower(state, *frozen, batch).compile()

            def step():
                nonlocal state
                state, metrics = built.step(state, *frozen, batch)
                return metrics

            calls, failed = {"dcrl_jax": step}, None
            if beside_torchvision:
                call, failed = torchvision_side.working_call(
                    functools.partial(torchvision_side.step_call, config, case.images, case.precision)
                )
                calls |= {"torchvision": call} if call else {}
            times = {name: float(np.median(taken)) for name, taken in time_in_turns(calls, repeats).items()}
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        record.add("step", **case._asdict(), out_of_memory=True)
        return
    seconds = times["dcrl_jax"]
    predicted = _predict(case.role, config.backbone.dtype, case.remat, options.rehearse)
    tflop = case.images * predicted.image_tflop
    torchvision_bytes = torchvision_side.peak_bytes() if beside_torchvision else None
    record.add(
        "step",
        **case._asdict(),
        seconds=seconds,
        images_per_second=case.images / seconds,
        tflop=tflop,
        share_of_peak=tflop / seconds / peak,
        torchvision_seconds=times.get("torchvision"),
        torchvision_failed=failed,
        ratio=seconds / times["torchvision"] if "torchvision" in times else None,
        gib={
            "predicted": predicted.fixed_gib + case.images * predicted.image_gib,
            "compiled": step_bytes(compiled) / GIB,
            # Of the largest step so far.
            "allocator_peak": (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / GIB or None,
            "torchvision_peak": torchvision_bytes and torchvision_bytes / GIB,
        },
    )


class _Prediction(NamedTuple):
    """What a step should need, counted from shapes."""

    fixed_gib: float
    image_gib: float  # for each image
    image_tflop: float


@functools.cache
def _predict(role: str, dtype: str, remat: bool, rehearse: bool) -> _Prediction:
    config = full_config(role, argparse.Namespace(rehearse=rehearse))
    config.backbone.update(dtype=dtype, remat=remat)
    # The difference leaves out the optimizer, which works once for all images.
    image_tflop = teraflops(config, 2) - teraflops(config, 1)
    return _Prediction(fixed_bytes(config) / GIB, image_bytes(config) / GIB, image_tflop)
