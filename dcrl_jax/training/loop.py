"""The training loop of teacher, student and baseline: wiring of data, step, logs, checkpoints and evaluation."""

import collections
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel
from dcrl_jax.data import pipeline, sources, transforms
from dcrl_jax.data.transforms import Augmentation, BoxFilter
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.evaluation.miss_rate import percent_or_none
from dcrl_jax.files import append_json_line, folder_lock, read_json_lines
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.structures import CHANNELS, MODALITIES, Batch
from dcrl_jax.training import scoring
from dcrl_jax.training import workdir as workdirs
from dcrl_jax.training.fit import fit_training_step
from dcrl_jax.training.logs import RunLog
from dcrl_jax.training.optimizer import build_optimizer, build_schedule, total_steps
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.signals import noted_signals
from dcrl_jax.training.start import first_params, read_start
from dcrl_jax.training.step import TrainState


class Guide(NamedTuple):
    """A trained teacher, frozen."""

    model: Teacher
    params: Any
    config: ConfigDict  # that it was trained with
    source: str  # where it came from, for messages


def box_filter_of(data: ConfigDict) -> BoxFilter:
    """Who trains as a pedestrian, and who is an ignore region, by the config's ``data`` keys."""
    return BoxFilter(
        labels=tuple(data.train_labels),
        ignore_labels=tuple(data.train_ignore_labels),
        min_height_px=data.train_min_height_px,
        max_occlusion=data.train_max_occlusion,
        border_px=tuple(data.train_border_px),
    )


def open_train_source(builder: tfds.core.DatasetBuilder, data: ConfigDict) -> Sequence[Any]:
    """The records that a config's ``data`` keys train on; raises InputError for a missing split or an empty one."""
    source = pipeline.open_split(builder, data.train_split)
    if not data.train_drop_empty:
        return source
    kept = pipeline.drop_empty(source, box_filter_of(data))
    print(f"training images with people: {len(kept):,} of {len(source):,}", flush=True)
    return kept


def train_data(
    source: Sequence[Any], config: ConfigDict, sharding: jax.sharding.Sharding | None, num_threads: int | None = None
) -> Any:
    """The endless iterator of augmented training batches that a config describes; this process's share of them.

    A student's batches have both modalities, for its teacher; where nothing is distilled nothing thermal is read.
    """
    data = config.data
    return pipeline.train_iterator(
        source,
        height=data.height_px,
        width=data.width_px,
        max_boxes=data.max_boxes,
        batch_size=config.train.batch_size // jax.process_count(),
        seed=config.seed,
        box_filter=box_filter_of(data),
        augmentation=Augmentation(data.flip_probability, data.brightness_jitter, data.blank_probability),
        modalities=MODALITIES if _needs_pairs(config) else MODALITIES[:1],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        sharding=sharding,
        num_threads=num_threads,
    )


def _needs_pairs(config: ConfigDict) -> bool:
    return config.role == "teacher" or training_rules(config).distillation.any


