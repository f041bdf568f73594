"""Compilation of the training step, in as many parts as it needs to fit the memory of the devices."""

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
from dcrl_jax.models.network import Network
from dcrl_jax.structures import Batch
from dcrl_jax.training.step import FrozenTeacher, TrainState, make_loss, make_step
from dcrl_jax.training.terms import training_rules

GIB = 2**30

# The share of a device's memory that a step may use. The rest is for memory that the compiler does not count, such as
# fragmentation and the next batches.
USABLE = 0.9


class Fit(NamedTuple):
    """A compiled training step."""

    run: Callable  # ``run(state, batch)``, which returns the new state and the metrics
    parts: int  # number of parts in which each device works through its share of a batch, one after the other
    needed_bytes: float  # memory of each device that the step needs, by the compiler's account


def fit_training_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    state: TrainState,
    batch: Batch,
    teacher: FrozenTeacher | None = None,
) -> Fit:
    """Compile the step in ``train.accumulation_steps`` parts, or in as few as fit, and print its memory.

    The number of parts depends only on the program, the devices and their memory, so that a resumed run has the same.

    Args:
        network: the network to train.
        optimizer: the optimizer of its parameters.
        config: the run's config.
        state: the state, replicated on the devices of this process.
        batch: a batch of the run's size, on the devices; its values do not matter.
        teacher: the teacher of a student that distils. The step keeps its parameters on the devices.
    """
    rules, mesh = training_rules(config), parallel.device_mesh()
    if rules.distillation.any != (teacher is not None):
        raise ValueError("a student that distils needs its teacher; no other detector takes one")
    frozen = () if teacher is None else (parallel.replicate(teacher.params, mesh),)
    teacher_network = teacher.network if teacher else None
    share = config.train.batch_size // jax.device_count()
    memory, steps, started = memory_bytes(), {}, time.monotonic()
    room = math.inf if memory is None else USABLE * memory

    def compile_step(parts):
        step = make_step(network, optimizer, rules, config.seed, teacher_network, parts)
        steps[parts] = parallel.parallel_step(step, mesh, len(frozen))
        # A later call with arguments of the same shapes and placement reuses this program; JAX 0.7 reuses it from the
        # compilation cache only.
        return steps[parts].lower(state, *frozen, batch).compile()

    if parts := config.train.accumulation_steps:
        needed = step_bytes(compile_step(parts))
    else:
        guess = 1
        # A CPU's compiler accepts steps of any size; a GPU's spends minutes on trying to shrink one that is too large.
        if jax.default_backend() != "cpu":
            guess = guess_parts(make_loss(network, rules, teacher_network), state, frozen, batch, room)
        parts, needed = fit_parts(compile_step, share, room, guess)
    devices = f" on {jax.device_count()} devices" if jax.device_count() > 1 else ""
    shared = f", {share // parts} at a time" + (" on each" if devices else "") if parts > 1 else ""
    of_memory = "" if memory is None else f" of {memory / GIB:.1f}"
    print(
        f"step: {config.train.batch_size} images{devices}{shared}; {needed / GIB:.2f}{of_memory} GiB "
        f"of memory; compiled in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    if needed > room:
        print(f"warning: the step may not fit in memory. To need less: {REMEDIES}", flush=True)
    step = steps[parts]
    return Fit(lambda state, batch: step(state, *frozen, batch), parts, needed)


def fit_parts(compile_step: Callable[[int], Any], share: int, room_bytes: float, guess: float = 1) -> tuple[int, float]:
    """Return the smallest number of parts with which a step fits the devices; one image at a time if none fits.

    All processes of a run find the same number, because they compile the same steps and exchange the bytes needed.

    Args:
        compile_step: compiles the step for a number of parts to a ``jax.stages.Compiled``.
        share: images of one device, which the parts divide evenly.
        room_bytes: memory that the step may take on each device.
        guess: the number of parts to try first, rounded up to one that divides ``share``.

    Returns:
        The number of parts, and the bytes that the step needs on each device.
    """
    divisors = [parts for parts in range(1, share + 1) if share % parts == 0]

    def at_least(parts):
        return next((divisor for divisor in divisors if divisor >= parts), share)

    too_large, parts = 0, at_least(guess)
    while True:
        fixed, needed = _compiled_bytes(compile_step, parts, is_last=parts == share)
        if needed <= room_bytes or parts == share:
            fewer = max((divisor for divisor in divisors if too_large < divisor < parts), default=None)
            # Everything except the arguments grows with the images of a part.
            if needed > room_bytes or fewer is None or fixed + (needed - fixed) * parts / fewer > room_bytes:
                return parts, needed
            parts = fewer
            continue
        too_large = parts
        scale = (needed - fixed) / (room_bytes - fixed) if fixed < room_bytes else share
        parts = at_least(max(parts + 1, parts * scale if math.isfinite(scale) else 0))


def _compiled_bytes(compile_step, parts, is_last):
    """Return the bytes of the arguments and of the step, the most of any process; infinite if it fails to compile."""
    try:
        step = compile_step(parts)
        fixed, needed = step.memory_analysis().argument_size_in_bytes, step_bytes(step)
    except RuntimeError as error:
        if is_last or not is_out_of_memory(error):
            raise
        fixed, needed = 0, math.inf
    if jax.process_count() == 1:
        return fixed, needed
    # In GiB: JAX's integers have 32 bits.
    everywhere = multihost_utils.process_allgather(np.array([fixed / GIB, needed / GIB], np.float32))
    return tuple(float(gib) * GIB for gib in np.max(everywhere, axis=0))


def guess_parts(loss: Callable, state: TrainState, frozen: tuple, batch: Batch, room_bytes: float) -> float:
    """Estimate from shapes how many parts a step needs to fit a device; takes seconds, since nothing is compiled.

    Args:
        loss: the function of ``make_loss``.
        state: the first argument of the step, or its shapes.
        frozen: the frozen arguments, or their shapes.
        batch: the last argument, or its shapes.
        room_bytes: memory that the step may take on each device.

    Returns:
        The estimate, not rounded; infinite if the arguments alone do not fit.
    """
    one_device = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), one_device.index.shape[0]))
    # saved_bytes counts the parameters too, which makes room for the gradient, of the same size.
    room = room_bytes - tree_bytes((state, frozen))
    return saved_bytes(loss, state.params, frozen, one_device, keys) / room if room > 0 else math.inf


