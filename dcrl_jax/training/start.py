"""The initial parameters of a run: random, from a checkpoint, or from VGG-16."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import checkpoints
from dcrl_jax.config import data_set_name, has_key, keys_affecting, value_of
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.models import pretrained
from dcrl_jax.models.network import Network, anchor_range_px
from dcrl_jax.models.rescale import rescale
from dcrl_jax.param_trees import leaves_by_path
from dcrl_jax.structures import Array

Arrays = Mapping[str, Any]


def read_start(network: Network, config: ConfigDict) -> Arrays:
    """Read the arrays of ``init.checkpoint`` that training starts from, by path; empty without a checkpoint.

    The checkpoint may belong to another data set, input size or role. An array is used if the network has one of the
    same path and shape. The restored, the new and the unused arrays are printed.

    Raises:
        InputError: the checkpoint is missing or cannot be read, has another role than the recipe needs, or lacks an
            array of the backbone; the recipe needs a checkpoint and the config names none; or frozen blocks would be
            random.
    """
    if not config.init.checkpoint and config.init.roles:
        raise InputError(
            f"this recipe fine-tunes a trained {_either(config.init.roles)}: give --config.init.checkpoint=PATH, the "
            "workdir of its training, one checkpoint in it, or hf://OWNER/NAME."
        )
    if config.backbone.frozen_blocks and not (config.init.checkpoint or config.init.vgg16):
        raise InputError(
            f"config.backbone.frozen_blocks is {config.backbone.frozen_blocks}, but these blocks would keep random "
            "values. Set it to 0, or give --config.init.vgg16=FILE or --config.init.checkpoint=PATH."
        )
    return _from_checkpoint(network, config) if config.init.checkpoint else {}


def first_params(
    network: Network, config: ConfigDict, start: Arrays, sample_images: Callable[[], Sequence[Array]]
) -> Any:
    """Return random parameters, replaced by the arrays of ``read_start``.

    Without a checkpoint, the convolutions are those of ``init.vgg16``, which may be downloaded.

    Args:
        network: the detector.
        config: its config.
        start: the result of ``read_start``.
        sample_images: returns training images of each modality, for ``init.rescale``.

    Raises:
        InputError: ``pretrained.load_vgg16`` cannot use the file.
    """
    params = network.init_params(config.seed)
    values = [start.get(path, leaf) for path, leaf in leaves_by_path(params).items()]
    params = jax.tree.structure(params).unflatten(values)
    if config.init.checkpoint or not config.init.vgg16:
        return params
    params = pretrained.load_vgg16(config.init.vgg16, params)
    print(f"init: VGG-16 convolutions from {config.init.vgg16}", flush=True)
    if config.init.rescale:
        images = sample_images()
        params = rescale(network.model, params, images)
        print(f"init: all features scaled to RMS 1 on {len(images[0])} training images", flush=True)
    return params


def roles_of(config: ConfigDict) -> tuple[str, ...]:
    """Return the role of a config's detector; of a fine-tuned one, the roles that it may have started from."""
    return tuple(config.init.roles) or (config.role,)


def _from_checkpoint(network: Network, config: ConfigDict) -> Arrays:
    source = config.init.checkpoint
    saved, saved_config, step = checkpoints.restore_params(source)
    roles = roles_of(saved_config)
    if config.init.roles and not set(roles) <= set(config.init.roles):
        raise InputError(
            f"{source} holds a {_either(roles)}, and this recipe fine-tunes a {_either(config.init.roles)}. Give "
            "another --config.init.checkpoint, or the recipe of configs/finetune.py that starts from this one."
        )
    shapes, arrays = leaves_by_path(network.param_shapes()), leaves_by_path(saved)
    restored = {path for path in shapes if path in arrays and np.shape(arrays[path]) == np.shape(shapes[path])}
    missing = [path for path in shapes if path.startswith("backbone") and path not in restored]
    if missing:
        differences = first_few([_difference(path, arrays, shapes) for path in missing], 1)
        raise InputError(
            f"{source} is of another network, with another backbone: {', '.join(differences)}."
            f"{_remedy(config, saved_config)}"
        )
    print(
        f"init: from {source}, step {step}, a {_either(roles)}; {_inputs(saved_config)} there, {_inputs(config)} here\n"
        f"  restored: {_counted(shapes, restored)}\n"
        f"  new: {_counted(shapes, shapes.keys() - restored)}\n"
        f"  left out: {_counted(arrays, arrays.keys() - shapes.keys())}",
        flush=True,
    )
    for path in shapes:
        if path in arrays and path not in restored:
            print(f"  of another shape: {_difference(path, arrays, shapes)}", flush=True)
    return {path: arrays[path] for path in restored}


def _counted(arrays: Arrays, paths: Iterable[str]) -> str:
    """Return as text how many parameters and arrays each part of the network has among ``paths``."""
    parts: dict[str, list[int]] = {}
    for path in sorted(paths):
        parts.setdefault(path.partition("/")[0], []).append(int(np.size(arrays[path])))
    return ", ".join(f"{part} ({sum(sizes):,} in {len(sizes)} arrays)" for part, sizes in parts.items()) or "nothing"


def _difference(path: str, saved: Arrays, shapes: Arrays) -> str:
    there = f"{np.shape(saved[path])} there" if path in saved else "not there"
    return f"{path}: {there}, {np.shape(shapes[path])} here"


def _inputs(config: ConfigDict) -> str:
    smallest, largest = anchor_range_px(config)
    data = config.data
    return f"{data_set_name(data)} at {data.width_px}x{data.height_px}, anchors {smallest:.0f} to {largest:.0f} px"


def _remedy(config: ConfigDict, saved: ConfigDict) -> str:
    """Return the flags that give a recipe the network of a checkpoint."""
    flags = []
    for key in keys_affecting("shapes"):
        if has_key(config, key.name) and has_key(saved, key.name):
            value = value_of(saved, key.name)
            if value_of(config, key.name) != value:
                flags.append(shlex.quote(f"--config.{key.name}={value}"))
    return f" Its own: {' '.join(flags)}" if flags else " Give another --config.init.checkpoint."


def _either(roles: Iterable[str]) -> str:
    return " or a ".join(roles)
