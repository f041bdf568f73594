"""Progress of whatever takes longer than a few seconds: a live bar in a terminal, elsewhere a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Outside a terminal: the first line after so many seconds, and the time between lines. Shorter work leaves no line.
SECONDS_BETWEEN_LINES = 30.0


class _Lines(tqdm):
    """Print a line for each state of the bar, instead of drawing over the former one."""

    @staticmethod
    def status_printer(file: Any) -> Any:
        def print_state(text: str) -> None:
            if text.strip():
                file.write(f"{text.strip()}\n")
                file.flush()

        return print_state

    def close(self) -> None:
        """Print the last state if any was printed; tqdm's own adds an empty line."""
        if not self.disable:
            if self.last_print_t >= self.start_t + self.delay:
                self.display()
            self.disable = True
            self._decr_instances(self)


def progress_bar(
    items: Iterable | None, what: str, total: int, unit: str, initial: int = 0, leave: bool = True
) -> tqdm:
    """Return a bar on standard error; iterate over it, or use it as a context and call its ``update``.

    Args:
        items: what is iterated over; None where ``update`` is called.
        what: stands before the numbers.
        total: number of items.
        unit: plural, e.g. 'images'.
        initial: items that are done already.
        leave: whether a terminal keeps the full bar.
    """
    common = {"desc": what, "total": total, "unit": f" {unit}", "initial": initial}
    if sys.stderr.isatty():
        return tqdm(items, mininterval=0.5, leave=leave, dynamic_ncols=True, **common)
    line = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left"
    wait = SECONDS_BETWEEN_LINES
    return _Lines(items, mininterval=wait, maxinterval=wait, delay=wait, bar_format=line, **common)
