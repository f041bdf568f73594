"""Orbax checkpoints: save, resume, and parameters alone for evaluation and inference.

A workdir holds ``checkpoints/STEP``, the newest ones to resume from, and ``best/STEP``, the parameters with the lowest
miss rate so far. Every checkpoint has its parameters as an item of their own, and the config as JSON beside them.
"""

import contextlib
import functools
import hashlib
import json
import math
import re
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from dcrl_jax import parallel, published
from dcrl_jax.config import add_later_keys
from dcrl_jax.errors import InputError
from dcrl_jax.parallel import across_processes, within_process

RESUME_FOLDER = "checkpoints"
BEST_FOLDER = "best"
FOLDERS = (BEST_FOLDER, RESUME_FOLDER)


def open_manager(folder: Path, keep: int = 1) -> ocp.CheckpointManager:
    """Open a run's folder of checkpoints, made if missing, that keeps the ``keep`` newest.

    What a killed run left half-written is removed.
    """
    from grain.checkpoint import CheckpointHandler, CheckpointRestore, CheckpointSave  # not needed to read parameters

    _remove_half_written(folder)
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for item, save, restore, handler in (
        ("params", ocp.args.StandardSave, ocp.args.StandardRestore, ocp.StandardCheckpointHandler),
        ("optimizer", ocp.args.StandardSave, ocp.args.StandardRestore, ocp.StandardCheckpointHandler),
        ("data", CheckpointSave, CheckpointRestore, CheckpointHandler),
        ("config", ocp.args.JsonSave, ocp.args.JsonRestore, ocp.JsonCheckpointHandler),
        ("scores", ocp.args.JsonSave, ocp.args.JsonRestore, ocp.JsonCheckpointHandler),
    ):
        registry.add(item, save, handler())
        registry.add(item, restore, handler())
    options = ocp.CheckpointManagerOptions(preservation_policy=preservation_policy.LatestN(keep))
    manager = ocp.CheckpointManager(_place(folder), options=options, handler_registry=registry)
    # Whole ones too many, if the run was killed between writing the newest and deleting the oldest.
    for step in sorted(manager.all_steps())[:-keep]:
        manager.delete(step)
    return manager


def config_to_json(config: ConfigDict) -> dict:
    """A config as plain JSON values."""
    return json.loads(json.dumps(config.to_dict()))


def config_from_json(values: dict) -> ConfigDict:
    """The inverse of ``config_to_json``: lists become tuples again."""

    def convert(value):
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, list):
            return tuple(convert(item) for item in value)
        return value

    return ConfigDict(convert(values))


def save_training(manager: ocp.CheckpointManager, state: Any, data_iterator: Any, config: ConfigDict) -> None:
    """Save everything that a run needs to go on; returns when the write is under way.

    Args:
        manager: of the workdir's RESUME_FOLDER.
        state: a TrainState.
        data_iterator: the Grain iterator whose next batch is the next step's.
        config: of the run.
    """
    from grain.checkpoint import CheckpointSave

    step = int(jax.device_get(state.step))
    if step in manager.all_steps():
        return
    items = {
        "params": ocp.args.StandardSave(across_processes(state.params)),
        "optimizer": ocp.args.StandardSave(across_processes({"step": state.step, "opt_state": state.opt_state})),
        "data": CheckpointSave(data_iterator),
        "config": ocp.args.JsonSave(config_to_json(config)),
    }
    with _said_if_not_written(manager):
        manager.save(step, args=ocp.args.Composite(**items))


def wait_until_written(manager: ocp.CheckpointManager) -> None:
    """Wait for the writes under way; raises InputError if they failed. The checkpoints from before stay."""
    with _said_if_not_written(manager):
        manager.wait_until_finished()


def _remove_half_written(folder):
    if not parallel.is_first_process():
        return
    for _ in range(20):
        found = list(folder.glob("*.orbax-checkpoint-tmp"))
        if not found:
            return
        for half_written in found:
            shutil.rmtree(half_written, ignore_errors=True)
        # After a failure, writers of other arrays that have not failed yet may make it anew.
        time.sleep(0.1)


@contextlib.contextmanager
def _said_if_not_written(manager):
    try:
        yield
    # A failed write of an array is a ValueError; the reason that a person looks for stands far inside.
    except (OSError, ValueError) as error:
        known = re.search(
            r"No space left on device|Disk quota exceeded|Read-only file system|File too large", str(error)
        )
        if known is None and not isinstance(error, OSError):
            raise
        _remove_half_written(Path(manager.directory))
        newest = newest_step(Path(manager.directory))
        kept = f"The checkpoint of step {newest} is kept" if newest is not None else "There is no checkpoint yet"
        raise InputError(
            f"no checkpoint can be written to {manager.directory}: {known[0] if known else str(error)[:200]}. {kept}; "
            "make room, then give the same command again."
        ) from error


