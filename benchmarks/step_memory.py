"""Memory of a full-size training step (640x512, width 1) in float32, bfloat16 and with blocks computed again.

    python -m benchmarks.step_memory            counted from shapes, in seconds
    python -m benchmarks.step_memory --parts    KAIST's recipes on devices of several sizes; compiles for some minutes

The first is counted from shapes; nothing is compiled or allocated, so that it holds for any machine as far as it goes:

- fixed: parameters, their gradient, the optimizer's state and a student's frozen teacher;
- for each image: what differentiation keeps from the forward pass for the backward pass. Where blocks are computed
  again it keeps what stands between them, and what one block needs, the largest, comes on top while that is done;
- of a student, for each image: the most that its teacher's backbones hold at once while they run.

A compiler may keep less, and needs working space besides. The last columns are the images that fit one device, if a
tenth of its memory goes to the driver, the libraries and fragmentation. A run works through larger batches in as few
parts as fit, unless ``train.accumulation_steps`` says how many; ``--parts`` shows what it chooses on one device of so
much memory, by the account of the step that this machine's compiler gives. `benchmarks.full_size` has that account in
float32; a CPU's compiler undoes rematerialisation, and does bfloat16's convolutions in float32.
"""

import argparse
import functools

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.full_size import build, one_batch
from configs import student, teacher
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.models.vgg16 import BLOCKS
from dcrl_jax.reports.tables import format_table
from dcrl_jax.training.distill import teacher_config
from dcrl_jax.training.fit import GIB, USABLE, fit_parts, guess_parts, saved_bytes, tree_bytes
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.step import make_loss

SETTINGS = [(dtype, remat) for dtype in ("float32", "bfloat16") for remat in (False, True)]
DEVICE_GIB = (16, 40, 80)
# Memory that a device may report.
SIMULATED_GIB = (8, 12, 16, 24, 40, 48, 80)


def fixed_bytes(config: ConfigDict) -> int:
    """Parameters, gradient, optimizer's state, and the frozen teacher of a student."""
    built = build(config)
    state, frozen = jax.eval_shape(built.initial_state), jax.eval_shape(built.frozen)
    return 2 * tree_bytes(state.params) + tree_bytes(state.opt_state) + tree_bytes(frozen)


def kept_bytes(config: ConfigDict, images: int) -> int:
    """What the backward pass of a batch needs of its forward pass, the parameters included."""
    model, anchors = build_model(config), build_anchors(config)
    guide = build_model(teacher_config(config)) if config.role == "student" else None
    loss = make_loss(model, anchors, training_rules(config), guide)
    params = jax.eval_shape(lambda: init_params(model, config, 0))
    batch = jax.tree.map(lambda leaf: leaf[0], one_batch(images, config))

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), images))
    return saved_bytes(loss, params, jax.eval_shape(build(config).frozen), batch, keys)


def image_bytes(config: ConfigDict) -> int:
    """What each image of a batch adds."""
    per_image = kept_bytes(config, 2) - kept_bytes(config, 1)
    if config.backbone.remat:
        per_image += largest_block_bytes(config)
    if config.role == "student":
        per_image += running_bytes(teacher_config(config))
    return per_image


def largest_block_bytes(config: ConfigDict) -> int:
    """What the backward pass of one image needs within the block that needs most."""
    model = build_model(config)
    params = jax.eval_shape(lambda: init_params(model, config, 0))
    shape = (1, config.data.height_px, config.data.width_px, 3)
    features = jax.ShapeDtypeStruct(shape, model.dtype)
    features = (features, features) if config.role == "teacher" else features
    most = 0
    for block in range(1, len(BLOCKS) + 1):

        def run(params, features, block=block):
            return model.apply({"params": params}, block, features, method="block")

        def backward(params, features, run=run):
            return jax.vjp(run, params, features)[1]

        # Kernels of a few megabytes are among it; the maps are a hundred times as large.
        most = max(most, tree_bytes(jax.eval_shape(backward, params, features)))
        features = jax.eval_shape(run, params, features)
    return most


def running_bytes(config: ConfigDict) -> int:
    """The most that a forward pass through the backbones holds at once for one image, operation by operation."""
    config = config.copy_and_resolve_references()
    config.backbone.remat = False  # nothing is differentiated, so that blocks need not be told apart
    model = build_model(config)
    params = jax.eval_shape(lambda: init_params(model, config, 0))
    images = [getattr(one_batch(1, config), name)[0] for name in model.modalities]

    def run(params, *images):
        return model.apply({"params": params}, *images, method="extract")

    program = jax.make_jaxpr(run)(params, *images).jaxpr
    last_use = {}
    for place, operation in enumerate(program.eqns):
        # Constants that stand in an operation have no use elsewhere.
        last_use |= {variable: place for variable in operation.invars if not hasattr(variable, "val")}
    held, most = 0, 0
    made = set()
    for place, operation in enumerate(program.eqns):
        held += tree_bytes([variable.aval for variable in operation.outvars])
        made |= set(operation.outvars)
        most = max(most, held)
        finished = {variable for variable in made if last_use.get(variable, place) <= place}
        held -= tree_bytes([variable.aval for variable in finished - set(program.outvars)])
        made -= finished
    return most


def largest_batch(device_gib: float, fixed: float, per_image: float) -> int:
    """Images that fit a device; all in GiB."""
    return max(0, int((USABLE * device_gib - fixed) / per_image))


def print_parts(config: ConfigDict) -> None:
    """Print in how many parts a recipe's batch is worked through on one device, by the device's memory."""
    built = build(config)
    state, frozen = jax.eval_shape(built.initial_state), jax.eval_shape(built.frozen)
    share = config.train.batch_size
    batch = one_batch(share, config)
    guide = build_model(teacher_config(config)) if frozen else None
    loss = make_loss(build_model(config), build_anchors(config), training_rules(config), guide)

    @functools.cache
    def compile_step(parts):
        return build(config, accumulation_steps=parts).step.lower(state, *frozen, batch).compile()

    rows = []
    for gib in SIMULATED_GIB:
        room = USABLE * gib * GIB
        guess = guess_parts(loss, state, frozen, batch, room)
        parts, needed = fit_parts(compile_step, share, room, guess)
        fits = "" if needed <= room else "no"
        rows.append([f"{config.role}, {gib} GiB", f"{guess:.1f}", parts, share // parts, needed / GIB, fits])
        print(f"{config.role}, {gib} GiB: {parts} parts", flush=True)
    print(format_table(rows, ["", "guess", "parts", "images at a time", "GiB needed", "fits"]), flush=True)


def main() -> None:
    """Print the table of sizes, or those of the parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", action="store_true", help="show the parts that a run chooses on one device")
    options = parser.parse_args()
    quiet_without_gpu()
    if options.parts:
        for recipe in (teacher, student):
            print_parts(recipe.get_config())
        return
    rows = []
    for recipe in (teacher, student):
        for dtype, remat in SETTINGS:
            config = recipe.get_config()
            config.backbone.update(dtype=dtype, remat=remat)
            sizes = np.array([fixed_bytes(config), image_bytes(config)]) / GIB
            name = f"{config.role}, {dtype}{', remat' if remat else ''}"
            rows.append([name, *sizes, *(largest_batch(gib, *sizes) for gib in DEVICE_GIB)])
    print(format_table(rows, ["GiB", "fixed", "each image", *(f"images in {gib} GiB" for gib in DEVICE_GIB)]))


if __name__ == "__main__":
    main()
