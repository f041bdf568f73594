"""Export: a detector as a ``jax.export`` artefact and an ONNX model, which both run without this project."""

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from dcrl_jax.data.transforms import BLANK_GREY
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.errors import InputError
from dcrl_jax.inference.extras import import_extra
from dcrl_jax.inference.output_folder import fill_folder, new_folder
from dcrl_jax.inference.trained import find_registration, restore_trained
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.structures import CHANNELS, Array

PARAMS_FILE, JAX_FILE, ONNX_FILE, CARD_FILE = "params.safetensors", "detector.jax", "detector.onnx", "detector.json"
FILES = (PARAMS_FILE, JAX_FILE, ONNX_FILE, CARD_FILE)
PLATFORMS = ("cpu", "cuda")

LOAD_JAX = """\
import jax, jax.export
from safetensors.numpy import load_file
detector = jax.export.deserialize(bytearray(open("detector.jax", "rb").read()))
params = jax.device_put(load_file("params.safetensors"))
results = jax.jit(detector.call)(params, {images})  # results["boxes"], ...
"""
LOAD_ONNX = """\
import onnxruntime
session = onnxruntime.InferenceSession("detector.onnx")  # needs params.safetensors beside it
{outputs} = session.run(None, {{{feed}}})
"""
FIT = (
    "Keep the proportions: scale = min(height / h, width / w) for an image of h x w pixels; resize it to "
    "round(h * scale) x round(w * scale) (area averaging to shrink, bilinear to enlarge); paste it into a black image "
    "with its top at (height - new_h) // 2 and its left at (width - new_w) // 2. Map boxes back with "
    "x = (x - left) * w / new_w, y = (y - top) * h / new_h, and clip them to the image. Treat both images of a pair "
    "the same way."
)
# https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
JAX_VERSIONS = (
    "JAX runs an exported program for six months after the release of the version that made it (see made_with), and "
    "with versions up to three weeks older. Export the checkpoint again after that."
)


def export(checkpoint: str, output: str | Path, lwir_to_visible: str | None = None) -> None:
    """Write a detector for other programs, with normalisation, proposals and NMS inside, and print the files.

    Both programs take batches of any size.

    Args:
        checkpoint: a run's workdir, a folder of checkpoints, one checkpoint, local or in a bucket, or a published
            model.
        output: a new or empty folder. It gets ``params.safetensors``, the parameters of both programs;
            ``detector.jax``, a serialized ``jax.export`` artefact for CPU and CUDA; ``detector.onnx``, which refers to
            the parameters; ``detector.json``, the inputs and outputs and how to load both programs. An error leaves
            the folder as it was.
        lwir_to_visible: see ``Detector``; ``detector.json`` says how to register thermal images so.

    Raises:
        InputError: the path holds no checkpoint of a detector; a package is missing; the folder is not empty or cannot
            be written to; or ONNX has no operator for a primitive that this version of JAX uses.
    """
    output = new_folder(output)
    for package in ("flatbuffers", "onnx"):
        import_extra(package, "export")
    _, params, config, step = restore_trained(checkpoint)
    registration = find_registration(config, lwir_to_visible)
    config = config.copy_and_resolve_references()
    config.backbone.remat = False  # only for training
    params = jax.device_get(flatten_dict(params, sep="/"))
    try:
        with fill_folder(output) as folder:
            _write(params, config, {"checkpoint": checkpoint, "step": step}, registration, folder)
    except NotImplementedError as error:
        raise InputError(
            f"this detector has no ONNX model with jax {jax.__version__}: {error} Export it with another version; "
            "requirements-cpu.txt names the oldest tested one."
        ) from error
    sizes = "\n".join(f"  {file}  {(output / file).stat().st_size / 1e6:,.1f} MB" for file in FILES)
    print(f"{config.role}, step {step} of {checkpoint}, in {output}:\n{sizes}\n{CARD_FILE} says how to load them.")


