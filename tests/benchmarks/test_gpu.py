"""The run on a GPU: its rehearsal on a CPU, how time is shared, what a trace says, and what is packed."""

import argparse
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from benchmarks.gpu import pack, tables, torchvision_side
from benchmarks.gpu.__main__ import SHARES, stage_seconds
from benchmarks.gpu.profile import operations_ms
from benchmarks.gpu.record import RECIPES, Record
from benchmarks.gpu.step import Case, cases
from benchmarks.gpu.train import PARAMETERS_BYTES, setting_of, training_keys
from benchmarks.gpu.worker import STAGES
from dcrl_jax.errors import InputError
from dcrl_jax.models.build import build_model, init_params
from dcrl_jax.training.given_keys import check_given_keys

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The JSON of every stage of a rehearsal."""
    folder = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--seconds=3000", f"--output={folder}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=3300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {stage: json.loads((folder / f"{stage}.json").read_text()) for stage in STAGES}, folder


def results(rehearsed, stage, name):
    return [result for result in rehearsed[0][stage]["results"] if result["name"] == name]


def test_every_stage_ends_and_says_that_it_was_a_rehearsal(rehearsed):
    for stage, content in rehearsed[0].items():
        assert content["stage"] == stage
        assert content["finished"]
        assert content["rehearsal"]
        assert content["platform"] == "cpu"


def test_peaks_of_all_precisions_are_the_yardstick(rehearsed):
    assert [peak["precision"] for peak in results(rehearsed, "facts", "peak")] == ["float32", "TF32", "bfloat16"]
    assert all(peak["tflops_per_second"] > 0 for peak in results(rehearsed, "facts", "peak"))


def test_values_are_torchvisions_and_a_step_is_the_cpus_to_the_bit(rehearsed):
    for name in ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins"):
        assert [result["way"] for result in results(rehearsed, "equal", name)] == ["products", "gathered"]
        assert all(max(r["forward"], r["gradient"]) < 1e-5 for r in results(rehearsed, "equal", name))
    (nms,) = results(rehearsed, "equal", "nms")
    assert nms["cases"] > 20
    assert nms["differing"] == []
    for vgg16 in results(rehearsed, "equal", "vgg16"):
        assert max(vgg16[f"conv{block}"] for block in range(1, 6)) < 1e-5
    for name in ("step, small", "step, one image of full size"):
        (step,) = results(rehearsed, "equal", name)
        assert step["gradient"] == step["worst_tensor"] == step["losses"] == 0
        assert step["same_bits_twice"]
        assert step["worst_tensor_name"].startswith("['")


def test_frames_steps_and_operations_are_measured(rehearsed):
    assert {result["role"] for result in results(rehearsed, "frame", "one image")} == {"student", "teacher"}
    for frame in results(rehearsed, "frame", "one image"):
        assert frame["seconds"]["network"] > 0
        assert frame["tflop"] > 0
    assert [batch["images"] for batch in results(rehearsed, "frame", "batch")] == [8, 32, 8, 32]
    for step in results(rehearsed, "step", "step"):
        assert step["images_per_second"] == pytest.approx(step["images"] / step["seconds"])
        assert 0 < step["share_of_peak"] < 1
        assert 0 < step["gib"]["predicted"] < 0.1
        assert 0 < step["gib"]["compiled"] < 0.1
    for stage in ("frame", "step"):
        for result in results(rehearsed, "profile", stage):
            operations = result["operations"]
            assert len(operations) == 10
            assert [one["ms"] for one in operations] == sorted((one["ms"] for one in operations), reverse=True)


def test_networks_are_trained_and_scored_and_their_reports_copied(rehearsed):
    folder = rehearsed[1]
    for role in ("teacher", "student", "baseline"):
        (training,) = results(rehearsed, "train", role)
        assert training["status"] == 0
        assert "reasonable-all" in training["scores"]
        assert (folder / f"{role}.html").is_file()
        assert (folder / f"{role}-metrics.jsonl").is_file()
        assert training["parameter_files"] == (["student-0.safetensors"] if role == "student" else [])
        assert all((folder / name).is_file() for name in training["parameter_files"])


def test_tables_for_readme_have_every_figure_with_device_and_date(rehearsed, capsys):
    tables.main([str(rehearsed[1])])
    printed = capsys.readouterr().out
    date = rehearsed[0]["step"]["date"]
    assert f"step: cpu, {date}, jax {jax.__version__}, a rehearsal\n\n| step | images |" in printed
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    for start in ("| TF32 |", "| teacher, bfloat16 |", "| student, TF32 | 2 |", "| teacher, TF32 | 2 |", "| teacher |"):
        assert sum(row.startswith(start) for row in rows) == 1, start


def test_step_without_memory_is_a_row_and_an_empty_folder_an_error(tmp_path, capsys):
    result = {"name": "step", "role": "teacher", "precision": "TF32", "remat": False, "images": 64}
    _, rows = tables.table_of("step", [result | {"out_of_memory": True}])
    assert rows[0][:3] == ["teacher, TF32", "64", "out of memory"]
    with pytest.raises(SystemExit):
        tables.main([str(tmp_path)])
    assert "holds no file of a stage" in capsys.readouterr().err


@pytest.mark.parametrize("role", ["teacher", "student", "baseline"])
def test_training_on_real_pairs_is_a_recipe_that_the_program_takes(role, tmp_path):
    options = argparse.Namespace(rehearse=False, vgg16="vgg16.safetensors", pairs="pairs")
    keys = training_keys(role, setting_of(options), 100, 8, tmp_path)
    config = RECIPES[role].get_config("msrs")
    config.update_from_flattened_dict(keys)
    check_given_keys(config, list(keys))
    model = build_model(config)
    sizes = [leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: init_params(model, config, 0)))]
    assert role != "student" or 2 * sum(sizes) < PARAMETERS_BYTES


def test_time_that_a_stage_leaves_over_is_there_for_those_after_it():
    assert sum(SHARES.values()) == pytest.approx(1)
    assert stage_seconds("facts", STAGES, 900) == pytest.approx(900 * SHARES["facts"])
    assert stage_seconds("train", STAGES, 400) == pytest.approx(400)
    assert stage_seconds("step", ("step", "profile"), 340) == pytest.approx(340 * 0.26 / 0.34)


def test_every_role_precision_batch_and_remat_is_measured_once():
    found = cases()
    assert len(found) == len(set(found)) == 3 * 3 * 4 * 2
    assert found[0] == Case("baseline", "TF32", False, 8)


def test_what_torchvision_cannot_do_is_told_and_no_error():
    def fails():
        raise RuntimeError("CUDA error: no kernel\nmore")

    call, reason = torchvision_side.working_call(lambda: fails)
    assert (call, reason) == (None, "CUDA error: no kernel")
    assert torchvision_side.working_call(lambda: int) == (int, None)


def test_file_of_a_stage_is_whole_after_every_result(tmp_path):
    options = argparse.Namespace(output=tmp_path, seconds=100.0, rehearse=False)
    record = Record("facts", options)
    path = tmp_path / "facts.json"
    assert json.loads(path.read_text())["results"] == []
    record.add("peak", tflops_per_second=1.5)
    assert json.loads(path.read_text())["results"] == [{"name": "peak", "tflops_per_second": 1.5}]
    assert not json.loads(path.read_text())["finished"]
    assert 0 < record.seconds_left() < 100
    record.finish()
    assert json.loads(path.read_text())["finished"]


def test_of_a_gpus_trace_the_kernels_of_its_streams_count(tmp_path):
    def name(kind, process, thread, value):
        return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": value}}

    def event(process, thread, what, microseconds, **arguments):
        return {"ph": "X", "name": what, "pid": process, "tid": thread, "dur": microseconds, "args": arguments}

    events = [
        name("process_name", 1, None, "/device:GPU:0"),
        name("process_name", 2, None, "/host:CPU"),
        name("thread_name", 1, 7, "Stream #13(Compute)"),
        name("thread_name", 1, 8, "XLA Ops"),
        event(1, 7, "sgemm", 1500, hlo_op="dot.1"),
        event(1, 7, "sgemm", 500, hlo_op="dot.1"),
        event(1, 7, "memcpy", 250),
        event(1, 8, "dot.1", 2000, hlo_op="dot.1"),
        event(2, 9, "python", 9000),
    ]
    folder = tmp_path / "plugins" / "profile"
    folder.mkdir(parents=True)
    (folder / "vm.trace.json.gz").write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    assert operations_ms(tmp_path) == {"dot.1: sgemm": 2.0, "memcpy": 0.25}


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for camera in ("vi", "ir"):
            (tmp_path / "pairs" / split / camera).mkdir(parents=True)
            image = rng.integers(0, 256, (48, 64, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "pairs" / split / camera / "00001D.png"), image)
        (tmp_path / "pairs" / "labels" / split).mkdir(parents=True)
        (tmp_path / "pairs" / "labels" / split / "00001D.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    return tmp_path / "pairs"


def test_pairs_are_packed_as_good_as_their_limit_allows(pairs, tmp_path):
    assert pack.shrink_pairs(pairs, tmp_path / "good") == 95
    size = pack.folder_bytes(tmp_path / "good")
    quality = pack.shrink_pairs(pairs, tmp_path / "smaller", size - 1)
    assert quality < 95
    names = sorted(str(path.relative_to(tmp_path / "smaller")) for path in (tmp_path / "smaller").rglob("*.*"))
    assert names == [
        "labels/test/00001D.txt",
        "labels/train/00001D.txt",
        "test/ir/00001D.jpg",
        "test/vi/00001D.jpg",
        "train/ir/00001D.jpg",
        "train/vi/00001D.jpg",
    ]
    with pytest.raises(InputError, match="take more than 100 bytes even at JPEG quality 60"):
        pack.shrink_pairs(pairs, tmp_path / "none", 100)
    (pairs / "train" / "vi" / "00002D.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"00002D.png is no image"):
        pack.shrink_pairs(pairs, tmp_path / "none")


def test_packed_folder_is_there_whole_or_not_at_all(pairs, tmp_path, monkeypatch):
    (tmp_path / "vgg16.safetensors").write_bytes(bytes(1000))
    arguments = [f"--vgg16={tmp_path / 'vgg16.safetensors'}", f"--pairs={pairs}", f"--output={tmp_path / 'out'}"]
    arguments += ["--packages"]
    with monkeypatch.context() as patch:
        patch.setattr(pack, "LIMIT_BYTES", 500)
        with pytest.raises(InputError, match="all of it takes"):
            pack.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "vgg16.safetensors"]
    pack.main(arguments)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"wheels", "pairs", "vgg16.safetensors"}
    with pytest.raises(InputError, match="is there already"):
        pack.main(arguments)