def restore_training(manager: ocp.CheckpointManager, state: Any, data_iterator: Any) -> Any:
    """Restore the newest checkpoint into the shapes and placement of ``state``, and the iterator's position.

    One that cannot be read is put aside, which is said, and the next older one is taken.

    Raises:
        InputError: the checkpoint is of another model or optimizer, or none can be read.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for step, older in zip(steps, [*steps[1:], None], strict=True):
        try:
            return _restore_step(manager, step, state, data_iterator)
        except _DamagedError as error:
            if older is None:
                raise
            folder = Path(manager.directory / str(step))
            aside = folder.with_name(f"damaged-{step}")
            print(f"warning: {error} It is put aside as {aside}; going on from step {older}", flush=True)
            parallel.first_process_first(functools.partial(_put_aside, folder, aside))
            manager.reload()
    raise ValueError(f"{manager.directory} holds no checkpoint")


def _put_aside(folder, aside):
    # Another process of this run may have done it.
    if folder.is_dir():
        folder.rename(aside)


def _check_processes(folder):
    """The place in the data is kept by each process for its own share of it."""
    count = len(list((folder / "data").glob("process_*.json")))
    if count not in (0, jax.process_count()):
        raise InputError(
            f"{folder} was saved by {count} processes, and this run has {jax.process_count()}. Go on with {count}, or "
            "start a new run from its parameters with --config.init.checkpoint and another --workdir."
        )


def _restore_step(manager, step, state, data_iterator):
    from grain.checkpoint import CheckpointRestore

    folder = Path(manager.directory / str(step))
    _check_processes(folder)
    wanted = {"params": state.params, "optimizer": {"step": state.step, "opt_state": state.opt_state}}
    wanted = across_processes(wanted)
    with _damage_said(folder):
        saved = manager.item_metadata(step)
        for item, tree in wanted.items():
            if saved.get(item) is None:
                raise _damaged(folder, f"its {item} cannot be read")
            _check_fits(_shapes_by_path(saved[item].tree), _shapes_by_path(tree), f"{folder} ({item})")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        restored = manager.restore(step, args=ocp.args.Composite(data=CheckpointRestore(data_iterator), **items))
    params, optimizer = within_process((restored["params"], restored["optimizer"]))
    return state._replace(params=params, step=optimizer["step"], opt_state=optimizer["opt_state"])


def save_best(manager: ocp.CheckpointManager, step: int, params: Any, config: ConfigDict, miss_rate: float) -> bool:
    """Save parameters if their miss rate is below that of the best so far; says whether it did."""
    best = manager.latest_step()
    if best == step:
        return False  # the run was ended between this and the record of its scores, and takes them once more
    if best is not None:
        scores = manager.restore(best, args=ocp.args.Composite(scores=ocp.args.JsonRestore()))["scores"]
        # A rate that is not a number (nobody to find) is above all others; of two such, the later is taken.
        former = scores["miss_rate"]
        if miss_rate >= former or (math.isnan(miss_rate) and not math.isnan(former)):
            return False
    items = {
        "params": ocp.args.StandardSave(across_processes(params)),
        "config": ocp.args.JsonSave(config_to_json(config)),
        "scores": ocp.args.JsonSave({"miss_rate": miss_rate, "step": step}),
    }
    with _said_if_not_written(manager):
        manager.save(step, args=ocp.args.Composite(**items), force=True)
    return True


def newest_step(folder: epath.PathLike) -> int | None:
    """The newest finished checkpoint of a folder; None where there is none."""
    steps = [
        int(entry.name)
        for entry in epath.Path(folder).glob("*")
        if entry.name.isdigit() and (entry / "params").is_dir()
    ]
    return max(steps, default=None)


def _place(path: str | epath.PathLike) -> epath.Path:
    """A local path made absolute, as Orbax wants it, or one in a bucket."""
    return epath.Path(path) if "://" in str(path) else epath.Path(path).absolute()


def _checkpoint_folder(path: str) -> tuple[epath.Path, int]:
    """The folder of checkpoints and the step that a path means: a workdir (its best), such a folder, or one."""
    given = _place(path)
    if given.name.isdigit() and (given / "params").is_dir():
        return given.parent, int(given.name)
    for folder in (given / BEST_FOLDER, given / RESUME_FOLDER, given):
        step = newest_step(folder)
        if step is not None:
            return folder, step
    raise InputError(
        f"{given} holds no checkpoint: expected a run's workdir, its {BEST_FOLDER}/ or {RESUME_FOLDER}/, or one "
        "numbered folder in them."
    )


def is_workdir(path: str) -> bool:
    """Whether a path is a run's folder, and not one of checkpoints in it."""
    return any((_place(path) / folder).is_dir() for folder in FOLDERS)


