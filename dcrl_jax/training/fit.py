"""The training step, compiled in as many parts as it takes to fit the memory of the devices at hand."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.devices import machine_memory_bytes
from dcrl_jax.jax_errors import REMEDIES, is_out_of_memory
from dcrl_jax.models.build import Detector
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.structures import Array, Batch
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.step import TrainState, make_loss, make_step

GIB = 2**30

# Of a device's memory: the rest is for what the account of a step leaves out, such as fragmentation and batches that
# wait for their turn.
USABLE = 0.9


class Fit(NamedTuple):
    """A training step that is compiled and ready."""

    run: Callable  # ``run(state, batch)``; a teacher's parameters are in it, on the devices
    parts: int  # in which each device works through its share of a batch, one after the other
    needed_bytes: int  # on each device, by the compiler's account


def fit_training_step(
    model: Detector,
    optimizer: optax.GradientTransformation,
    anchors: Array,
    config: ConfigDict,
    state: TrainState,
    batch: Batch,
    teacher: Teacher | None = None,
    teacher_params: Any = None,
) -> Fit:
    """Compile the step in ``train.accumulation_steps`` parts, or in as few as fit, and print what it takes.

    The number depends on the devices and their memory alone, so that a run that goes on there has the same.

    Args:
      model, optimizer, anchors: of ``make_step``.
      config: of the run.
      state: replicated on the devices of this process.
      batch: one of the run's size on the devices; its values do not matter.
      teacher, teacher_params: of a student that distils anything; the parameters are placed on the devices here, once.
    """
    rules, mesh = training_rules(config), parallel.device_mesh()
    frozen = () if teacher is None else (parallel.replicate(teacher_params, mesh),)
    share = config.train.batch_size // jax.device_count()
    memory, steps, started = memory_bytes(), {}, time.monotonic()

    def compile_step(parts):
        step = make_step(model, optimizer, anchors, rules, config.seed, teacher, parts)
        steps[parts] = parallel.parallel_step(step, mesh, len(frozen))
        # A call with arguments of the same shapes and places finds what is compiled here.
        return steps[parts].lower(state, *frozen, batch).compile()

    if parts := config.train.accumulation_steps:
        needed = step_bytes(compile_step(parts))
    else:
        room, guess = USABLE * memory, 1
        # A CPU's compiler takes steps of any size; a GPU's would spend minutes on making too large a one smaller.
        if jax.default_backend() != "cpu":
            guess = guess_parts(make_loss(model, anchors, rules, teacher), state, frozen, batch, room)
        parts, needed = fit_parts(compile_step, share, room, guess)
    devices = f" on {jax.device_count()} devices" if jax.device_count() > 1 else ""
    shared = f", {share // parts} at a time" + (" on each" if devices else "") if parts > 1 else ""
    print(
        f"step: {config.train.batch_size} images{devices}{shared}; {needed / GIB:.2f} of {memory / GIB:.1f} GiB "
        f"of memory; compiled in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    if needed > USABLE * memory:
        print(f"warning: this may be more than the memory has room for. To need less: {REMEDIES}", flush=True)
    step = steps[parts]
    return Fit(lambda state, batch: step(state, *frozen, batch), parts, needed)


def fit_parts(compile_step: Callable[[int], Any], share: int, room_bytes: float, guess: float = 1) -> tuple[int, int]:
    """Return in how few parts a step fits a device, and the bytes that it needs; one image each if it never does.

    Args:
      compile_step: compiles the step for a number of parts; a ``jax.stages.Compiled``.
      share: images of one device, which the parts share evenly.
      room_bytes: what the step may take on each device.
      guess: the number of parts to begin with, not necessarily one that shares evenly.
    """
    parts = _divisor(share, guess)
    while True:
        try:
            step = compile_step(parts)
        except RuntimeError as error:
            if parts == share or not is_out_of_memory(error):
                raise
            scale = 2.0
        else:
            needed = step_bytes(step)
            if needed <= room_bytes or parts == share:
                return parts, needed
            # What is no argument grows with the images of a part.
            fixed = step.memory_analysis().argument_size_in_bytes
            scale = (needed - fixed) / (room_bytes - fixed) if room_bytes > fixed else share
        parts = _divisor(share, max(parts + 1, parts * scale))


def guess_parts(loss: Callable, state: TrainState, frozen: tuple, batch: Batch, room_bytes: float) -> float:
    """Return about how many parts fit a device, counted from shapes in seconds; nothing is compiled.

    Args:
      loss: of ``make_loss``.
      state, frozen, batch: the step's arguments, or their shapes.
      room_bytes: what the step may take on each device.
    """
    one_device = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), one_device.index.shape[0]))
    # The gradient is as large as the parameters.
    room = room_bytes - tree_bytes((state, state.params, frozen))
    return saved_bytes(loss, state.params, frozen, one_device, keys) / room if room > 0 else math.inf


def _divisor(share: int, least: float) -> int:
    """Return the smallest divisor of ``share`` that is at least ``least``, or ``share`` itself."""
    return next(parts for parts in range(1, share + 1) if share % parts == 0 and (parts >= least or parts == share))


def memory_bytes() -> int:
    """Return the memory of the smallest device of all processes, in bytes.

    It is what the device reports: of a GPU, the share of its memory that JAX may use. CPUs report nothing; they share
    the memory of their machine.
    """
    devices = jax.local_devices()
    reported = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    smallest = min(reported) if all(reported) else machine_memory_bytes() // len(devices)
    if jax.process_count() > 1:
        # In MiB, since JAX's integers have 32 bits.
        smallest = int(multihost_utils.process_allgather(np.int32(smallest >> 20)).min()) << 20
    return smallest


def step_bytes(step: Any) -> int:
    """Return the bytes that a compiled step takes on each device while it runs, by the compiler's own account."""
    account = step.memory_analysis()
    moved = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
    return moved + account.temp_size_in_bytes


def saved_bytes(loss: Callable, params: Any, *arguments: Any) -> int:
    """Return the bytes that differentiation keeps of a forward pass, counted from shapes; nothing is computed.

    Args:
      loss: ``loss(params, *arguments)``, its value and something else.
      params: what is differentiated; arrays or their shapes.
      arguments: likewise.
    """

    def backward(params, *arguments):
        return jax.vjp(lambda params: loss(params, *arguments)[0], params)[1]

    return tree_bytes(jax.eval_shape(backward, params, *arguments))


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all arrays of a tree, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
