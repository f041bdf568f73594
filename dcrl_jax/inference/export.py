"""A trained detector as files that run without this project: a ``jax.export`` artefact and an ONNX model."""

import contextlib
import importlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.inference.output_folder import new_folder
from dcrl_jax.inference.trained import restore_trained
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.signals import raise_on_sigterm
from dcrl_jax.structures import CHANNELS

PARAMS_FILE, JAX_FILE, ONNX_FILE, CARD_FILE = "params.safetensors", "detector.jax", "detector.onnx", "detector.json"
FILES = (PARAMS_FILE, JAX_FILE, ONNX_FILE, CARD_FILE)
PLATFORMS = ("cpu", "cuda")

LOAD_JAX = """\
import jax, jax.export
from safetensors.numpy import load_file
detector = jax.export.deserialize(bytearray(open("detector.jax", "rb").read()))
params = jax.device_put(load_file("params.safetensors"))
found = jax.jit(detector.call)(params, {images})  # found["boxes"], ...
"""
LOAD_ONNX = """\
import onnxruntime
session = onnxruntime.InferenceSession("detector.onnx")  # needs params.safetensors beside it
{outputs} = session.run(None, {{{feed}}})
"""
FIT = (
    "Keep the proportions: scale = min(height / h, width / w) for an image of h x w pixels; resize it to "
    "round(h * scale) x round(w * scale) (averaging areas to shrink, bilinear to enlarge); put it on black, its top at "
    "(height - new_h) // 2, its left at (width - new_w) // 2. Back: x = (x - left) * w / new_w, y = (y - top) * h / "
    "new_h, clipped to the image. Both images of a pair alike."
)


@raise_on_sigterm()
def export(checkpoint: str, output: str | Path) -> None:
    """Write a detector in forms that other programs can run, with normalisation, proposals and NMS inside.

    ``output`` gets ``params.safetensors``, the parameters of both programs; ``detector.jax``, a serialized
    ``jax.export`` artefact for CPU and CUDA; ``detector.onnx``, which refers to the parameters; ``detector.json``,
    what goes in and comes out, and how to load both; what was written is printed. The batch may have any size.

    Args:
        checkpoint: a run's workdir, a folder of checkpoints, or one checkpoint; also in a bucket.
        output: a new or empty folder.

    Raises:
        InputError: there is no checkpoint, or it is no detector's; a package is missing; ONNX has no operator for what
            this version of JAX makes of the detector; the folder is not empty or cannot be written. Nothing is left
            behind.
        KeyboardInterrupt, Preempted: Ctrl-C or SIGTERM ended it; nothing is left behind either.
    """
    output = new_folder(output)
    for package in ("flatbuffers", "onnx"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(f"export needs {package}: pip install flatbuffers onnx.") from error
    _, params, config, step = restore_trained(checkpoint)
    config = ConfigDict(config)
    # Of use in training only.
    config.backbone.remat = False
    is_new, partial = not output.exists(), output / ".partial"
    try:
        partial.mkdir(parents=True)
        _write(jax.device_get(flatten_dict(params, sep="/")), config, {"checkpoint": checkpoint, "step": step}, partial)
        for file in FILES:
            (partial / file).replace(output / file)
        partial.rmdir()
    except BaseException as error:
        for file in FILES:
            with contextlib.suppress(OSError):
                (output / file).unlink()
        shutil.rmtree(output if is_new else partial, ignore_errors=True)
        if isinstance(error, (OSError, SafetensorError)):
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{output} cannot be written: {reason}. Make room, or give another --output.") from error
        if isinstance(error, NotImplementedError):
            raise InputError(
                f"this detector has no ONNX model with jax {jax.__version__}: {error} Export it with another version; "
                "requirements-cpu.txt names the oldest that was tried."
            ) from error
        raise
    sizes = "\n".join(f"  {file}  {(output / file).stat().st_size / 1e6:,.1f} MB" for file in FILES)
    print(f"{config.role}, step {step} of {checkpoint}, in {output}:\n{sizes}\n{CARD_FILE} says how to load them.")


def _write(params, config, origin, folder):
    # Imported when asked for: training and detection do without ONNX.
    from dcrl_jax.inference.onnx_export import onnx_model

    save_file(params, folder / PARAMS_FILE)
    height, width = config.data.height_px, config.data.width_px
    network = build_network(config)
    images = {name: (height, width, CHANNELS[name]) for name in network.modalities}
    outputs = ["boxes", "scores", "mask"] + ["modality_weights"] * (len(images) > 1)

    (batch,) = jax.export.symbolic_shape("b")
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), params)
    inputs = [jax.ShapeDtypeStruct((batch, *shape), np.uint8) for shape in images.values()]
    exported = jax.export.export(jax.jit(program(network)), platforms=PLATFORMS)(shapes, *inputs)
    (folder / JAX_FILE).write_bytes(exported.serialize())

    # ONNX's runtimes on a CPU know no bfloat16.
    exact = ConfigDict(config)
    exact.backbone.dtype = "float32"
    weights = places(folder / PARAMS_FILE)
    model = network.model
    onnx = onnx_model(program(build_network(exact)), weights, images, outputs, model.stride, model.roi_samples_per_bin)
    (folder / ONNX_FILE).write_bytes(onnx.SerializeToString())
    card = _card(config, origin, images, outputs)
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    # The library makes it the owner's alone.
    (folder / PARAMS_FILE).chmod((folder / CARD_FILE).stat().st_mode)


