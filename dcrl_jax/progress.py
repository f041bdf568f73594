"""Progress of long work: a live bar in a terminal, otherwise a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Outside a terminal, the time before the first line and between lines. Shorter work prints no line.
SECONDS_BETWEEN_LINES = 30.0


class _Lines(tqdm):
    """A bar that prints a line for each state instead of overwriting the previous one."""

    @staticmethod
    def status_printer(file: Any) -> Any:
        """Return the function that prints a state."""

        def print_state(text: str) -> None:
            if text.strip():
                file.write(f"{text.strip()}\n")
                file.flush()

        return print_state

    def close(self) -> None:
        """Print the last state if any state was printed; tqdm's own method adds an empty line."""
        if not self.disable:
            if self.last_print_t >= self.start_t + self.delay:
                self.display()
            self.disable = True
            self._decr_instances(self)  # pyright: ignore


def progress_bar(
    items: Iterable | None, title: str, total: int | None, unit: str, initial: int = 0, leave: bool = True
) -> tqdm:
    """Return a bar on standard error; iterate over it, or use it as a context and call its ``update``.

    Args:
        items: the items to iterate over; None if ``update`` is called instead.
        title: the text before the numbers.
        total: the number of items, which may be an estimate; None if it is unknown.
        unit: plural, e.g. 'images'.
        initial: the number of items already done.
        leave: whether a terminal keeps the finished bar.
    """
    common = {"desc": title, "total": total, "unit": f" {unit}", "initial": initial}
    if sys.stderr.isatty():
        return tqdm(items, mininterval=0.5, leave=leave, dynamic_ncols=True, **common)
    line = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left"
    wait = SECONDS_BETWEEN_LINES
    return _Lines(items, mininterval=wait, maxinterval=wait, delay=wait, bar_format=line, **common)
