"""Two processes that train together are killed, ten times one of them and ten times both.

What they come to equals, bit for bit, the end of two that nobody killed. See killed_main.py.
"""

import os
import random
import signal
import socket
import time

import pytest
from killed_main import Killed, training
from training_cases import differences, end_of_run

pytestmark = pytest.mark.slow

FLAGS = {
    **{"train.steps": 60, "train.batch_size": 4, "train.log_every_steps": 1},
    **{"train.evaluate_every_epochs": 20 * 4 / 24, "train.checkpoint_every_minutes": 0.02},
    **{"optimizer.learning_rate": 0.01, "optimizer.warmup_steps": 2},
}
LOST = (
    "error: process {} at 127.0.0.1 is gone: it has ended without a message (was it killed, or out of memory?). This "
    "process cannot go on without it. The same command on all machines resumes from the newest checkpoint.\n"
)


@pytest.fixture
def start_both(tmp_path):
    """Starts two processes of main.py that train in one workdir."""

    def start(workdir):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        arguments = training(workdir, "baseline", FLAGS)
        return [Killed([*arguments, f"--distributed={address},2,{i}"], tmp_path / f"log{i}") for i in (0, 1)]

    return start


def test_killed_processes_end_bit_for_bit_like_those_never_killed(tmp_path, start_both):
    workdir, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    ends = [process.finish() for process in start_both(undisturbed)]
    assert [status for status, _ in ends] == [0, 0], ends
    rng = random.Random(0)
    for victims in rng.sample([[0], [1], [0, 1], [0, 1]] * 5, 20):
        processes = start_both(workdir)
        # Before its first line, a process that is left would wait for one that has not come yet.
        processes[0].wait_for_lines(rng.randrange(2 - len(victims), 16))
        time.sleep(rng.uniform(0, 0.3))
        for index in victims:
            processes[index].kill_after(0)
        for index, process in enumerate(processes):
            status, out = process.finish()
            assert status == (-signal.SIGKILL if index in victims else os.EX_TEMPFAIL), out
            if index not in victims:
                assert out.endswith(LOST.format(*victims)), out
                assert out.count("error: ") == 1, out
    ends = [process.finish() for process in start_both(workdir)]
    assert [status for status, _ in ends] == [0, 0], ends
    assert not differences(end_of_run(workdir), end_of_run(undisturbed))
