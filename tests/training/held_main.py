"""main.py, one thread of which waits at a given moment until the process is killed: what is over in moments is missed.

    python tests/training/held_main.py KIND NUMBER --config=... --workdir=DIR

With NUMBER scores on record in the workdir, KIND "scores" waits where the next are taken, and "checkpoint" where all of
the next one to resume from is written but its folder has no final name yet.
"""

import os
import pathlib
import runpy
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]


def waits(function, is_moment):
    """The function, which waits for good before it does anything at the moment in question."""

    def waiting(*args, **kwargs):
        while is_moment(*args, **kwargs):
            time.sleep(1)
        return function(*args, **kwargs)

    return waiting


def main():
    kind, number, *arguments = sys.argv[1:]
    (workdir,) = (pathlib.Path(a.partition("=")[2]) for a in arguments if a.startswith("--workdir="))
    sys.argv[1:] = arguments
    sys.path.insert(0, str(ROOT))

    def is_time():
        return sum(path.read_text().count("\n") for path in workdir.rglob("validation.jsonl")) == int(number)

    if kind == "scores":
        from dcrl_jax.evaluation import evaluate

        # Those of a report, which are taken in the end, are asked for with a modality blanked.
        evaluate.evaluate = waits(evaluate.evaluate, lambda *_, blanked=False: not blanked and is_time())
    else:

        def is_written(source, *_, **__):
            path = pathlib.Path(source)
            return path.parent.name == "checkpoints" and path.suffix == ".orbax-checkpoint-tmp" and is_time()

        os.rename = waits(os.rename, is_written)
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")


if __name__ == "__main__":
    main()
