"""Two processes train and score like one with as many devices; a signal to one of them stops and resumes both."""

import signal
import socket

import jax
import numpy as np
import pytest
from training_cases import finish, json_lines, newest_params, start_main

pytestmark = pytest.mark.slow

STEPS = 40


def start(folder, name, devices, *arguments):
    flags = {"data.data_dir": folder / "data", "optimizer.warmup_steps": 2, "train.steps": STEPS}
    flags |= {"train.log_every_steps": 2, "train.evaluate_every_epochs": STEPS / 2 / 3}
    return start_main("baseline", folder / name, flags, *arguments, devices=devices)


def start_both(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [start(folder, "together", 1, f"--distributed={address},2,{index}") for index in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data, and the workdir of one process with two devices."""
    folder = tmp_path_factory.mktemp("processes")
    status, _, err = finish(start(folder, "alone", 2))
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def ends(folder):
    """How two processes with a device each ended: after one got a SIGTERM, and after the same command again."""
    processes = start_both(folder)
    for line in processes[0].stdout:
        if line.startswith("step 2/"):
            processes[1].send_signal(signal.SIGTERM)
            break
    first = [finish(process) for process in processes]
    return first, [finish(process) for process in start_both(folder)]


def test_signal_to_one_process_stops_both_and_both_resume(ends):
    first, second = ends
    assert [status for status, _, _ in first] == [75, 75], first
    assert [status for status, _, _ in second] == [0, 0], second
    assert "the same command goes on from there" in first[0][1]
    assert "resume: step " in second[0][1]
    for _, out, err in (first[1], second[1]):
        # Only the first process prints; the network library greets by itself.
        assert [line for line in out.splitlines() if not line.startswith("[Gloo]")] == []
        assert "detecting" not in err
        assert "Traceback" not in err


@pytest.mark.usefixtures("ends")
def test_parameters_scores_and_records_are_those_of_one_process(folder):
    alone, together = folder / "alone", folder / "together"
    (step, params), (expected_step, expected) = newest_params(together), newest_params(alone)
    assert step == expected_step == STEPS

    def check(one, other):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max() + 1e-6)

    jax.tree.map(check, params, expected)
    for name in ("validation.jsonl", "evaluation/images.txt"):
        assert (together / name).read_text() == (alone / name).read_text()
    # Seven images, so that one process has more of them than the other; each is scored once, in order.
    assert len((together / "evaluation" / "images.txt").read_text().split()) == 7
    results = (together / "evaluation" / "results.txt").read_text().splitlines()
    numbers = [int(line.split(",")[0]) for line in results]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 8))
    starts = json_lines(together / "environment.jsonl")
    assert [(each["processes"], each["accumulation_steps"]) for each in starts] == [(2, 1)] * 2
    assert starts[0]["step"] == 0 < starts[1]["step"] < STEPS


@pytest.mark.usefixtures("ends")
def test_one_process_cannot_resume_the_run_of_two(folder):
    status, _, err = finish(start(folder, "together", 2))
    assert status == 1
    assert "was saved by 2 processes, and this run has 1." in err
    assert "Traceback" not in err