def _empty_batch(config: ConfigDict, devices: int) -> Batch:
    """Return zeros of the shapes and dtypes of ``train_data``'s batches on so many devices of this process."""
    leading = (devices, config.train.batch_size // jax.device_count())
    size, boxes = (config.data.height_px, config.data.width_px), (config.data.max_boxes,)
    return Batch(
        visible=np.zeros((*leading, *size, CHANNELS["visible"]), np.uint8),
        lwir=np.zeros((*leading, *size, CHANNELS["lwir"]), np.uint8) if _needs_pairs(config) else None,
        boxes=np.zeros((*leading, *boxes, 4), np.float32),
        is_person=np.zeros((*leading, *boxes), bool),
        is_ignore=np.zeros((*leading, *boxes), bool),
        is_night=np.zeros(leading, bool),
        index=np.zeros(leading, np.int32),
        valid=np.zeros(leading, bool),
    )


def train_and_evaluate(config: ConfigDict, workdir: Path, guide: Guide | None = None) -> evaluation.Evaluation:
    """Train as ``train`` does, then score as ``scoring.score_checkpoint`` does."""
    detector = scoring.compiled_detector(config)
    train(config, workdir, detector, guide)
    return scoring.score_checkpoint(config, workdir, detector)


def train(config: ConfigDict, workdir: Path, detector: evaluation.CompiledDetector, guide: Guide | None = None) -> None:
    """Train a detector, or go on where the workdir's newest checkpoint stands.

    Args:
        config: see configs/common.py.
        workdir: made if missing; holds checkpoints/, best/, the logs and config.json afterwards.
        detector: of ``scoring.compiled_detector``, for the scores during training.
        guide: the teacher of a student that distils anything.

    Raises:
        InputError: bad config, data or checkpoint, or a loss that is not a number.
    """
    model, anchors = build_model(config), build_anchors(config)
    mesh = parallel.device_mesh()
    parallel.check_batch(config.train.batch_size, jax.device_count(), config.train.accumulation_steps or 1)
    resumes = any(entry.name.isdigit() for entry in (workdir / checkpoints.RESUME_FOLDER).glob("*"))
    # A start that does not fit is found now, before data is prepared or anything is written.
    start = {} if resumes else read_start(model, config)
    builder = sources.prepare(config.data)
    print(sources.describe(builder), flush=True)
    train_source = open_train_source(builder, config.data)
    pipeline.open_split(builder, config.data.test_split)  # a split that is not there is found now, not in the end
    validation_bench = evaluation.open_bench(detector, builder, config.data.validation_split, config, mesh)

    workdirs.check_config_of(workdir, config)
    teacher = checkpoints.fingerprint(guide.params) if guide else None
    if resumes and guide:
        workdirs.check_teacher_of(workdir, teacher, guide.source)
    # Only now: VGG-16 may have to be downloaded, for nothing if the data is missing.
    params = init_params(model, config, 0) if resumes else first_params(model, config, start)
    schedule = build_schedule(config, len(train_source))
    optimizer = build_optimizer(config, schedule)
    last_step = total_steps(config, len(train_source))
    first = parallel.is_first_process()
    with contextlib.ExitStack() as stack:
        # Of two runs in one workdir each would clear away the checkpoints that the other one is writing.
        busy = f"another run is at work in {workdir}; wait for its end, or choose another --workdir."
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            parallel.first_process_first(lambda: stack.enter_context(folder_lock(workdir, busy)) if first else None)
        except OSError as error:
            raise InputError(f"{workdir} cannot be written: {error.strerror}. Choose another --workdir.") from error
        manager = stack.enter_context(checkpoints.open_manager(workdir / checkpoints.RESUME_FOLDER, keep=2))
        best_manager = stack.enter_context(checkpoints.open_manager(workdir / checkpoints.BEST_FOLDER))
        iterator = train_data(train_source, config, parallel.batch_sharding(mesh))
        try:
            state = TrainState(np.int32(0), params, jax.jit(optimizer.init)(params))
            # The copy keeps the donated state apart from buffers that somebody else may hold.
            state = parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), mesh)
            del params
            if resumes:
                state = checkpoints.restore_training(manager, state, iterator)
                print(f"resume: step {int(jax.device_get(state.step))} of {last_step}", flush=True)
            step = int(jax.device_get(state.step))
            fit = None
            if step < last_step:
                fit = fit_training_step(
                    model,
                    optimizer,
                    anchors,
                    config,
                    state,
                    jax.device_put(_empty_batch(config, mesh.devices.size), parallel.batch_sharding(mesh)),
                    *((guide.model, guide.params) if guide else ()),
                )
            if first:
                workdirs.record(workdir, config, step, teacher, fit and fit.parts)
            if first and step < last_step:
                # Of a run that goes on for longer: until it is finished again, nothing may look as if it were.
                (workdir / "evaluation" / "scores.json").unlink(missing_ok=True)
            log = stack.enter_context(RunLog(workdir if first else None, step, last_step))
            history = workdir / "validation.jsonl"

            def take_scores(state, step):
                taken = evaluation.evaluate(validation_bench, state.params)
                rates = {name: s.miss_rate for name, s in taken.scores.items()}
                log.write(step, {f"{config.data.validation_split}/{name}": rate for name, rate in rates.items()})
                log.show_validation(
                    step,
                    config.data.validation_split,
                    {s.subset.short_name: 100 * s.miss_rate for s in taken.scores.values()},
                )
                for warning in taken.warnings:
                    log.say(f"warning: {warning}")
                # The benchmark's own first: "reasonable", of all hours.
                checkpoints.save_best(best_manager, step, state.params, config, next(iter(rates.values())))
                # A step that stands here need not be scored again: what belongs to it has to be on the disk before.
                for one in (manager, best_manager):
                    checkpoints.wait_until_written(one)
                if first:
                    percent = {name: percent_or_none(rate) for name, rate in rates.items()}
                    append_json_line(history, {"step": step} | percent)

            run_steps(
                fit and fit.run,
                state,
                iterator,
                last_step=last_step,
                config=config,
                evaluate_every=max(
                    1, round(config.train.evaluate_every_epochs * len(train_source) / config.train.batch_size)
                ),
                learning_rates=jax.device_get(jax.jit(jax.vmap(schedule))(np.arange(last_step))),
                log=log,
                save=lambda state: checkpoints.save_training(manager, state, iterator, config),
                score=take_scores,
                is_scored=lambda step: any(line.get("step") == step for line in read_json_lines(history)),
                name_image=lambda index: transforms.text(train_source[index]["image_id"]),
            )
        finally:
            iterator.close()
            for one in (manager, best_manager):
                checkpoints.wait_until_written(one)


