"""Training on real pairs from ImageNet's weights: teacher, student and baseline, in as many seeds as the time allows.

All programs are compiled at the same time in one process, because compiling takes longer than a short training.
"""

import concurrent.futures
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorflow_datasets as tfds
from flax import traverse_util
from ml_collections import ConfigDict
from safetensors.numpy import save

from benchmarks.gpu.record import RECIPES, TINY, TINY_FUSION, Record
from dcrl_jax import parallel
from dcrl_jax.data import sources
from dcrl_jax.data.records import open_split
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.files import append_json_line
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.reports.report import write_report
from dcrl_jax.training.data import empty_batch, open_train_source, sample_images, train_batches
from dcrl_jax.training.logs import METRICS_FILE
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.start import first_params
from dcrl_jax.training.step import TrainState, make_step
from dcrl_jax.training.terms import training_rules

BATCH, BATCH_IN_REHEARSAL, STEPS_IN_REHEARSAL = 8, 4, 4
MAX_STEPS = 500  # 24 epochs of MSRS's pairs
START_SECONDS = 150.0  # for data and compilation
# Share of the time after the start that the first seed of all roles takes.
FIRST_SEED = 0.85
PARAMETERS_BYTES, PART_BYTES = 60_000_000, 15_000_000  # limits of the parameters that are copied, and of each file
# Images/s that are assumed for roles that the stage ``step`` has not measured.
IMAGES_PER_SECOND = {"teacher": 140.0, "student": 210.0, "baseline": 380.0}  # of an H100
# After the first seed of all roles, these runs follow while the time lasts: role, seed, changes.
FURTHER: list[tuple[str, int, dict[str, object]]] = [
    ("student", 1, {}),
    ("baseline", 1, {}),
    ("teacher", 0, {"cfl.init": "gaussian"}),
    ("student", 2, {}),
    ("baseline", 2, {}),
]

# Changes of ``:msrs``, whose crops are for CPUs.
WHOLE_PAIRS = {
    "backbone.dtype": "bfloat16",
    "data.crop": (),
    "roi.hidden": 448,  # so that the student's parameters can be copied back
    "train.log_every_steps": 10,
}
_SCENES: dict[str, object] = {
    **TINY,
    "data.max_boxes": 16,  # a rendered scene may have as many people
    "data.options.height_px": 48,
    "data.options.width_px": 64,
    "data.options.train": 16,
    "data.options.validation": 4,
    "data.options.test": 4,
    "eval.batch_size": 4,
    "train.log_every_steps": 1,
}


class Setting(NamedTuple):
    """What the trainings have in common."""

    data: str  # the recipes' argument
    changes: dict[str, object]
    teacher_changes: dict[str, object]


REHEARSAL = Setting("synthetic", _SCENES, TINY_FUSION)