def program(network: Network) -> Callable:
    """Return ``Network.detect`` as a function of parameters by flat names and of images, which returns a dict."""

    def program(params, *images):
        detections, weights = network.detect(unflatten_dict(params, sep="/"), *images)
        return detections._asdict() | ({} if weights is None else {"modality_weights": weights})

    return program


def places(file):
    """Where each array of a safetensors file lies."""
    from dcrl_jax.inference.onnx_export import ExternalArray

    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        places[name] = ExternalArray(
            tuple(entry["shape"]), np.dtype(np.float32), file.name, 8 + size + start, stop - start
        )
    return places


def _card(config, origin, images, outputs):
    """What a person needs to know to run the programs."""
    count = config.final.max_detections
    described = {
        "boxes": ("float32", ["batch", count, 4], "x1, y1, x2, y2 in pixels of the network input, by falling score"),
        "scores": ("float32", ["batch", count], "probability of being a pedestrian"),
        "mask": ("bool", ["batch", count], "False for empty places, whose boxes and scores mean nothing"),
        "modality_weights": ("float32", ["batch", 2], "weights of visible and lwir, adding up to one"),
    }
    meaning = {
        "visible": "RGB, 0 to 255, in this order of the channels",
        "lwir": "grey thermal image, registered with the visible one, 0 to 255",
    }
    packages = ("jax", "jaxlib", "flax", "onnx", "dcrl_jax")
    return {
        "detector": {"role": config.role, "classes": ["person"], **origin},
        "inputs": [
            {"name": name, "dtype": "uint8", "shape": ["batch", *shape], "meaning": meaning[name]}
            for name, shape in images.items()
        ],
        "outputs": [
            dict(zip(("name", "dtype", "shape", "meaning"), (name, *described[name]), strict=True)) for name in outputs
        ],
        "fit": FIT,
        JAX_FILE: {
            "platforms": PLATFORMS,
            "activations": config.backbone.dtype,
            "arguments": ["a dict of the arrays in params.safetensors by name", *images],
            "result": "a dict of the outputs by name",
            "load": LOAD_JAX.format(images=", ".join(images)).splitlines(),
        },
        ONNX_FILE: {
            "activations": "float32",
            "load": LOAD_ONNX.format(
                outputs=", ".join(outputs), feed=", ".join(f'"{name}": {name}' for name in images)
            ).splitlines(),
        },
        "made_with": {name: _version(name) for name in packages},
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
