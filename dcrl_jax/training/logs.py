"""The log of a run: every number in its files, and the progress on the screen."""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from dcrl_jax.files import append_json_line

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "logs"
_EVENTS = "events.out.tfevents."


class RunLog:
    """The log of one start of a run: TensorBoard, metrics.jsonl, and a live bar in a terminal or lines elsewhere.

    ``write`` writes events itself, so that it raises an OSError on a full disk. TensorBoard's EventFileWriter writes
    from a thread, which dies on a full disk.
    """

    def __init__(self, workdir: Path | None, step: int, last_step: int):
        """Open the log.

        Args:
            workdir: the run's workdir; None in a process that writes and shows nothing.
            step: number of steps done.
            last_step: number of steps of the complete run.
        """
        self._workdir, self._last_step = workdir, last_step
        self._events, self._bar, self._validation = None, None, ""
        if workdir is None:
            return
        folder = workdir / TENSORBOARD_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the starts of a run in the order of their names; the clock may have jumped back between two.
        numbers = [int(path.suffix[1:]) for path in folder.glob(f"{_EVENTS}*") if path.suffix[1:].isdecimal()]
        number = max([time.time_ns(), *(former + 1 for former in numbers)])
        self._events = RecordWriter((folder / f"{_EVENTS}{number}").open("xb"))
        _write_event(self._events, Event(wall_time=time.time(), file_version="brain.Event:2"))
        # In a file, every update of a bar would be a line.
        if sys.stdout.isatty() and sys.stderr.isatty():
            layout = "step {n_fmt}/{total_fmt} |{bar:16}| {desc}"
            self._bar = tqdm(total=last_step, initial=step, bar_format=layout, dynamic_ncols=True, mininterval=0.5)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step, by name, to TensorBoard and to metrics.jsonl."""
        if self._workdir is None or self._events is None:
            return
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        _write_event(self._events, Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        # JSON has no NaN.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        append_json_line(self._workdir / METRICS_FILE, {"step": step} | finite)

    def advance(self, step: int) -> None:
        """Move the bar to a step."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def show_training(self, step: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Show the progress of training, in the bar or as a line."""
        text = f"loss {loss:.3f}, {images_per_second:.1f} images/s, {_duration(seconds_left)} left{self._validation}"
        if self._bar is not None:
            self._bar.set_description_str(text)
        elif self._workdir is not None:
            print(f"step {step}/{self._last_step}: {text}", flush=True)

    def show_validation(self, step: int, split: str, percentages: Mapping[str, float]) -> None:
        """Show miss rates in percent by subset, NaN for one without people; the bar goes on showing the first one."""
        texts = {name: f"{p:.2f} %" if math.isfinite(p) else "no people" for name, p in percentages.items()}
        self._validation = f", {split} {next(iter(texts.values()))}"
        shown = ", ".join(f"{name} {text}" for name, text in texts.items())
        self.say(f"step {step}: miss rate on {split} {shown}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            tqdm.write(text)
        elif self._workdir is not None:
            print(text, flush=True)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, error_type: type | None, *_) -> None:
        if self._bar is not None:
            self._bar.close()
        try:
            if self._events is not None:
                self._events.close()
        except OSError:
            # The error that ended the run says more than this one.
            if error_type is None:
                raise


def _write_event(events: RecordWriter, event: Event) -> None:
    events.write(event.SerializeToString())
    events.flush()


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{seconds:02d}s"