def run(record: Record, vgg16: Path | None, pairs: Path | None) -> None:
    """Record each training with its scores; its report and results are written beside the JSON file.

    Args:
        record: of the stage.
        vgg16: ImageNet's weights; not needed in a rehearsal.
        pairs: a folder in MSRS's layout; not needed in a rehearsal.
    """
    if not record.rehearse and not (vgg16 and pairs):
        record.add("nothing trained", reason="--vgg16 and --pairs were not given")
        return
    setting = real_setting(vgg16, pairs) if vgg16 and pairs and not record.rehearse else REHEARSAL
    batch = BATCH_IN_REHEARSAL if record.rehearse else BATCH
    steps = STEPS_IN_REHEARSAL if record.rehearse else _steps(record, batch)
    configs = {role: training_config(role, setting, steps, batch, record.folder / "data") for role in RECIPES}
    builder = sources.prepare(configs["teacher"].data)
    teacher = build_network(configs["teacher"])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tasks = {
            role: pool.submit(Training, config, builder, teacher if role == "student" else None)
            for role, config in configs.items()
        }
        trainings = {role: task.result() for role, task in tasks.items()}
        record.add("compiled", seconds_left=record.seconds_left(), steps=steps, batch=batch)

        def train(role: str, seed: int = 0, changes: Mapping[str, object] | None = None, frozen: Any = None) -> Any:
            started = time.monotonic()
            params, metrics = trainings[role].run(record, seed, changes or {}, frozen)
            result = trainings[role].evaluate(params, is_first=seed == 0)
            seconds = time.monotonic() - started
            facts = {"seed": seed, "changes": dict(changes or {}), "seconds": seconds, **metrics}
            # The pictures of a report take a while; the device goes on.
            reports.append(pool.submit(_report, record, role, trainings[role], facts, result, params))
            return params, seconds

        reports: list[concurrent.futures.Future] = []
        frozen, _ = train("teacher")
        longest = max(train(role, frozen=frozen if role == "student" else None)[1] for role in ("student", "baseline"))
        for role, seed, changes in [] if record.rehearse else FURTHER:
            if record.seconds_left() > 1.5 * longest:
                train(role, seed, changes, frozen if role == "student" else None)
        for report in reports:
            report.result()


def real_setting(vgg16: Path, pairs: Path) -> Setting:
    """Return the setting of a training on real pairs."""
    return Setting("msrs", {**WHOLE_PAIRS, "init.vgg16": str(vgg16), "data.manual_dir": str(pairs)}, {})


def training_config(role: str, setting: Setting, steps: int, batch: int, data_dir: Path) -> ConfigDict:
    """Return the config of a role's training."""
    config = RECIPES[role].get_config(setting.data)
    config.update_from_flattened_dict(setting.changes)
    if role == "teacher":
        config.update_from_flattened_dict(setting.teacher_changes)
    config.train.steps, config.train.batch_size, config.data.data_dir = steps, batch, str(data_dir)
    return config


