"""main.py, which kills itself at a given moment.

    python tests/training/killed_main.py KIND NUMBER --config=... --workdir=DIR

With NUMBER scores on record in the workdir, the process ends by SIGKILL before

    step        the result of a step is recorded
    checkpoint  the folder of a checkpoint to resume from, which is written, gets its final name
    best        the same, of the best parameters
    scores      the next scores are computed
    report      report.html, which follows other files of the report, gets its final name
"""

import os
import pathlib
import runpy
import signal
import sys

ROOT = pathlib.Path(__file__).parents[2]


def main():
    kind, number, *arguments = sys.argv[1:]
    (workdir,) = (pathlib.Path(a.partition("=")[2]) for a in arguments if a.startswith("--workdir="))
    sys.argv[1:] = arguments
    sys.path.insert(0, str(ROOT))

    from dcrl_jax.evaluation import evaluate
    from dcrl_jax.training import run

    def is_time():
        return sum(path.read_text().count("\n") for path in workdir.rglob("validation.jsonl")) == int(number)

    def killed(function, is_moment):
        def wrapper(*args, **kwargs):
            if is_moment(*args, **kwargs) and is_time():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    if kind == "step":
        run.Run.record = killed(run.Run.record, lambda *_: True)
    elif kind == "scores":
        # Those of a report are computed with a modality blanked.
        evaluate.evaluate = killed(evaluate.evaluate, lambda *_, blanked=False: not blanked)
    elif kind == "report":
        pathlib.Path.replace = killed(pathlib.Path.replace, lambda _, target: target.name == "report.html")
    else:
        folder = {"checkpoint": "checkpoints", "best": "best"}[kind]

        def is_finished(source, *_, **__):
            path = pathlib.Path(source)
            return path.parent.name == folder and path.suffix == ".orbax-checkpoint-tmp"

        os.rename = killed(os.rename, is_finished)
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")


if __name__ == "__main__":
    main()
