"""What ``main.py`` calls to train and to score."""

import functools
import signal

import pytest

from dcrl_jax.errors import Preempted
from dcrl_jax.training import modes


@pytest.mark.parametrize(
    ("role", "module", "name"),
    [
        ("teacher", "loop", "train_and_evaluate"),
        ("student", "distill", "train_student"),
        (None, "scoring", "score_checkpoint"),
    ],
)
def test_sigterm_outside_of_the_steps_is_a_preemption_too(tiny_config, tmp_path, monkeypatch, role, module, name):
    def terminated(*_):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    monkeypatch.setattr(getattr(modes, module), name, terminated)
    monkeypatch.setattr(modes, "use_compilation_cache", lambda workdir: None)
    former = signal.getsignal(signal.SIGTERM)
    run = modes.train if role else functools.partial(modes.score, checkpoint=None)
    with pytest.raises(Preempted):
        run(tiny_config(role or "teacher"), str(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is former
