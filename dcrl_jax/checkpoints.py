"""Orbax checkpoints: save and resume a training, and restore parameters for evaluation and inference.

A workdir holds ``checkpoints/STEP``, the newest ones to resume from, and ``best/STEP``, the parameters with the lowest
miss rate so far. In every checkpoint the parameters are a separate item, and the config is JSON.
"""

import contextlib
import functools
import itertools
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from dcrl_jax import parallel, published
from dcrl_jax.config import add_later_keys, check_config, validation_is_test
from dcrl_jax.disk_errors import disk_failure
from dcrl_jax.errors import InputError
from dcrl_jax.parallel import across_processes, within_process
from dcrl_jax.param_trees import check_fits, leaves_by_path, shapes_by_path

RESUME_FOLDER = "checkpoints"
BEST_FOLDER = "best"
FOLDERS = (BEST_FOLDER, RESUME_FOLDER)
# Of a checkpoint's arrays to its files, which compress trained parameters by some percent; that many bytes are free.
_MAX_RATIO, _FREE_BYTES = 20, 64 * 2**20


@contextlib.contextmanager
def open_manager(folder: Path, keep: int = 1) -> Iterator[ocp.CheckpointManager]:
    """Open a run's folder of checkpoints, in which the ``keep`` newest remain; wait for all writes at the end.

    Create the folder if needed. Delete incomplete and surplus checkpoints of a killed run.

    Raises:
        InputError: the folder cannot be written to, or a write failed; earlier checkpoints remain.
    """
    from grain.checkpoint import CheckpointHandler, CheckpointRestore, CheckpointSave  # not needed to read parameters

    _remove_incomplete(folder)
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for item, save, restore, handler in (
        ("params", ocp.args.StandardSave, ocp.args.StandardRestore, ocp.StandardCheckpointHandler),
        ("optimizer", ocp.args.StandardSave, ocp.args.StandardRestore, ocp.StandardCheckpointHandler),
        # Grain's handler has the methods of Orbax's base class, but is not derived from it.
        ("data", CheckpointSave, CheckpointRestore, cast(Any, CheckpointHandler)),
        ("config", ocp.args.JsonSave, ocp.args.JsonRestore, ocp.JsonCheckpointHandler),
        ("scores", ocp.args.JsonSave, ocp.args.JsonRestore, ocp.JsonCheckpointHandler),
    ):
        registry.add(item, save, handler())
        registry.add(item, restore, handler())
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.LatestN(keep),
        async_options=ocp.AsyncOptions(
            # Orbax counts by the wall clock, which may jump, and a disk may be slow; 20 minutes are its default.
            timeout_secs=24 * 3600,
            # Where the thread that creates folders fails, the others would wait for it for five minutes.
            create_directories_asynchronously=False,
        ),
    )
    with _explain_failed_write(folder):
        manager = ocp.CheckpointManager(_absolute(folder), options=options, handler_registry=registry)
    on_close = _explain_failed_write(folder)
    try:
        with _explain_failed_write(folder):
            # A run that was killed between writing the newest and deleting the oldest left one too many.
            for step in sorted(manager.all_steps())[:-keep]:
                manager.delete(step)
        yield manager
    except Exception:
        # This error says more than those of the writes that it interrupts.
        on_close = contextlib.suppress(Exception)
        raise
    finally:
        with on_close:
            manager.close()


def config_to_json(config: ConfigDict) -> dict:
    """Return a config as plain JSON values."""
    return json.loads(json.dumps(config.to_dict()))


def config_from_json(values: dict) -> ConfigDict:
    """Return the config from the values of ``config_to_json``, which may be anybody's; lists become tuples.

    Raises:
        InputError: the values cannot be those of a config.
    """

    def convert(value):
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, list):
            return tuple(convert(item) for item in value)
        return value

    try:
        config = ConfigDict(convert(values))
        add_later_keys(config)
        check_config(config)
    except InputError:
        raise
    # A key may have a dot or the name of a method.
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"its config is not one of dcrl_jax: {error}.") from error
    return config


