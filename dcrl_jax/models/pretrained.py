"""ImageNet weights of VGG-16 from a safetensors file, into every branch of a model."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from dcrl_jax.errors import InputError
from dcrl_jax.models.vgg16 import BLOCKS

# Both torchvision and timm number the layers of ``features`` like this: convolutions, ReLUs and pools in turn.
_FEATURE_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def _layer_names():
    return [f"conv{block}_{layer}" for block, (_, count) in enumerate(BLOCKS, 1) for layer in range(1, count + 1)]


def local_file(path: str) -> Path:
    """A local path as it is; ``hf://OWNER/NAME/FILE`` through huggingface_hub's cache; raises InputError."""
    if not path.startswith("hf://"):
        return Path(path)
    parts = path.removeprefix("hf://").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"config.init.vgg16={path}: expected hf://OWNER/NAME/FILE.safetensors.")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id="/".join(parts[:2]), filename=parts[2]))
    except Exception as error:  # The library's errors, its HTTP client's and those of a bad name share no base.
        raise InputError(
            f"config.init.vgg16={path}: cannot be downloaded ({error}). Fetch the file yourself and give its path "
            "with --config.init.vgg16=FILE."
        ) from error


def load_vgg16(path: str, params: Any) -> Any:
    """Put the convolutions of a VGG-16 file into the ``backbone`` or each ``backbones_*`` of a parameter tree.

    Args:
        path: a safetensors file with torchvision's or timm's names (``features.0.weight`` [out, in, 3, 3], ...), local
            or ``hf://OWNER/NAME/FILE``. Its classifier is not used.
        params: a parameter tree of width 1.

    Returns:
        A new tree; nothing but the backbones' ``conv*`` differs.

    Raises:
        InputError: no such file, not safetensors, or a key or shape that does not fit.
    """
    file = local_file(path)
    layers = {}
    try:
        with safe_open(str(file), framework="numpy") as tensors:
            names = set(tensors.keys())
            known = {f"features.{n}.{kind}" for n in _FEATURE_NUMBERS for kind in ("weight", "bias")}
            problems = [f"{name}: missing" for name in sorted(known - names)]
            extra = sorted(
                name for name in names - known if not name.startswith(("classifier.", "pre_logits.", "head."))
            )
            problems += [f"{name}: not a layer of VGG-16 without batch norm" for name in extra]
            if not problems:
                for layer, number in zip(_layer_names(), _FEATURE_NUMBERS, strict=True):
                    kernel = tensors.get_tensor(f"features.{number}.weight").astype(np.float32)
                    bias = tensors.get_tensor(f"features.{number}.bias").astype(np.float32)
                    layers[layer] = {
                        "kernel": np.moveaxis(kernel, (0, 1), (-1, -2)) if kernel.ndim == 4 else kernel,
                        "bias": bias,
                    }
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read as safetensors: {error}.") from error
    backbone_names = [name for name in params if name.startswith("backbone")]
    for layer, loaded in layers.items():
        for kind, values in loaded.items():
            expected = params[backbone_names[0]][layer][kind].shape
            if values.shape != expected:
                problems.append(f"{layer} {kind}: {values.shape} in the file, {expected} in the model")
    if problems:
        shown = "\n  ".join(problems[:5] + ([f"and {len(problems) - 5} more"] if len(problems) > 5 else []))
        raise InputError(
            f"{file} does not fit VGG-16 at the configured width:\n  {shown}\n"
            "Use a file of torchvision's vgg16 or timm's vgg16.tv_in1k, and config.backbone.width=1.0; or start from "
            "random numbers with --config.init.vgg16= (and --config.backbone.norm=group, which such a start needs)."
        )
    loaded = {
        name: {k: {p: jnp.asarray(a) for p, a in v.items()} for k, v in layers.items()} for name in backbone_names
    }
    return params | {name: params[name] | loaded[name] for name in backbone_names}
