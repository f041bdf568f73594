"""Training of a teacher, a student or a baseline, from the config to the scores."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import parallel, param_trees
from dcrl_jax.data import pipeline, sources
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.models.network import build_network, crop_config
from dcrl_jax.training import workdir as workdirs
from dcrl_jax.training.data import check_first_record, empty_batch, open_sources, sample_images
from dcrl_jax.training.fit import fit_training_step
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.run import Run, has_checkpoint
from dcrl_jax.training.score import parallel_network, score_checkpoint
from dcrl_jax.training.start import first_params, read_start
from dcrl_jax.training.step import FrozenTeacher, TrainState
from dcrl_jax.training.unlabelled import DETECTIONS_FILE, JoinedRecords, open_unlabelled, save_detections


def train_and_evaluate(
    config: ConfigDict, workdir: Path, teacher: FrozenTeacher | None = None
) -> evaluation.Evaluation:
    """Train a detector (see ``train``), score it (see ``score_checkpoint``) and return its evaluation."""
    detector = parallel_network(config)
    train(config, workdir, detector, teacher)
    return score_checkpoint(config, workdir, detector)


def train(
    config: ConfigDict,
    workdir: Path,
    detector: evaluation.ParallelNetwork,
    teacher: FrozenTeacher | None = None,
) -> None:
    """Train a detector, or resume from the workdir's newest checkpoint.

    Args:
        config: a recipe of configs/.
        workdir: the run's workdir, created if missing. It gets checkpoints/, best/, the logs and config.json.
        detector: the result of ``parallel_network(config)``, for the scores during training.
        teacher: the teacher of a student that distils.

    Raises:
        InputError: the config, the data or a checkpoint cannot be used, or a loss is not a finite number.
        KeyboardInterrupt, Preempted: a signal stopped the run; a checkpoint is saved.
    """
    network, mesh = detector.network, parallel.device_mesh()
    step_config = crop_config(config)
    step_network = network if step_config is config else build_network(step_config)
    parallel.check_batch(config.train.batch_size, jax.device_count(), config.train.accumulation_steps or 1)
    resumes = has_checkpoint(workdir)

    # Refuse what can be refused before preparing data or writing a file.
    start = {} if resumes else read_start(network, config)
    builder = sources.prepare(config.data)
    print(sources.describe(builder), flush=True)
    labelled, validation = open_sources(builder, config.data)
    check_first_record(labelled, config)
    pipeline.open_split(builder, config.data.test_split)
    bench = evaluation.open_bench(detector, builder, validation, config, mesh)
    workdirs.check_config_of(workdir, config)
    metadata = builder.info.metadata or {}
    if resumes:
        workdirs.check_data_of(workdir, metadata)
    fingerprint = param_trees.fingerprint(teacher.params) if teacher else None
    if resumes and teacher and fingerprint:
        workdirs.check_teacher_of(workdir, fingerprint, teacher.source)

    source, unlabelled = labelled, None
    if teacher and config.data.unlabelled:
        unlabelled = open_unlabelled(config, teacher, workdir / DETECTIONS_FILE if resumes else None)
        source = JoinedRecords(labelled, unlabelled)

    # VGG-16 may have to be downloaded, so wait until the data is known to be complete.
    params = (
        network.init_params(0)
        if resumes
        else first_params(network, config, start, lambda: sample_images(labelled, config))
    )
    schedule = build_schedule(config, len(source))
    optimizer = build_optimizer(config, schedule)
    with Run(workdir, config, source) as run:
        if unlabelled and not resumes and parallel.is_first_process():
            save_detections(unlabelled, workdir / DETECTIONS_FILE)
        state = TrainState(np.int32(0), params, jax.jit(optimizer.init)(params))
        # Copy the state: the step reuses its buffers, which no other array may share.
        state = parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), mesh)
        del params
        if resumes:
            state = run.restore(state)
        fit = None
        if int(jax.device_get(state.step)) < run.last_step:
            batch = jax.device_put(empty_batch(step_config, mesh.devices.size), parallel.batch_sharding(mesh))
            fit = fit_training_step(step_network, optimizer, step_config, state, batch, teacher)
        learning_rates = jax.device_get(jax.jit(jax.vmap(schedule))(np.arange(run.last_step)))
        run.begin(state, fit.parts if fit else None, fingerprint, learning_rates, metadata.get("source_checksum"))
        run_steps(run, fit.run if fit else None, state, bench)


def run_steps(run: Run, step: Callable | None, state: TrainState, bench: evaluation.Bench) -> TrainState:
    """Run the remaining steps, dispatching up to two ahead, and return the last state.

    Only metrics are copied to the host, when they are logged.

    Args:
        run: a run whose ``begin`` has been called.
        step: ``step(state, batch)``, which returns the new state and the metrics; None if no step is left.
        state: the state before the first of these steps, on the devices.
        bench: the validation split.

    Raises:
        InputError: a loss is not a finite number, or a checkpoint cannot be written.
        KeyboardInterrupt, Preempted: a signal stopped the run; a checkpoint is saved.
    """
    if run.lacks_scores():
        run.score(bench, state)
    while run.step < run.last_step and not run.should_stop():
        assert step is not None
        batch = next(run.batches)
        run.wait_for_devices()
        state, metrics = step(state, batch)
        run.record(metrics, batch.index)
        if run.is_evaluation_step():
            run.save(state)
            run.score(bench, state)
        elif run.is_checkpoint_time():
            run.save(state)
    if run.step < run.last_step:
        run.stop(state)
    return state