def run_steps(
    step_function: Callable | None,
    state: TrainState,
    iterator: Any,
    *,
    last_step: int,
    config: ConfigDict,
    evaluate_every: int,
    learning_rates: np.ndarray,
    log: RunLog,
    save: Callable,
    score: Callable,
    is_scored: Callable[[int], bool],
    name_image: Callable[[int], str],
) -> TrainState:
    """Run the remaining steps, dispatching up to two ahead. Only logged metrics are copied to the host.

    Ctrl-C (KeyboardInterrupt) and SIGTERM (Preempted) end the run after the steps under way, with a checkpoint; while
    scores are taken, of a state that is saved, and at a second one, they end it at once. Several processes agree on it,
    as on the time to save, when they next log. A loss or gradient that is not a number raises InputError; checkpoints
    are only written of states whose losses have been seen to be finite.

    Args:
        step_function: ``step(state, batch)``; None where no step is left.
        state: where the run stands; on the devices.
        iterator: gives the batches from there on.
        last_step: of the whole run.
        config: see configs/common.py.
        evaluate_every: steps from one score to the next; the last state is scored too.
        learning_rates: float [last_step], for the log.
        log: of the run.
        save: ``save(state)``.
        score: ``score(state, step)``.
        is_scored: whether a step's scores are on record; a run that was ended while they were taken takes them first.
        name_image: the id of a training image by its index.
    """
    step = int(jax.device_get(state.step))
    images = config.train.batch_size
    pending, started, logged_step, saved = [], time.monotonic(), step, time.monotonic()

    def write_log():
        nonlocal pending, started, logged_step
        if not pending:
            return
        rows = jax.device_get([metrics for metrics, _ in pending])
        for place, row in enumerate(rows):
            if not all(map(np.isfinite, row.values())):
                _fail(step - len(rows) + place + 1, row, map(name_image, jax.device_get(pending[place][1]).ravel()))
        pending = []
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        now = time.monotonic()
        rate = (step - logged_step) / (now - started)
        started, logged_step = now, step
        values = means | {"learning_rate": float(learning_rates[step - 1]), "images_per_second": rate * images}
        log.write(step, {f"train/{name}": value for name, value in values.items()})
        log.show_training(step, means["loss"], rate * images, (last_step - step) / rate)

    def is_due():
        return step > 0 and (step % evaluate_every == 0 or step == last_step)

    def agreed(flag):
        # Asked where the loop waits for the devices anyhow; in between it runs ahead of them.
        if jax.process_count() == 1:
            return flag
        return step % config.train.log_every_steps == 0 and parallel.any_process(flag)

    stopping = False
    with noted_signals() as noted:
        if is_due() and not is_scored(step):
            with noted.raised():
                score(state, step)
            started = time.monotonic()
        # Steps that the loop does not wait for: enough to keep the devices busy, and the end near when a signal comes.
        ahead = collections.deque(maxlen=2)
        while step < last_step and not (stopping := agreed(bool(noted.numbers))):
            batch = next(iterator)
            if len(ahead) == ahead.maxlen:
                jax.block_until_ready(ahead[0])
            state, metrics = step_function(state, batch)
            ahead.append(metrics)
            step += 1
            log.advance(step)
            pending.append((metrics, batch.index))
            if step % config.train.log_every_steps == 0:
                write_log()
            if is_due():
                write_log()
                save(state)
                with noted.raised():
                    score(state, step)
                started, logged_step, saved = time.monotonic(), step, time.monotonic()
            elif agreed(time.monotonic() - saved > 60 * config.train.checkpoint_every_minutes):
                write_log()
                save(state)
                saved = time.monotonic()
        if stopping:
            write_log()
            save(state)
            log.say(f"stopped at step {step}; the same command goes on from there")
            raise noted.error()
    return state


def _fail(step, row, image_ids):
    bad = sorted(name for name, value in row.items() if not np.isfinite(value))
    terms = ", ".join(f"{name} {value:g}" for name, value in row.items())
    raise InputError(
        f"step {step}: {', '.join(bad)} is not a finite number. All terms: {terms}. Images of the batch: "
        f"{', '.join(image_ids)}. The last checkpoint is from before this step. Look at these images, lower "
        "config.optimizer.learning_rate, or set config.optimizer.clip_norm."
    )
