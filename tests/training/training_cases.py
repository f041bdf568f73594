"""What the tests of training share: a batch, small runs, and runs compared bit by bit."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import jax
import numpy as np
import orbax.checkpoint as ocp

from dcrl_jax import checkpoints
from dcrl_jax.structures import Batch

ROOT = pathlib.Path(__file__).parents[2]


def make_batch():
    """Four pairs: two people and padding, a person and an ignore region, nobody, an ignore region."""
    rng = np.random.default_rng(11)
    first, second, region = [4, 4, 12, 24], [30, 6, 40, 30], [24, 0, 44, 32]
    boxes = np.zeros((4, 3, 4), np.float32)
    boxes[0, :2], boxes[1, :2], boxes[3, 1] = (first, second), (second, [0, 0, 20, 20]), region
    return Batch(
        visible=rng.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8),
        lwir=rng.integers(0, 256, (4, 32, 48, 1), dtype=np.uint8),
        boxes=boxes,
        is_person=np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], bool),
        is_ignore=np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0]], bool),
        is_night=np.zeros(4, bool),
        index=np.arange(4, dtype=np.int32),
        valid=np.ones(4, bool),
    )


def write_pairs(folder, count=2):
    """Write pairs of noise of 40x32 pixels without any label; return their folder."""
    rng = np.random.default_rng(count)
    for name, channels in (("rgb", 3), ("thermal", 1)):
        (folder / name / "street").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            cv2.imwrite(str(folder / name / "street" / f"{index}.png"), rng.integers(0, 256, (32, 40, channels)))
    return folder


def assert_learns(gradient):
    """Assert that the gradient of every layer is finite and not zero."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert 0 < np.abs(leaf).max() < np.inf, jax.tree_util.keystr(path)


def on_tiny_scenes(config, folder, steps, evaluate_every):
    """Change a config to a short run on ten scenes of 40x32 pixels."""
    config.data.options = {"height_px": 32, "width_px": 40, "train": 10, "validation": 4, "test": 5, "seed": 0}
    config.data.update(data_dir=str(folder), height_px=32, width_px=40, max_boxes=16)
    config.eval.update(batch_size=4, min_height_px=8.0)  # somebody of every split is that tall
    for own, own_steps in ((config, steps), (config.get("teacher"), steps - 1)):
        if own is not None:
            own.optimizer.warmup_steps = 1
            own.train.update(batch_size=4, steps=own_steps, log_every_steps=1)
            own.train.evaluate_every_epochs = evaluate_every * 4 / 10
    return config


def changed(config, changes):
    """Return a copy of a config with other values."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    return config


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def newest_params(workdir):
    """Return step and parameters of a workdir's newest checkpoint."""
    params, _, step = checkpoints.restore_params(str(workdir / checkpoints.RESUME_FOLDER))
    return step, jax.device_get(params)


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def checkpoint_content(folder):
    """Return every array of a checkpoint with its type, and the files of the data iterator's state, by name."""
    content = {f"data/{path.name}": path.read_bytes() for path in folder.glob("data/*.json")}
    for item in ("params", "optimizer"):
        if (folder / item).is_dir():
            # As NumPy arrays, whichever processes saved them on whichever devices.
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                tree = reader.metadata(folder / item).item_metadata.tree
                as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
                restored = reader.restore(folder / item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
            for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
                array = np.asarray(leaf)
                content[f"{item}{jax.tree_util.keystr(path)}"] = (array.dtype, array.shape, array.tobytes())
    return content


def end_of_run(workdir):
    """Return what a run leaves, by name: the newest checkpoint, the best parameters, the records and the report."""
    end = {}
    for name in checkpoints.FOLDERS:
        step = checkpoints.newest_step(workdir / name)
        content = checkpoint_content(workdir / name / str(step))
        end |= {f"{name}/{step}/{key}": value for key, value in content.items()}
    files = [workdir / "validation.jsonl", *(workdir / "evaluation").iterdir()]
    return end | {str(path.relative_to(workdir)): path.read_bytes() for path in files}


def differences(first, second):
    return sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))


# A network and scenes so small that a start of main.py takes little more than its imports.
TINY_FLAGS = {
    **{"data.options.height_px": 32, "data.options.width_px": 48, "data.height_px": 32, "data.width_px": 48},
    **{"data.options.train": 24, "data.options.validation": 5, "data.options.test": 7},
    **{"backbone.width": 1 / 32, "backbone.norm": "none", "segmentation.stages": (), "anchors.per_cell": 3},
    **{"rpn.sampled": 72, "rpn.max_positive": 8},
    **{"rpn.before_nms": 40, "rpn.kept_training": 40, "rpn.kept_testing": 10},
    **{"roi.size": 3, "roi.sampled": 24, "roi.max_positive": 6, "roi.hidden": 8},
    **{"eval.batch_size": 4, "eval.min_height_px": 8.0},
}


def start_main(recipe, workdir, flags, *arguments, script="main.py", devices=2, variables=None, within=()):
    """Start a script that takes main.py's flags, in a process of its own with more environment variables.

    ``within`` is a command that executes the one that follows it.
    """
    command = [*within, sys.executable, *script.split(), f"--config=configs/{recipe}.py:synthetic"]
    command += [f"--workdir={workdir}"]
    command += [f"--config.{key}={value}" for key, value in (TINY_FLAGS | flags).items()]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    # The cache is that of the tests, see conftest.py; here it keeps small programs too, which every start needs.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment | (variables or {}), **pipes)


def finish(process):
    """Return the exit code, standard output and standard error of a process once it has ended."""
    try:
        out, err = process.communicate(timeout=900)
    finally:
        process.kill()
    return process.returncode, out, err
