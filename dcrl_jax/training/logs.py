"""Scalars for TensorBoard."""

import time
from pathlib import Path

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event


class ScalarLog:
    """A file of events, written where it is called.

    tensorboardX's own SummaryWriter writes from a thread; where the disk is full that thread dies, and the run waits
    for it for ever. Here it is an OSError.
    """

    def __init__(self, folder: Path | None):
        """Open a new file in a folder, made if missing; without one everything is thrown away."""
        self._events = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add one value of a curve; ``flush`` puts it on the disk."""
        if self._events is not None:
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary.scalar(name, value)))

    def flush(self) -> None:
        """Put everything on the disk."""
        if self._events is not None:
            self._events.flush()

    def __enter__(self) -> "ScalarLog":
        return self

    def __exit__(self, error_type: type | None, *_) -> None:
        try:
            if self._events is not None:
                self._events.close()
        except OSError:
            # What ended the run says more than that its log cannot be closed either.
            if error_type is None:
                raise
