"""Memory of a full-size training step (640x512, width 1) in float32 and bfloat16, with and without rematerialisation.

    python -m benchmarks.step_memory            counted from shapes, in seconds
    python -m benchmarks.step_memory --parts    KAIST's recipes on devices of several sizes; compiles for some minutes

The first table is counted from shapes. Nothing is compiled or allocated, so the counts hold for any machine:

- fixed: parameters, their gradient, the optimizer's state and a student's frozen teacher;
- for each image: what differentiation keeps of the forward pass for the backward pass. With rematerialisation this is
  the tensors between the blocks, plus what the largest block needs while it is computed again;
- of a student, also for each image: the most that its teacher's backbones hold at once while they run.

A compiler may keep less, and needs working space besides. The last columns are the images that fit one device if a
tenth of its memory goes to the driver, the libraries and fragmentation.

A run divides a larger batch into as few parts as fit, unless ``train.accumulation_steps`` sets their number.
``--parts`` shows the number of parts for one device by its memory, from the account of this machine's compiler. A CPU's
compiler undoes rematerialisation and computes bfloat16 convolutions in float32, so this table is in float32 only.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.steps import TrainingStep, noise_batch
from configs import student, teacher
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import BLOCKS
from dcrl_jax.tables import format_table
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.fit import GIB, USABLE, fit_parts, guess_parts, saved_bytes, tree_bytes

SETTINGS = [(dtype, remat) for dtype in ("float32", "bfloat16") for remat in (False, True)]
DEVICE_GIB = (16, 40, 80)
SIMULATED_GIB = (8, 12, 16, 24, 40, 48, 80)  # memory that a device may report


def fixed_bytes(config: ConfigDict) -> int:
    """Return the bytes of parameters, gradient, optimizer state and the frozen teacher of a student."""
    state, frozen = TrainingStep(config).initial_shapes()
    return 2 * tree_bytes(state.params) + tree_bytes(state.opt_state) + tree_bytes(frozen)


def image_bytes(config: ConfigDict) -> int:
    """Return the bytes that each image of a batch adds."""
    per_image = _kept_bytes(config, 2) - _kept_bytes(config, 1)
    if config.backbone.remat:
        per_image += _largest_block_bytes(config)
    if config.role == "student":
        per_image += _running_bytes(teacher_config(config))
    return per_image


def _kept_bytes(config: ConfigDict, images: int) -> int:
    """Return the bytes that the forward pass of a batch keeps for the backward pass, parameters included."""
    training = TrainingStep(config)
    state, frozen = training.initial_shapes()
    batch = jax.tree.map(lambda leaf: leaf[0], noise_batch(images, config))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), images))
    return saved_bytes(training.loss, state.params, frozen, batch, keys)


def _largest_block_bytes(config: ConfigDict) -> int:
    """Return the bytes that the backward pass of one image needs within the block that needs most."""
    network = build_network(config)
    params = network.param_shapes()
    features = jax.ShapeDtypeStruct((1, *network.input_size, 3), network.model.dtype)
    features = (features, features) if config.role == "teacher" else features
    largest = 0
    for block in range(1, len(BLOCKS) + 1):

        def run(params, features, block=block):
            return network.model.apply({"params": params}, block, features, method="block")

        def backward(params, features, run=run):
            return jax.vjp(run, params, features)[1]

        # This counts the kernels too: a few megabytes, a hundredth of the maps.
        largest = max(largest, tree_bytes(jax.eval_shape(backward, params, features)))
        features = jax.eval_shape(run, params, features)
    return largest


def _running_bytes(config: ConfigDict) -> int:
    """Return the most bytes that a forward pass through the backbones holds at once for one image."""
    config = config.copy_and_resolve_references()
    config.backbone.remat = False  # nothing is differentiated
    network = build_network(config)

    def run(params, *images):
        return network.model.apply({"params": params}, *images, method="extract")

    program = jax.make_jaxpr(run)(network.param_shapes(), *network.image_shapes(1)).jaxpr
    last_use = {}
    for number, operation in enumerate(program.eqns):
        # Only constants have a ``val``; they are not counted.
        last_use |= {variable: number for variable in operation.invars if not hasattr(variable, "val")}
    held_bytes, largest = 0, 0
    held = set()
    for number, operation in enumerate(program.eqns):
        held_bytes += tree_bytes([variable.aval for variable in operation.outvars])
        held |= set(operation.outvars)
        largest = max(largest, held_bytes)
        finished = {variable for variable in held if last_use.get(variable, number) <= number}
        held_bytes -= tree_bytes([variable.aval for variable in finished - set(program.outvars)])
        held -= finished
    return largest


def print_sizes() -> None:
    """Print the memory of the step in each setting, and the images that fit a device."""
    rows = []
    for recipe in (teacher, student):
        for dtype, remat in SETTINGS:
            config = recipe.get_config("kaist/literal")
            config.backbone.update(dtype=dtype, remat=remat)
            fixed, per_image = np.array([fixed_bytes(config), image_bytes(config)]) / GIB
            name = f"{config.role}, {dtype}{', remat' if remat else ''}"
            images = [max(0, int((USABLE * gib - fixed) / per_image)) for gib in DEVICE_GIB]
            rows.append([name, fixed, per_image, *images])
    print(format_table(rows, ["GiB", "fixed", "each image", *(f"images in {gib} GiB" for gib in DEVICE_GIB)]))


def print_parts(config: ConfigDict) -> None:
    """Print the number of parts in which one device works through a recipe's batch, by the device's memory."""
    training = TrainingStep(config)
    state, frozen = training.initial_shapes()
    share = config.train.batch_size
    batch = noise_batch(share, config)

    @functools.cache
    def compile_step(parts):
        return training.on(accumulation_steps=parts).lower(state, *frozen, batch).compile()

    rows = []
    for gib in SIMULATED_GIB:
        room = USABLE * gib * GIB
        guess = guess_parts(training.loss, state, frozen, batch, room)
        parts, needed = fit_parts(compile_step, share, room, guess)
        fits = "" if needed <= room else "no"
        rows.append([f"{config.role}, {gib} GiB", f"{guess:.1f}", parts, share // parts, needed / GIB, fits])
        print(f"{config.role}, {gib} GiB: {parts} parts", flush=True)
    print(format_table(rows, ["", "guess", "parts", "images at a time", "GiB needed", "fits"]), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of sizes or the tables of parts."""
    parser = Parser(__doc__)
    parser.add_argument("--parts", action="store_true", help="show the parts that a run chooses on one device")
    options = parser.parse_args(arguments)
    quiet_without_gpu()
    with exit_on_error():
        if options.parts:
            for recipe in (teacher, student):
                print_parts(recipe.get_config("kaist/literal"))
        else:
            print_sizes()


if __name__ == "__main__":
    main()