def save_training(manager: ocp.CheckpointManager, state: Any, data_iterator: Any, config: ConfigDict) -> None:
    """Start saving what a run needs to resume, unless this step is saved already; do not wait for the write to end.

    Args:
        manager: the manager of the workdir's RESUME_FOLDER.
        state: a TrainState.
        data_iterator: the Grain iterator whose next batch is the next step's.
        config: the run's config.

    Raises:
        InputError: this write or an earlier one failed.
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
    with _explain_failed_write(Path(manager.directory)):
        manager.save(step, args=ocp.args.Composite(**items))


def wait_until_written(manager: ocp.CheckpointManager) -> None:
    """Wait until all started writes have ended.

    Raises:
        InputError: a write failed; earlier checkpoints remain.
    """
    with _explain_failed_write(Path(manager.directory)):
        manager.wait_until_finished()


def _remove_incomplete(folder):
    if not parallel.is_first_process():
        return
    for _ in range(20):
        incomplete = list(folder.glob("*.orbax-checkpoint-tmp"))
        if not incomplete:
            return
        for checkpoint in incomplete:
            shutil.rmtree(checkpoint, ignore_errors=True)
        # After a failed write, threads that still write other arrays may create the folder again.
        time.sleep(0.1)


@contextlib.contextmanager
def _explain_failed_write(folder):
    try:
        yield
    except Exception as error:
        failure = disk_failure(error, folder)
        if failure is None:
            raise
        kept = "Finished checkpoints are kept"
        with contextlib.suppress(OSError):  # a disk that cannot be read either
            if folder.is_dir():
                _remove_incomplete(folder)
                newest = newest_step(folder)
                kept = f"The checkpoint of step {newest} is kept" if newest is not None else "It holds none yet"
        raise InputError(
            f"no checkpoint can be written to {folder}: {failure.reason}. {kept}; {failure.remedy}, then give the same "
            "command again."
        ) from error


def restore_training(manager: ocp.CheckpointManager, state: Any, data_iterator: Any) -> Any:
    """Restore the newest checkpoint into the shapes and placement of ``state``, and the iterator's position.

    If a checkpoint is unreadable, rename it to ``damaged-STEP``, print a warning, and fall back to the previous one.

    Raises:
        InputError: the checkpoint belongs to another network or optimizer, or no checkpoint can be read.
    """
    for step, older in itertools.pairwise([*sorted(manager.all_steps(), reverse=True), None]):
        try:
            return _restore_step(manager, step, state, data_iterator)
        except _DamagedError as error:
            if older is None:
                raise
            folder = Path(manager.directory / str(step))
            damaged = folder.with_name(f"damaged-{step}")
            print(f"warning: {error} It is renamed to {damaged}; resuming from step {older}", flush=True)
            parallel.first_process_first(functools.partial(_rename, folder, damaged))
            manager.reload()
    raise ValueError(f"{manager.directory} holds no checkpoint")


def _rename(folder, target):
    # Another process of this run may have renamed it.
    if folder.is_dir():
        folder.rename(target)


def _check_processes(folder):
    """Check that this run has as many processes as the saved one; each saved its position in its share of the data."""
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
    expected = across_processes(
        {"params": state.params, "optimizer": {"step": state.step, "opt_state": state.opt_state}}
    )
    with _explain_damage(folder):
        saved = manager.item_metadata(step)
        for item, tree in expected.items():
            if saved.get(item) is None:
                raise _damaged(folder, f"its {item} cannot be read")
            check_fits(shapes_by_path(saved[item].tree), shapes_by_path(tree), f"{folder} ({item})")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, expected)
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        restored = manager.restore(step, args=ocp.args.Composite(data=CheckpointRestore(data_iterator), **items))
    params, optimizer = within_process((restored["params"], restored["optimizer"]))
    return state._replace(params=params, step=optimizer["step"], opt_state=optimizer["opt_state"])


def save_best(manager: ocp.CheckpointManager, step: int, params: Any, config: ConfigDict, miss_rate: float) -> bool:
    """Save parameters if their miss rate is below the best so far, and return whether they were saved.

    If the best so far cannot be read, print a warning and replace it.
    """
    best = manager.latest_step()
    if best == step:
        return False  # a former start was killed between saving these parameters and recording their scores
    if best is not None:
        former = _best_miss_rate(manager, best)
        # NaN, the rate of a split without people, counts as the highest; if both are NaN, the later is saved.
        if miss_rate >= former or (math.isnan(miss_rate) and not math.isnan(former)):
            return False
    items = {
        "params": ocp.args.StandardSave(across_processes(params)),
        "config": ocp.args.JsonSave(config_to_json(config)),
        "scores": ocp.args.JsonSave({"miss_rate": miss_rate, "step": step}),
    }
    with _explain_failed_write(Path(manager.directory)):
        manager.save(step, args=ocp.args.Composite(**items), force=True)
    return True


def _best_miss_rate(manager, step):
    folder = Path(manager.directory / str(step))
    try:
        with _explain_damage(folder):
            scores = manager.restore(step, args=ocp.args.Composite(scores=ocp.args.JsonRestore()))["scores"]
            return float(scores["miss_rate"])
    except _DamagedError as error:
        print(f"warning: {error} The parameters of this step replace it", flush=True)
        return math.nan


def newest_step(folder: epath.PathLike) -> int | None:
    """Return the step of the newest complete checkpoint in a folder; None if there is none."""
    steps = [
        int(entry.name)
        for entry in epath.Path(folder).glob("*")
        if entry.name.isdigit() and (entry / "params").is_dir()
    ]
    return max(steps, default=None)


def _absolute(path: str | epath.PathLike) -> epath.Path:
    """Return a local path as an absolute one, as Orbax needs it, or the path of a bucket."""
    return epath.Path(path) if "://" in str(path) else epath.Path(path).absolute()


def _checkpoint_folder(path: str) -> tuple[epath.Path, int]:
    """Return the folder and the step of a checkpoint.

    The path is a workdir (its best, or else its newest), a folder of checkpoints (its newest) or one checkpoint.
    """
    folder = _absolute(path)
    if folder.name.isdigit() and (folder / "params").is_dir():
        return folder.parent, int(folder.name)
    for candidate in (folder / BEST_FOLDER, folder / RESUME_FOLDER, folder):
        step = newest_step(candidate)
        if step is not None:
            return candidate, step
    raise InputError(
        f"{folder} holds no checkpoint: expected a run's workdir, its {BEST_FOLDER}/ or {RESUME_FOLDER}/, or one "
        "numbered folder in them."
    )


def is_workdir(path: str) -> bool:
    """Return whether a path is the workdir of a run, rather than a folder of checkpoints."""
    return any((_absolute(path) / folder).is_dir() for folder in FOLDERS)


def restore_params(path: str) -> tuple[Any, ConfigDict, int]:
    """Restore parameters, whatever devices they were saved from.

    Args:
        path: a workdir, a folder of checkpoints or one checkpoint, local or in a bucket that Orbax can read
            (gs://BUCKET/RUN, s3://...); or a published model, ``hf://OWNER/NAME`` or its folder. A workdir gives the
            parameters that its run scores: the best, or the newest if the test split chose the best.

    Returns:
        The parameter tree on the first local device, the config it was trained with, and its step.

    Raises:
        InputError: there is no checkpoint at the path, or it cannot be read.
    """
    if published.is_published(path):
        params, values, step = published.read(path)
        return params, _config_of(values, path), step
    try:
        folder, step = _checkpoint_folder(path)
        config = _restore_config(folder / str(step))
        resume_folder = _absolute(path) / RESUME_FOLDER
        newest = newest_step(resume_folder)
        is_chosen_by_test = validation_is_test(config.data)
        # A split that chose parameters is no test of them.
        if folder == _absolute(path) / BEST_FOLDER and is_chosen_by_test and newest is not None:
            folder, step = resume_folder, newest
            config = _restore_config(folder / str(step))
        return _restore_params(folder / str(step)), config, step
    except ImportError as error:  # the package that reads this kind of bucket is missing
        raise InputError(f"{path}: {error}.") from error


def _restore_config(checkpoint: epath.Path) -> ConfigDict:
    with _explain_damage(checkpoint):
        values = published.read_config_file(checkpoint / "config" / "metadata")
    if not isinstance(values, dict):
        raise _damaged(checkpoint, f"its config is a {type(values).__name__}, not a JSON object")
    return _config_of(values, checkpoint)


def _config_of(values: dict, source: str | epath.Path) -> ConfigDict:
    try:
        return config_from_json(values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _restore_params(checkpoint: epath.Path) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _explain_damage(checkpoint), ocp.StandardCheckpointer() as reader:
        _check_names(checkpoint)
        # Ask the handler: the reader would warn that metadata is missing which only a checkpoint of one item has.
        saved = ocp.StandardCheckpointHandler().metadata(checkpoint / "params").tree
        _check_memory(saved, checkpoint)
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), saved)
        return reader.restore(checkpoint / "params", abstract)


def _check_names(checkpoint: epath.Path) -> None:
    """Check the names of a checkpoint's arrays: Orbax opens them as paths, of which an absolute one leads elsewhere."""
    values = published.read_config_file(checkpoint / "params" / "_METADATA")
    arrays = values.get("tree_metadata") if isinstance(values, dict) else None
    if not isinstance(arrays, dict) or len(arrays) > published.MAX_TENSORS:
        raise _damaged(checkpoint, "its _METADATA does not list the arrays of a network")
    for array in arrays.values():
        keys = [str(part["key"]) for part in array["key_metadata"]]
        if len(keys) > published.MAX_DEPTH or any("/" in key or key in ("", ".", "..") for key in keys):
            raise _damaged(checkpoint, f"{'/'.join(keys)[:80]!r} is no name of an array")


def _check_memory(saved: Any, checkpoint: epath.Path) -> None:
    """Check that arrays need about as much memory as their files take; anybody may have stated their shapes."""
    arrays = 0
    for path, leaf in leaves_by_path(saved).items():
        chunk = getattr(getattr(leaf, "storage", None), "chunk_shape", None)
        if chunk is None or leaf.dtype != np.float32:
            raise _damaged(checkpoint, f"{path} is no array of float32")
        arrays += 4 * max(math.prod(leaf.shape), math.prod(chunk))  # a chunk is read whole
    entries = [entry for pattern in ("*", "*/*", "*/*/*") for entry in (checkpoint / "params").glob(pattern)]
    files = sum(entry.stat().length for entry in entries if not entry.is_dir())
    if arrays > min(published.MAX_PARAMS_BYTES, _FREE_BYTES + _MAX_RATIO * files):
        raise _damaged(checkpoint, f"its files of {files:,} bytes state arrays of {arrays:,}")


class _DamagedError(InputError):
    """An unreadable checkpoint."""


def _damaged(folder, reason):
    # Storage libraries append pages of text to the reason.
    return _DamagedError(f"{folder} cannot be read as a checkpoint: {str(reason)[:200]}.")


@contextlib.contextmanager
def _explain_damage(folder):
    try:
        yield
    except InputError:
        raise
    except (AttributeError, LookupError, OSError, RecursionError, SystemError, TypeError, ValueError) as error:
        failure = None if isinstance(error, FileNotFoundError) else disk_failure(error)
        if failure is None:
            raise _damaged(folder, error) from error
        # Another error than damage: the checkpoint may be whole once the disk works.
        raise InputError(
            f"{folder} cannot be read: {failure.reason}; {failure.remedy}, then give the same command again."
        ) from error
