"""ImageNet weights of VGG-16 from a safetensors file, for every backbone of a model."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from dcrl_jax.errors import InputError, first_few
from dcrl_jax.hub import HUB, fetch
from dcrl_jax.models.vgg16 import BLOCKS

Layer = dict[str, np.ndarray]  # ``kernel`` and ``bias``

# torchvision and timm number convolutions, ReLUs and pools of ``features`` consecutively; these are the convolutions.
_FEATURE_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
# Prefixes of the classifier layers in files of torchvision and timm.
_CLASSIFIERS = ("classifier.", "pre_logits.", "head.")


def load_vgg16(path: str, params: Any) -> Any:
    """Copy the convolutions of a VGG-16 file into every backbone of a parameter tree.

    A narrower backbone gets a part of each layer's channels, see ``narrowed``.

    Args:
        path: a safetensors file with the names of torchvision or timm (``features.0.weight`` [out, in, 3, 3], ...),
            local or ``hf://OWNER/NAME/FILE``. Its classifier is not used.
        params: a parameter tree of width 1 or less with a ``backbone`` or several ``backbones_*``.

    Returns:
        A new tree that differs from ``params`` only in the ``conv*`` of the backbones, which are float32.

    Raises:
        InputError: the file cannot be fetched or read, or a key or shape does not match.
    """
    file = local_file(path)
    layers, problems = _read_layers(file)
    backbones = [name for name in params if name.startswith("backbone")]
    shapes = [arrays["kernel"].shape for arrays in layers.values()]
    if shapes and all(len(shape) == 4 for shape in shapes) and all(a[3] == b[2] for a, b in itertools.pairwise(shapes)):
        layers = narrowed(layers, {layer: params[backbones[0]][layer]["bias"].shape[0] for layer in layers})
    for layer, arrays in layers.items():
        for kind, values in arrays.items():
            expected = params[backbones[0]][layer][kind].shape
            if values.shape != expected:
                problems.append(f"{layer} {kind}: {values.shape} in the file, {expected} in the model")
    if problems:
        shown = "\n  ".join(first_few(problems, 5))
        raise InputError(
            f"{file} does not fit VGG-16 at the configured width:\n  {shown}\n"
            "Use a file of torchvision's vgg16 or timm's vgg16.tv_in1k, and config.backbone.width of at most 1; or "
            "start from random weights with --config.init.vgg16= (and --config.backbone.norm=group, which such a start "
            "needs)."
        )
    return params | {name: params[name] | jax.tree.map(jnp.asarray, layers) for name in backbones}


def narrowed(layers: Mapping[str, Layer], channels: Mapping[str, int]) -> dict[str, Layer]:
    """Return VGG-16's convolutions with fewer channels: those with the largest weights.

    A channel counts by the norm of the weights that it is computed with, times that of the next layer's weights that
    read it (a magnitude criterion, as in Li et al., Pruning Filters for Efficient ConvNets). What the other channels
    added is lost: ``rescale`` restores the scale, training the rest.

    Args:
        layers: kernels [3, 3, C, K] and biases [K] by layer, in order.
        channels: number of channels to keep by layer; a layer that has no more is left as it is.
    """
    names, found = list(layers), {}
    kept = np.arange(layers[names[0]]["kernel"].shape[2])
    for name, following in zip(names, [*names[1:], None], strict=True):
        kernel, bias = layers[name]["kernel"], layers[name]["bias"]
        weights = _norms(kernel, 3)
        if following:
            weights = weights * _norms(layers[following]["kernel"], 2)
        chosen = np.sort(np.argsort(-weights, kind="stable")[: channels[name]])
        found[name] = {"kernel": kernel[:, :, kept][..., chosen], "bias": bias[chosen]}
        kept = chosen
    return found


def _norms(kernel, axis):
    """Return the norms of a kernel's weights by input (axis 2) or output (axis 3)."""
    return np.sqrt(np.sum(np.square(kernel), axis=tuple(other for other in range(4) if other != axis)))


def local_file(path: str) -> Path:
    """Return the local path of a file; download ``hf://OWNER/NAME/FILE`` first.

    Raises:
        InputError: the ``hf://`` path is malformed, or the file cannot be fetched.
    """
    if not path.startswith(HUB):
        return Path(path)
    source = f"config.init.vgg16={path}"
    parts = path.removeprefix(HUB).split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{source}: expected {HUB}OWNER/NAME/FILE.safetensors.")
    owner, name, filename = parts
    file = fetch(source, f"{owner}/{name}", [filename]) / filename
    if not file.is_file():
        raise InputError(
            f"{source}: the repository {owner}/{name} has no file {filename}. Give the name of one it has."
        )
    return file


def _read_layers(file):
    """Return kernels [3, 3, in, out] and biases by Vgg16's layer names, and a line for each missing or unknown one."""
    known = {f"features.{number}.{kind}" for number in _FEATURE_NUMBERS for kind in ("weight", "bias")}
    try:
        with safe_open(str(file), framework="numpy") as tensors:
            names = set(tensors.keys())
            unknown = sorted(name for name in names - known if not name.startswith(_CLASSIFIERS))
            problems = [f"{name}: missing" for name in sorted(known - names)]
            problems += [f"{name}: not a layer of VGG-16 without batch norm" for name in unknown]
            if problems:
                return {}, problems

            def read(number):
                weight, bias = (tensors.get_tensor(f"features.{number}.{kind}") for kind in ("weight", "bias"))
                # A weight of another rank is kept as it is, and its shape is reported.
                kernel = np.moveaxis(weight, (0, 1), (-1, -2)) if weight.ndim == 4 else weight
                return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}

            layer_names = [
                f"conv{block}_{layer + 1}" for block, (_, count) in enumerate(BLOCKS, 1) for layer in range(count)
            ]
            return {layer: read(number) for layer, number in zip(layer_names, _FEATURE_NUMBERS, strict=True)}, []
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file}: cannot be read as safetensors: {error}. Download it again, or name another file in "
            "--config.init.vgg16."
        ) from error
