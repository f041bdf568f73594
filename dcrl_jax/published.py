"""The format of a published model: a folder, or a repository on the Hugging Face hub, with parameters and config.

``model.safetensors`` holds the parameters, float32 or bfloat16, under their key paths joined by dots. ``config.json``
holds the config, the step and the number of this format. ``README.md`` is for people; see ``inference/publish.py``.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dcrl_jax.errors import InputError
from dcrl_jax.hub import HUB, fetch
from dcrl_jax.opening import open_regular

PARAMS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
MAX_PARAMS_BYTES = 8 * 2**30  # a teacher of full width has 1.1 GB
MAX_CONFIG_BYTES = 2**20  # a hundred times a config's
MAX_TENSORS, MAX_DEPTH = 10_000, 32  # a teacher has some 100, of up to 5 parts
FORMAT = 1
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}
_NAMES = ("F32", "BF16")  # safetensors'


def is_published(path: str) -> bool:
    """Return whether a path names a published model: ``hf://...``, or a folder with its parameters."""
    return path.startswith(HUB) or os.path.isfile(Path(path) / PARAMS_FILE)


def write(folder: Path, params: Any, config: dict, step: int, dtype: str = "float32") -> None:
    """Write the parameters and the config of a model.

    Args:
        folder: an existing folder.
        params: the parameter tree, float32.
        config: the config as plain JSON values.
        step: the training step of the parameters.
        dtype: of ``DTYPES``; bfloat16 halves the file and rounds to 8 bits.

    Raises:
        OSError: the folder cannot be written to.
    """
    flat = traverse_util.flatten_dict(jax.device_get(params), sep=".")
    tensors = {name: np.ascontiguousarray(leaf).astype(DTYPES[dtype]) for name, leaf in flat.items()}
    metadata = {"format": "flax", "library": "dcrl_jax", "role": config["role"], "step": str(step)}
    try:
        save_file(tensors, folder / PARAMS_FILE, metadata)
    except SafetensorError as error:  # it wraps the system's error
        raise OSError(str(error)) from error
    values = {"format": FORMAT, "library": "dcrl_jax", "role": config["role"], "step": step, "config": config}
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    # safetensors makes its file readable by the owner only.
    (folder / PARAMS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode)


def read(source: str) -> tuple[Any, dict, int]:
    """Read a published model.

    Args:
        source: a folder; or ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``, through huggingface_hub's cache.

    Returns:
        The parameter tree, float32, on the first local device, the config as plain JSON values, and the step.

    Raises:
        InputError: the model cannot be fetched, a file is missing or damaged, or it has another format.
    """
    folder = _download(source) if source.startswith(HUB) else Path(source)
    config, step = _read_config(folder / CONFIG_FILE, source)
    tensors = _read_tensors(folder / PARAMS_FILE, source)
    return jax.device_put(_nest(tensors, source), jax.local_devices()[0]), config, step


def read_config_file(file: Path | epath.Path) -> Any:
    """Return the content of a config's JSON file, which may be anybody's.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, too large or too deep.
    """
    with open_regular(file) if isinstance(file, Path) else file.open("rb") as opened:
        content = opened.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise ValueError(f"it has more than {MAX_CONFIG_BYTES:,} bytes")
    try:
        return json.loads(content, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("its values are nested too deep") from error


def _each_once(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _download(source):
    name, _, revision = source.removeprefix(HUB).partition("@")
    if len(name.split("/")) != 2 or not all(name.split("/")):
        raise InputError(f"{source}: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION.")
    return fetch(source, name, [PARAMS_FILE, CONFIG_FILE], revision or None)


def _unreadable(file, source, error):
    expected = f"{source} must be a folder of --mode=publish, with {CONFIG_FILE} and {PARAMS_FILE}"
    reason = error.strerror or error if isinstance(error, OSError) else error
    return InputError(f"{file} cannot be read: {reason}. {expected}.")


def _read_config(file, source):
    try:
        values = read_config_file(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, source, error) from error
    is_ours = isinstance(values, dict) and values.get("library") == "dcrl_jax"
    if not is_ours or values.get("format") != FORMAT:
        kind = f"of format {values.get('format')}" if is_ours else "not the config of a dcrl_jax model"
        raise InputError(f"{file} is {kind}; expected format {FORMAT}, which --mode=publish of this version writes.")
    config, step = values.get("config"), values.get("step")
    if not isinstance(config, dict) or type(step) is not int or not 0 <= step < 2**63:
        raise InputError(f"{file} has no config or no step; expected both, as --mode=publish writes them.")
    return config, step


def _read_tensors(file, source):
    try:
        with safe_open(str(file), framework="numpy") as opened:
            names, size = sorted(opened.keys()), 0
            if len(names) > MAX_TENSORS:
                raise InputError(f"{file}: {len(names):,} tensors; expected at most {MAX_TENSORS:,}.")
            for name in names:
                if name.count(".") > MAX_DEPTH:
                    raise InputError(f"{file}: the name {name[:80]!r} has more than {MAX_DEPTH} parts.")
                dtype = opened.get_slice(name).get_dtype()
                if dtype not in _NAMES:
                    raise InputError(f"{file}: {name} has type {dtype}; expected float32, F32, or bfloat16, BF16.")
                size += 4 * math.prod(opened.get_slice(name).get_shape())
            if size > MAX_PARAMS_BYTES:  # of a file with holes, which takes no room on a disk
                raise InputError(f"{file}: parameters of {size:,} bytes; expected at most {MAX_PARAMS_BYTES:,}.")
            return {name: opened.get_tensor(name).astype(np.float32) for name in names}
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError) as error:  # NumPy takes up to 64 sides
        raise _unreadable(file, source, error) from error


def _nest(tensors, source):
    """Return tensors with dotted names as a tree; names are sorted, so that a name comes before its extensions."""
    tree = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise InputError(f"{source}: in {PARAMS_FILE}, the name {name} extends the name of another tensor.")
        node[last] = tensor
    return tree
