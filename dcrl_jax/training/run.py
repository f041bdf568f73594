"""A training run and its workdir: lock, checkpoints, data, logs, recorded scores, stop signals."""

import collections
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel
from dcrl_jax.data.records import text
from dcrl_jax.disk_errors import not_written
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.evaluation.miss_rate import percent_or_none
from dcrl_jax.files import append_json_line, folder_lock, read_json_lines
from dcrl_jax.reports.losses import COCO
from dcrl_jax.signals import latch_signals
from dcrl_jax.training import workdir as workdirs
from dcrl_jax.training.data import train_batches, validation_name
from dcrl_jax.training.logs import RunLog
from dcrl_jax.training.optimizer import total_steps
from dcrl_jax.training.step import TrainState

HISTORY_FILE = "validation.jsonl"


def has_checkpoint(workdir: Path) -> bool:
    """Return whether a workdir holds a checkpoint to resume from."""
    return any(entry.name.isdigit() for entry in (workdir / checkpoints.RESUME_FOLDER).glob("*"))


class Run:
    """One start of a training run, as a context manager that holds the workdir's lock.

    Call ``restore`` and ``begin`` before the first step, then for each step ``wait_for_devices`` and ``record``.

    A first Ctrl-C or SIGTERM makes ``should_stop`` true, so that training ends with a checkpoint. A second signal ends
    the run at once, and so does any signal during ``score``, whose state is saved already. Several processes agree at
    log steps on whether to stop or to save.

    Attributes:
        batches: the iterator over the training batches.
        step: number of steps done.
        last_step: number of steps of the complete run.
    """

    def __init__(self, workdir: Path, config: ConfigDict, source: Sequence[Any]):
        """Describe a run.

        Args:
            workdir: the run's workdir; ``__enter__`` creates it.
            config: the run's config.
            source: the training records.
        """
        self.workdir, self.config, self.step = workdir, config, 0
        self.last_step = total_steps(config, len(source))
        epoch_steps = len(source) / config.train.batch_size
        self._evaluate_every = max(1, round(config.train.evaluate_every_epochs * epoch_steps))
        self._source = source

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as stack:
            self._lock(stack)
            folder = self.workdir / checkpoints.RESUME_FOLDER
            self._newest = stack.enter_context(checkpoints.open_manager(folder, keep=2))
            self._best = stack.enter_context(checkpoints.open_manager(self.workdir / checkpoints.BEST_FOLDER))
            self.batches = train_batches(self._source, self.config, parallel.batch_sharding(parallel.device_mesh()))
            stack.callback(self.batches.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def restore(self, state: TrainState) -> TrainState:
        """Return the state of the newest checkpoint, placed like ``state``; move ``batches`` to its position.

        Raises:
            InputError: ``checkpoints.restore_training`` refuses the checkpoint, or cannot read any.
        """
        state = checkpoints.restore_training(self._newest, state, self.batches)
        print(f"resume: step {int(jax.device_get(state.step))} of {self.last_step}", flush=True)
        return state

    def begin(
        self,
        state: TrainState,
        parts: int | None,
        teacher: str | None,
        learning_rates: np.ndarray,
        data: str | None = None,
    ) -> None:
        """Record this start in the workdir, and open the log.

        Args:
            state: the state before this start's first step.
            parts: number of parts in which a device works through its share of a batch; None if no step is left.
            teacher: the fingerprint of the teacher's parameters; None unless a student distils.
            learning_rates: the rate of every step, float [last_step], for the log.
            data: the checksum of the files that the data set was made from; None if it has none.
        """
        self.step = self._logged_step = int(jax.device_get(state.step))
        self._learning_rates = learning_rates
        if parallel.is_first_process():
            workdirs.record(self.workdir, self.config, self.step, teacher, parts, data)
            if self.step < self.last_step:
                # These are the scores of a shorter run. Until this run ends, the workdir must not look finished.
                (self.workdir / "evaluation" / "scores.json").unlink(missing_ok=True)
        log_folder = self.workdir if parallel.is_first_process() else None
        self._log = self._stack.enter_context(RunLog(log_folder, self.step, self.last_step))
        self._signals = self._stack.enter_context(latch_signals())
        self._pending, self._in_flight = [], collections.deque(maxlen=2)
        self._logged_at = self._saved_at = time.monotonic()

    def wait_for_devices(self) -> None:
        """Wait until at most one step is in flight, so that the run can stop soon after a signal."""
        if len(self._in_flight) == self._in_flight.maxlen:
            jax.block_until_ready(self._in_flight[0])

    def record(self, metrics: dict[str, jax.Array], index: jax.Array) -> None:
        """Count a step that was sent to the devices; log the mean metrics at every ``train.log_every_steps``.

        Args:
            metrics: the step's metrics, on the devices.
            index: the indices of its images in the training records, int32, on the devices.

        Raises:
            InputError: a metric is not a finite number.
        """
        self.step += 1
        self._log.advance(self.step)
        self._in_flight.append(metrics)
        self._pending.append((metrics, index))
        if self.step % self.config.train.log_every_steps == 0:
            self._write_log()

    def should_stop(self) -> bool:
        """Return whether a signal asks the run to stop."""
        return self._agreed(bool(self._signals.numbers))

    def is_evaluation_step(self) -> bool:
        """Return whether the state at this step is scored."""
        return self.step > 0 and (self.step % self._evaluate_every == 0 or self.step == self.last_step)

    def lacks_scores(self) -> bool:
        """Return whether the scores of this step are missing, because a former start ended while computing them."""
        return self.is_evaluation_step() and not any(
            line.get("step") == self.step for line in read_json_lines(self.workdir / HISTORY_FILE)
        )

    def is_checkpoint_time(self) -> bool:
        """Return whether the last checkpoint is older than ``train.checkpoint_every_minutes``."""
        return self._agreed(time.monotonic() - self._saved_at > 60 * self.config.train.checkpoint_every_minutes)

    def save(self, state: TrainState) -> None:
        """Check that all losses up to this step are finite, and start saving a checkpoint.

        Raises:
            InputError: a loss is not finite, or the checkpoint cannot be written.
        """
        self._write_log()
        checkpoints.save_training(self._newest, state, self.batches, self.config)
        self._saved_at = time.monotonic()

    def score(self, bench: evaluation.Bench, state: TrainState) -> None:
        """Score a saved state on the validation split, save it if it is the best so far, and record its scores."""
        with contextlib.nullcontext() if jax.process_count() > 1 else self._signals.immediate():
            self._score(bench, state)
        # Time spent on scoring is not training time.
        self._logged_at, self._logged_step, self._saved_at = time.monotonic(), self.step, time.monotonic()

    def stop(self, state: TrainState) -> None:
        """Save a checkpoint and end the run.

        Raises:
            KeyboardInterrupt, Preempted: always; the first signal decides which.
        """
        self.save(state)
        checkpoints.wait_until_written(self._newest)
        self._log.say(f"stopped at step {self.step}; the same command goes on from there")
        raise self._signals.error()

    def _lock(self, stack):
        # Two runs in one workdir would delete each other's unfinished checkpoints.
        busy = f"another run is at work in {self.workdir}; wait for its end, or choose another --workdir."

        def lock():
            if parallel.is_first_process():
                stack.enter_context(folder_lock(self.workdir, busy))

        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            parallel.first_process_first(lock)
            parallel.check_shared(self.workdir / ".processes")
        except OSError as error:
            raise InputError(not_written(self.workdir, error, "give another --workdir")) from error

    def _agreed(self, flag: bool) -> bool:
        # Processes ask each other only at log steps, where each waits for its devices anyway.
        if jax.process_count() == 1:
            return flag
        return self.step % self.config.train.log_every_steps == 0 and parallel.any_process(flag)

    def _write_log(self):
        if not self._pending:
            return
        rows = jax.device_get([metrics for metrics, _ in self._pending])
        first_step = self.step - len(rows) + 1
        for step, row, (_, index) in zip(range(first_step, self.step + 1), rows, self._pending, strict=True):
            if not all(map(np.isfinite, row.values())):
                image_ids = [text(self._source[i]["image_id"]) for i in jax.device_get(index).ravel()]
                raise _not_finite(step, row, image_ids)
        self._pending.clear()
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        now = time.monotonic()
        steps_per_second = (self.step - self._logged_step) / (now - self._logged_at)
        self._logged_at, self._logged_step = now, self.step
        images_per_second = steps_per_second * self.config.train.batch_size
        values = means | {
            "learning_rate": float(self._learning_rates[self.step - 1]),
            "images_per_second": images_per_second,
        }
        self._log.write(self.step, {f"train/{name}": value for name, value in values.items()})
        seconds_left = (self.last_step - self.step) / steps_per_second
        self._log.show_training(self.step, means["loss"], images_per_second, seconds_left)

    def _score(self, bench, state):
        result = evaluation.evaluate(bench, state.params)
        split = validation_name(self.config.data)
        miss_rates = {name: score.miss_rate for name, score in result.scores.items()}
        coco = result.coco["all"]
        values = miss_rates | {f"{COCO}ap": coco.ap, f"{COCO}ap50": coco.ap50}
        self._log.write(self.step, {f"{split}/{name}": value for name, value in values.items()})
        percentages = {score.subset.short_name: 100 * score.miss_rate for score in result.scores.values()}
        self._log.show_validation(self.step, split, percentages)
        for warning in result.warnings:
            self._log.say(f"warning: {warning}")
        # The first subset decides: "reasonable-all" of KAIST.
        checkpoints.save_best(self._best, self.step, state.params, self.config, next(iter(miss_rates.values())))
        # A recorded step is not scored again, so its checkpoints must be on the disk before.
        for manager in (self._newest, self._best):
            checkpoints.wait_until_written(manager)
        if parallel.is_first_process():
            percent = {name: percent_or_none(rate) for name, rate in miss_rates.items()}
            append_json_line(self.workdir / HISTORY_FILE, {"step": self.step} | percent)


def _not_finite(step: int, row: dict[str, float], image_ids: Sequence[str]) -> InputError:
    names = sorted(name for name, value in row.items() if not np.isfinite(value))
    terms = ", ".join(f"{name} {value:g}" for name, value in row.items())
    return InputError(
        f"step {step}: {', '.join(names)} is not a finite number. All terms: {terms}. Images of the batch: "
        f"{', '.join(image_ids)}. The last checkpoint is from before this step. Look at these images, lower "
        "config.optimizer.learning_rate, or set config.optimizer.clip_norm."
    )
