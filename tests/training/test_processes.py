"""Two processes train and score what one with as many devices does; a signal to one of them stops and resumes both."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from training_cases import newest_params

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40

SETTINGS = {
    "data.options.train": 24,
    "data.options.validation": 5,
    "data.options.test": 7,  # odd, so that one process has more to look at than the other
    "data.options.height_px": 32,
    "data.options.width_px": 48,
    "data.height_px": 32,
    "data.width_px": 48,
    "backbone.width": 1 / 32,
    "backbone.norm": "none",
    "segmentation.stages": (),
    "anchors.per_cell": 3,
    "rpn.sampled": 72,
    "rpn.max_positive": 8,
    "rpn.before_nms": 40,
    "rpn.kept_training": 40,
    "rpn.kept_testing": 10,
    "roi.size": 3,
    "roi.sampled": 24,
    "roi.max_positive": 6,
    "roi.hidden": 8,
    "eval.batch_size": 4,
    "eval.min_height_px": 8.0,
    "optimizer.warmup_steps": 2,
    "train.steps": STEPS,
    "train.log_every_steps": 2,
    "train.evaluate_every_epochs": STEPS / 2 / 3,
}


def start(workdir, data_dir, devices, *more):
    command = [sys.executable, "main.py", "--config=configs/baseline.py:synthetic", f"--workdir={workdir}", *more]
    command += [f"--config.{key}={value}" for key, value in (SETTINGS | {"data.data_dir": data_dir}).items()]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_both(workdir, data_dir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [start(workdir, data_dir, 1, f"--distributed={address},2,{index}") for index in (0, 1)]


def finish(process):
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def alone(folder):
    """The workdir of one process with two devices."""
    status, _, err = finish(start(folder / "alone", folder / "data", 2))
    assert status == 0, err
    return folder / "alone"


@pytest.fixture(scope="module")
def together(folder, alone):
    """The workdir of two processes with a device each; what they printed before one got a SIGTERM, and afterwards."""
    del alone  # prepares the data
    processes = start_both(folder / "together", folder / "data")
    lines = []
    for line in processes[0].stdout:
        lines.append(line)
        if line.startswith("step 2/"):
            processes[1].send_signal(signal.SIGTERM)
            break
    first = [finish(process) for process in processes]
    second = [finish(process) for process in start_both(folder / "together", folder / "data")]
    return folder / "together", first, second


def test_signal_to_one_process_stops_both_with_a_checkpoint_and_the_status_of_a_preemption(together):
    _, first, _ = together
    assert [status for status, _, _ in first] == [75, 75], first
    assert "the same command goes on from there" in first[0][1]


def test_both_go_on_from_there_and_end(together):
    _, _, second = together
    assert [status for status, _, _ in second] == [0, 0], second
    assert "resume: step " in second[0][1]


def test_first_process_alone_prints(together):
    _, first, second = together
    for _, out, err in (first[1], second[1]):
        # The network library greets by itself.
        assert [line for line in out.splitlines() if not line.startswith("[Gloo]")] == []
        assert "detecting" not in err
        assert "Traceback" not in err


def test_parameters_and_scores_are_those_of_one_process(alone, together):
    workdir, _, _ = together
    step, params = newest_params(workdir)
    expected_step, expected = newest_params(alone)
    assert step == expected_step == STEPS

    def check(one, other):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max() + 1e-6)

    jax.tree.map(check, params, expected)
    for name in ("validation.jsonl", "evaluation/images.txt"):
        assert (workdir / name).read_text() == (alone / name).read_text()


def test_every_image_is_scored_once_in_its_order(together):
    workdir, _, _ = together
    scores = json.loads((workdir / "evaluation" / "scores.json").read_text())
    assert scores["scores"]["reasonable-all"]["images"] == 7
    assert len((workdir / "evaluation" / "images.txt").read_text().split()) == 7
    found = [int(line.split(",")[0]) for line in (workdir / "evaluation" / "results.txt").read_text().splitlines()]
    assert found == sorted(found)
    assert set(found) == set(range(1, 8))


def test_each_start_is_on_record_once_with_the_number_of_processes(together):
    workdir, _, _ = together
    starts = [json.loads(line) for line in (workdir / "environment.jsonl").read_text().splitlines()]
    assert [one["processes"] for one in starts] == [2, 2]
    assert [one["accumulation_steps"] for one in starts] == [1, 1]
    assert starts[0]["step"] == 0 < starts[1]["step"] < STEPS


def test_one_process_cannot_go_on_with_the_run_of_two(folder, together):
    workdir, _, _ = together
    status, _, err = finish(start(workdir, folder / "data", 2))
    assert status == 1
    assert "was saved by 2 processes, and this run has 1." in err
    assert "Traceback" not in err


def test_address_of_the_first_process_without_its_port_is_refused_with_one_message(folder):
    status, _, err = finish(start(folder / "nobody", folder / "data", 1, "--distributed=nowhere,2,1"))
    assert status == 1
    assert err.startswith("error: --distributed=nowhere,2,1: the address lacks its port")