def restore_params(path: str) -> tuple[Any, ConfigDict, int]:
    """Restore parameters alone, whatever devices they were saved from.

    Args:
        path: a workdir, whose parameters are those that its own run scores: the best, or the newest where there are no
            best or the test split chose them; a folder of checkpoints; or one checkpoint; local or in a bucket
            (gs://BUCKET/RUN, s3://...) that Orbax can read; or a published model, ``hf://OWNER/NAME`` or its folder.

    Returns:
        The parameter tree on the first local device, the config it was trained with, and its step.

    Raises:
        InputError: there is no checkpoint at the path, or it cannot be read.
    """
    if published.is_published(path):
        params, config, step = published.read(path)
        config = config_from_json(config)
        add_later_keys(config)
        return params, config, step
    try:
        folder, step = _checkpoint_folder(path)
        config = _restore_config(folder / str(step))
        last = newest_step(_place(path) / RESUME_FOLDER)
        # A split that chose parameters is no test of them.
        if folder == _place(path) / BEST_FOLDER and config.data.validation_split == config.data.test_split and last:
            folder, step = _place(path) / RESUME_FOLDER, last
            config = _restore_config(folder / str(step))
        return _restore_params(folder / str(step)), config, step
    except ImportError as error:  # of the package for this kind of bucket
        raise InputError(f"{path}: {error}.") from error


def _restore_config(checkpoint: epath.Path) -> ConfigDict:
    with _damage_said(checkpoint), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        config = reader.restore(checkpoint / "config")
    if not isinstance(config, dict):
        raise _damaged(checkpoint, f"its config is a {type(config).__name__}, not key by key")
    config = config_from_json(config)
    add_later_keys(config)
    return config


def _restore_params(checkpoint: epath.Path) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _damage_said(checkpoint), ocp.StandardCheckpointer() as reader:
        # The handler's own: asked through the reader, it warns of metadata that only a checkpoint of one item has.
        saved = ocp.StandardCheckpointHandler().metadata(checkpoint / "params").tree
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), saved)
        return reader.restore(checkpoint / "params", abstract)


def fingerprint(params: Any) -> str:
    """SHA-256 of a parameter tree: the same for the same values under the same names, wherever they are kept."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in sorted(leaves, key=lambda entry: jax.tree_util.keystr(entry[0])):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class _DamagedError(InputError):
    """A checkpoint that cannot be read."""


def _damaged(folder, reason):
    # The first words say what is wrong; storage libraries add pages.
    return _DamagedError(f"{folder} cannot be read as a checkpoint: {str(reason)[:200]}.")


@contextlib.contextmanager
def _damage_said(folder):
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder, error) from error


def check_params(params: Any, expected: Any, source: str) -> None:
    """Refuse parameters that do not fit a model.

    Args:
        params: the tree found.
        expected: a tree of the same structure with the shapes that the model has.
        source: where ``params`` came from, for the message.

    Raises:
        InputError: keys or shapes differ; names the first of them.
    """
    _check_fits(_shapes_by_path(params), _shapes_by_path(expected), source)


def _shapes_by_path(tree):
    """Shapes by key path; keys of tuples and of dicts read the same, since a checkpoint does not tell them apart."""

    def name(key):
        for attribute in ("key", "name", "idx"):
            if hasattr(key, attribute):
                return str(getattr(key, attribute))
        return str(key)

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(name(key) for key in path): tuple(np.shape(leaf)) for path, leaf in leaves}


def _check_fits(found, expected, source):
    differences = [f"{key}: missing" for key in expected if key not in found]
    differences += [f"{key}: not expected" for key in found if key not in expected]
    differences += [
        f"{key}: {found[key]} instead of {expected[key]}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    if differences:
        shown = "\n  ".join(differences[:5])
        more = f"\n  and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise InputError(
            f"{source} does not fit the configured model:\n  {shown}{more}\n"
            "Use the config that it was trained with, or another workdir."
        )