def _write(params, config, origin, registration, folder):
    from dcrl_jax.inference.onnx_export import external_arrays, onnx_model  # needs onnx

    save_file(params, folder / PARAMS_FILE)
    network = build_network(config)
    images = {name: (*network.input_size, CHANNELS[name]) for name in network.modalities}
    outputs = ["boxes", "scores", "mask"] + ["modality_weights"] * (len(images) > 1)

    (batch,) = jax.export.symbolic_shape("b")
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), params)
    inputs = [jax.ShapeDtypeStruct((batch, *shape), np.uint8) for shape in images.values()]
    exported = jax.export.export(jax.jit(flat_detect(network)), platforms=PLATFORMS)(shapes, *inputs)
    (folder / JAX_FILE).write_bytes(exported.serialize())

    # ONNX runtimes on a CPU have no bfloat16.
    float32_config = config.copy_and_resolve_references()
    float32_config.backbone.dtype = "float32"
    weights = external_arrays(folder / PARAMS_FILE)
    program, model = flat_detect(build_network(float32_config)), network.model
    translated = onnx_model(program, weights, images, outputs, model.stride, model.roi_samples_per_bin)
    (folder / ONNX_FILE).write_bytes(translated.SerializeToString())
    card = _card(config, origin, registration, images, outputs)
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    # safetensors makes its file readable by the owner only.
    (folder / PARAMS_FILE).chmod((folder / CARD_FILE).stat().st_mode)


def flat_detect(network: Network) -> Callable[..., dict[str, Array]]:
    """Return ``Network.detect`` as a function from a flat dict of parameters and images to a dict of results."""

    def detect(params, *images):
        detections, weights = network.detect(unflatten_dict(params, sep="/"), *images)
        return detections._asdict() | ({} if weights is None else {"modality_weights": weights})

    return detect


def _card(config, origin, registration, images, outputs):
    """Return the content of ``detector.json``: what a user must know to run the programs."""
    count = config.final.max_detections
    rules = image_rules_of(config.data)
    inputs = {
        "visible": "RGB, 0 to 255, channels in this order",
        "lwir": f"grey thermal image, registered with the visible one, {rules.describe_lwir()}",
    }
    if rules.grey_visible:
        inputs["visible"] += "; a grey image has three equal channels"
    if len(images) > 1 and config.data.blank_probability > 0:
        inputs = {name: f"{meaning}; all {BLANK_GREY} if it is missing" for name, meaning in inputs.items()}
    results = {
        "boxes": ("float32", ["batch", count, 4], "x1, y1, x2, y2 in pixels of the network input, by descending score"),
        "scores": ("float32", ["batch", count], "probability of being a pedestrian"),
        "mask": ("bool", ["batch", count], "False for padding, whose boxes and scores have no meaning"),
        "modality_weights": ("float32", ["batch", 2], "weights of visible and lwir, adding up to one"),
    }
    feed = ", ".join(f'"{name}": {name}' for name in images)
    packages = ("jax", "jaxlib", "flax", "onnx", "dcrl_jax")
    return {
        "detector": {"role": config.role, "classes": ["person"], **origin},
        "inputs": [
            {"name": name, "dtype": "uint8", "shape": ["batch", *shape], "meaning": inputs[name]}
            for name, shape in images.items()
        ],
        "outputs": [
            dict(zip(("name", "dtype", "shape", "meaning"), (name, *results[name]), strict=True)) for name in outputs
        ],
        **({"registration": registration.instructions()} if registration else {}),
        "fit": FIT,
        JAX_FILE: {
            "platforms": PLATFORMS,
            "versions": JAX_VERSIONS,
            "activations": config.backbone.dtype,
            "arguments": ["a dict of the arrays in params.safetensors by name", *images],
            "result": "a dict of the outputs by name",
            "load": LOAD_JAX.format(images=", ".join(images)).splitlines(),
        },
        ONNX_FILE: {
            "activations": "float32",
            "load": LOAD_ONNX.format(outputs=", ".join(outputs), feed=feed).splitlines(),
        },
        "made_with": {name: _version(name) for name in packages},
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