class Training:
    """The training of one role, compiled."""

    def __init__(self, config: ConfigDict, builder: tfds.core.DatasetBuilder, teacher: Network | None):
        """Compile the step and the detection.

        Args:
            config: the role's config.
            builder: the prepared data set.
            teacher: of a student.
        """
        self.config, self._mesh = config, parallel.device_mesh()
        self._source = open_train_source(builder, config.data)
        network = build_network(config)
        self._optimizer = build_optimizer(config, build_schedule(config, len(self._source)))
        step = make_step(network, self._optimizer, training_rules(config), config.seed, teacher)
        frozen = () if teacher is None else (parallel.replicate(teacher.init_params(1), self._mesh),)
        sharding = parallel.batch_sharding(self._mesh)
        batch = jax.device_put(empty_batch(config, self._mesh.devices.size), sharding)
        state = self._initial(config)
        pmapped = parallel.parallel_step(step, self._mesh, len(frozen))
        self._step: Callable = pmapped.lower(state, *frozen, batch).compile()
        detector = evaluation.parallelize(network, self._mesh)
        test = open_split(builder, config.data.test_split)
        self.bench = evaluation.open_bench(detector, builder, test, config, self._mesh)
        self.evaluate(state.params, is_first=False)

    def run(
        self, record: Record, seed: int, changes: Mapping[str, object], frozen: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Train from the seed's parameters, until the end or until the stage's time is over.

        Args:
            record: of the stage.
            seed: of parameters and order of the images.
            changes: config keys that change the parameters at the start.
            frozen: the parameters of a student's teacher, on the devices.

        Returns:
            The parameters on the devices, and the figures of the run with the mean metrics of every few steps.
        """
        config = self.config.copy_and_resolve_references()
        config.seed = seed
        config.update_from_flattened_dict(dict(changes))
        state, every = self._initial(config), config.train.log_every_steps
        batches = train_batches(self._source, config, parallel.batch_sharding(self._mesh))
        lines, pending, started, step = [], [], time.monotonic(), 0
        while step < config.train.steps and record.seconds_left() > 0:
            state, metrics = self._step(state, *([] if frozen is None else [frozen]), next(batches))
            pending.append(metrics)
            step += 1
            if step % every == 0 or step == config.train.steps or record.seconds_left() <= 0:
                rows = jax.device_get(pending)
                pending.clear()
                means = {f"train/{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}
                lines.append({"step": step, "seconds": time.monotonic() - started} | means)
                if step % (5 * every) == 0:
                    print(f"{config.role}, step {step}: {lines[-1]}", flush=True)
        batches.close()
        rate = None
        if len(lines) > 3:  # without the first steps, in which the input starts
            first, last = lines[2], lines[-1]
            rate = (last["step"] - first["step"]) * config.train.batch_size / (last["seconds"] - first["seconds"])
        return state.params, {"steps": step, "images_per_second": rate, "lines": lines}

    def evaluate(self, params: Any, is_first: bool) -> evaluation.Evaluation:
        """Score parameters on the test split; those of the first seed also with each modality blanked."""
        return evaluation.evaluate(self.bench, params, blanked=is_first)

    def _initial(self, config):
        params = first_params(build_network(config), config, {}, lambda: sample_images(self._source, config))
        state = TrainState(np.int32(0), params, jax.jit(self._optimizer.init)(params))
        # Copies, because the step reuses the buffers of its state.
        return parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), self._mesh)


def _steps(record: Record, batch: int) -> int:
    """Return the number of steps of every run, so that the first seed takes its share of the time."""
    rates = {role: _measured_rate(record.folder, role) or rate for role, rate in IMAGES_PER_SECOND.items()}
    seconds = FIRST_SEED * (record.seconds_left() - START_SECONDS)
    return min(MAX_STEPS, max(10, int(seconds / sum(batch / rate for rate in rates.values()))))


def _report(
    record: Record, role: str, training: Training, facts: dict[str, Any], result: evaluation.Evaluation, params: Any
) -> None:
    """Write the report and the results of a run, then its record."""
    name = "-".join([role, str(facts["seed"]), *map(str, facts["changes"].values())])
    folder = record.folder / name
    folder.mkdir()
    for line in facts.pop("lines"):
        append_json_line(folder / METRICS_FILE, line)
    write_report(result, training.bench, folder, f"{role}, step {facts['steps']}", metrics=folder / METRICS_FILE)
    is_copied = role == "student" and facts["seed"] == 0
    files = _copy_parameters(params, record.folder, role) if is_copied else []
    scores = json.loads((folder / "scores.json").read_text())
    kept = {key: scores[key] for key in ("scores", "blanked", "modality_weights")}
    record.add(role, folder=name, **facts, **kept, parameter_files=files)


def _measured_rate(folder: Path, role: str) -> float | None:
    """Return the least images/s of a role's bfloat16 step that the stage ``step`` measured, or None."""
    path = folder / "step.json"
    if not path.is_file():
        return None
    rates = [
        result["images_per_second"]
        for result in json.loads(path.read_text())["results"]
        if result.get("role") == role and result.get("precision") == "bfloat16" and "images_per_second" in result
    ]
    return min(rates, default=None)


def _copy_parameters(params: Any, folder: Path, role: str) -> list[str]:
    """Write the parameters as bfloat16, in pieces of one safetensors file, unless they exceed PARAMETERS_BYTES."""
    flat = traverse_util.flatten_dict(jax.device_get(params), sep=".")
    content = save({name: np.asarray(array).astype(jax.numpy.bfloat16) for name, array in flat.items()})
    if len(content) > PARAMETERS_BYTES:
        return []
    names = [f"{role}.safetensors.{number}" for number in range(-(-len(content) // PART_BYTES))]
    for number, name in enumerate(names):
        (folder / name).write_bytes(content[number * PART_BYTES : (number + 1) * PART_BYTES])
    return names