def memory_bytes() -> int | None:
    """Return the memory of the smallest device of all processes, in bytes; None if a device does not report it.

    A GPU reports the share of its memory that JAX may use. CPU devices report nothing and share the machine's memory.
    """
    devices = jax.local_devices()
    reported = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    if all(device.platform == "cpu" for device in devices):
        reported = [machine_memory_bytes() // len(devices)]
    smallest = min(reported)
    if jax.process_count() > 1:
        # In MiB: JAX's integers have 32 bits.
        smallest = int(multihost_utils.process_allgather(np.int32(smallest >> 20)).min()) << 20
    return smallest or None


def step_bytes(step: Any) -> int:
    """Return the bytes that a compiled step takes on each device while it runs, by the compiler's own account."""
    account = step.memory_analysis()
    moved = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
    return moved + account.temp_size_in_bytes


def saved_bytes(loss: Callable, params: Any, *arguments: Any) -> int:
    """Return the bytes that differentiation keeps of a forward pass, from shapes; nothing is computed.

    Args:
        loss: ``loss(params, *arguments)``, which returns the value first.
        params: the arguments to differentiate by; arrays or their shapes.
        arguments: the other arguments; arrays or their shapes.
    """

    def backward(params, *arguments):
        return jax.vjp(lambda params: loss(params, *arguments)[0], params)[1]

    return tree_bytes(jax.eval_shape(backward, params, *arguments))


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all arrays of a tree; the leaves are arrays or their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
