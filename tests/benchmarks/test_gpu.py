"""The run on a GPU: its stages at toy size, shares of the time, traces and packing; as a slow test its rehearsal."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import torchvision_side
from benchmarks.gpu import equal, facts, frame, pack, step, tables, train
from benchmarks.gpu.__main__ import REHEARSAL_SHARES, SHARES, stage_seconds
from benchmarks.gpu.profile import operations_ms
from benchmarks.gpu.record import Record
from benchmarks.gpu.worker import STAGES
from dcrl_jax.errors import InputError
from dcrl_jax.inference import benchmark
from dcrl_jax.models.network import build_network
from dcrl_jax.training.unread_keys import check_unread_keys

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ["float32", "TF32", "bfloat16"]


@pytest.fixture
def run_stage(tmp_path, monkeypatch):
    """Runs a stage, or a part of one, at toy size; returns its results by their names."""
    monkeypatch.setattr(benchmark, "LARGEST_PRODUCT", 1024)

    def run(function, rehearse=True):
        function(Record("stage", tmp_path, seconds=3000, rehearse=rehearse))
        return by_name(json.loads((tmp_path / "stage.json").read_text()))

    return run


def by_name(content):
    results = {}
    for result in content["results"]:
        results.setdefault(result["name"], []).append(result)
    return results


def check_values(results):
    """The differences from torchvision's values are rounding."""
    for name in ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins"):
        assert [result["way"] for result in results[name]] == ["products", "gathered"]
        assert all(max(result["forward"], result["gradient"]) < 1e-5 for result in results[name])
    (nms,) = results["nms"]
    assert nms["cases"] > 20
    assert nms["differing"] == []
    (boxes,) = results["box coding"]
    assert max(boxes["encoded"], boxes["decoded"]) < 1e-5
    for vgg16 in results["vgg16"]:
        assert max(vgg16[f"conv{block}"] for block in range(1, 6)) < 1e-5


def check_frame(result):
    assert result["seconds"]["network"] > 0
    assert result["share_of_proposals_and_nms"] > 0
    assert result["tflop"] > 0


def check_step(result):
    assert result["images_per_second"] == pytest.approx(result["images"] / result["seconds"])
    assert result["share_of_peak"] > 0
    assert 0 < result["gib"]["predicted"] < 0.1
    assert 0 < result["gib"]["compiled"] < 0.1


def test_peaks_of_all_precisions_are_recorded(run_stage):
    results = run_stage(facts.run)
    assert results["machine"][0]["versions"]["jax"] == jax.__version__
    assert [peak["precision"] for peak in results["peak"]] == PRECISIONS
    assert all(peak["tflops_per_second"] > 0 for peak in results["peak"])


@pytest.mark.usefixtures("quick_compile")
def test_values_equal_torchvisions(run_stage):
    check_values(run_stage(equal.compare_values))


@pytest.mark.usefixtures("quick_compile", "shallow_backbone")
def test_frames_of_both_libraries_are_compared(run_stage, monkeypatch):
    seconds = {"network": 2.0, "frame": 3.0, "proposals and their NMS": 0.1, "final NMS": 0.3, "torchvision": 4.0}
    monkeypatch.setattr(
        frame, "median_seconds", lambda calls, repeats: {call: seconds.get(call, 1.0) for call in calls}
    )
    monkeypatch.setattr(frame, "proposal_and_nms_calls", lambda *_: dict.fromkeys(list(seconds)[2:4]))
    monkeypatch.setattr(torchvision_side, "import_problem", lambda: None)
    monkeypatch.setattr(frame, "_torchvision_call", lambda *_: ({"torchvision": None}, {"compiled": "why"}))
    monkeypatch.setattr(frame, "CASES_IN_REHEARSAL", [("student", "TF32")])
    results = run_stage(frame.run)
    result, _ = results["one image"]
    check_frame(result)
    assert result["share_of_proposals_and_nms"] == pytest.approx(0.2)
    assert (result["ratio"], result["failed"]) == ({"torchvision": 0.5}, {"compiled": "why"})
    assert [(batch["images"], batch["images_per_second"]) for batch in results["batch"]] == [(8, 8), (32, 32)]
    assert "| student, TF32 | " in tables.table_of("frame", [result])


@pytest.mark.usefixtures("quick_compile", "shallow_backbone")
def test_a_step_is_measured_beside_its_prediction(run_stage, monkeypatch):
    monkeypatch.setattr(torchvision_side, "import_problem", lambda: "not installed")
    monkeypatch.setattr(step, "CASES_IN_REHEARSAL", [step.Case("baseline", "bfloat16", True, 2)])
    (result,) = run_stage(step.run)["step"]
    check_step(result)
    assert result["ratio"] is None
    assert "| baseline, bfloat16, remat | " in tables.table_of("step", [result])


def test_a_step_without_memory_is_a_row(run_stage, monkeypatch):
    def fail(config):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")

    monkeypatch.setattr(step, "TrainingStep", fail)
    results = run_stage(step.run)["step"]
    assert len(results) == len(step.CASES_IN_REHEARSAL)
    rows = tables.table_of("step", results).splitlines()
    assert [cell.strip() for cell in rows[3].split("|")[1:4]] == ["teacher, TF32", "2", "out of memory"]


@pytest.mark.parametrize("role", ["teacher", "student", "baseline"])
def test_configs_of_a_training_on_real_pairs_are_valid(role, tmp_path):
    setting = train.real_setting(Path("vgg16.safetensors"), Path("pairs"))
    config = train.training_config(role, setting, 100, 8, tmp_path)
    check_unread_keys(config, setting.changes.keys() | (setting.teacher_changes.keys() if role == "teacher" else ()))
    shapes = build_network(config).param_shapes()
    assert role != "student" or 2 * sum(leaf.size for leaf in jax.tree.leaves(shapes)) < train.PARAMETERS_BYTES


def test_parameters_are_copied_in_pieces_of_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "PART_BYTES", 100)
    params = {"a": {"kernel": np.float32([1.0, -2.5] * 50)}, "b": np.float32([3.0])}
    names = train._copy_parameters(params, tmp_path, "student")
    assert names == [f"student.safetensors.{number}" for number in range(len(names))]
    (tmp_path / "whole").write_bytes(b"".join((tmp_path / name).read_bytes() for name in names))
    whole = load_file(tmp_path / "whole")
    assert sorted(whole) == ["a.kernel", "b"]
    np.testing.assert_array_equal(np.float32(whole["a.kernel"]), params["a"]["kernel"])
    monkeypatch.setattr(train, "PARAMETERS_BYTES", 100)
    assert train._copy_parameters(params, tmp_path, "student") == []


def test_nothing_is_trained_without_weights_and_pairs(run_stage):
    assert list(run_stage(lambda record: train.run(record, None, None), rehearse=False)) == ["nothing trained"]


def test_time_left_over_by_a_stage_goes_to_the_stages_after_it():
    for shares in (SHARES, REHEARSAL_SHARES):
        assert sum(shares.values()) == pytest.approx(1)
    assert stage_seconds("facts", STAGES, 900) == pytest.approx(900 * SHARES["facts"])
    assert stage_seconds("train", STAGES, 400) == pytest.approx(400)
    assert stage_seconds("step", ("step", "profile"), 340) == pytest.approx(340 * 0.25 / 0.37)
    # Every setting of a step is measured once.
    cases = step.cases()
    assert len(cases) == len(set(cases)) == 3 * 3 * 4 * 2
    assert cases[0] == step.Case("baseline", "bfloat16", False, 8)


def test_a_failure_of_torchvision_is_a_reason_and_no_error():
    def fails():
        raise RuntimeError("CUDA error: no kernel\nmore")

    assert torchvision_side.working_call(lambda: fails) == (None, "CUDA error: no kernel")
    assert torchvision_side.working_call(lambda: int) == (int, None)


def test_the_file_of_a_stage_is_complete_after_every_result(tmp_path):
    record, path = Record("facts", tmp_path, seconds=100, rehearse=False), tmp_path / "facts.json"
    assert json.loads(path.read_text())["results"] == []
    record.add("peak", tflops_per_second=1.5)
    content = json.loads(path.read_text())
    assert content["results"] == [{"name": "peak", "tflops_per_second": 1.5}]
    assert not content["finished"]
    assert 0 < record.seconds_left() < 100
    record.finish()
    assert json.loads(path.read_text())["finished"]


def test_an_empty_folder_has_no_tables(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tables.main([str(tmp_path)])
    assert "holds no file of a stage" in capsys.readouterr().err


def test_of_a_gpus_trace_the_kernels_of_its_streams_count(tmp_path):
    def name(kind, process, thread, value):
        return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": value}}

    def event(process, thread, operation, microseconds, **arguments):
        return {"ph": "X", "name": operation, "pid": process, "tid": thread, "dur": microseconds, "args": arguments}

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
    folder, rng = tmp_path / "pairs", np.random.default_rng(0)
    for split in ("train", "test"):
        for camera in ("vi", "ir"):
            (folder / split / camera).mkdir(parents=True)
            cv2.imwrite(str(folder / split / camera / "00001D.png"), rng.integers(0, 256, (48, 64, 3), np.uint8))
        (folder / "labels" / split).mkdir(parents=True)
        (folder / "labels" / split / "00001D.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    return folder


def test_pairs_are_packed_in_the_best_quality_within_the_limit(pairs, tmp_path):
    assert pack.shrink_pairs(pairs, tmp_path / "best") == 95
    names = {str(path.relative_to(tmp_path / "best")) for path in (tmp_path / "best").rglob("*.*")}
    images = {f"{split}/{camera}/00001D.jpg" for split in ("train", "test") for camera in ("vi", "ir")}
    assert names == images | {"labels/train/00001D.txt", "labels/test/00001D.txt"}
    assert pack.shrink_pairs(pairs, tmp_path / "smaller", pack.folder_bytes(tmp_path / "best") - 1) < 95
    with pytest.raises(InputError, match="take more than 100 bytes even at JPEG quality 60"):
        pack.shrink_pairs(pairs, tmp_path / "none", 100)
    (pairs / "train" / "vi" / "00002D.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"00002D.png is not a readable image"):
        pack.shrink_pairs(pairs, tmp_path / "none")


def test_the_packed_folder_is_written_completely_or_not_at_all(pairs, tmp_path, monkeypatch):
    vgg16, output = tmp_path / "vgg16.safetensors", tmp_path / "out"
    vgg16.write_bytes(bytes(1000))
    pack.pack(vgg16, pairs, output, packages=())
    assert {path.name for path in output.iterdir()} == {"wheels", "pairs", "vgg16.safetensors"}
    with pytest.raises(InputError, match="exists already"):
        pack.pack(vgg16, pairs, output, packages=())
    monkeypatch.setattr(pack, "LIMIT_BYTES", 500)
    with pytest.raises(InputError, match="the folder takes"):
        pack.pack(vgg16, pairs, tmp_path / "large", packages=())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pairs", "vgg16.safetensors"]


@pytest.mark.slow
def test_rehearsal_of_all_stages(tmp_path, capsys):
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--seconds=3000", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    contents = {stage: json.loads((tmp_path / f"{stage}.json").read_text()) for stage in STAGES}
    assert all(content["finished"] and content["rehearsal"] for content in contents.values())
    results = {stage: by_name(content) for stage, content in contents.items()}

    assert [peak["precision"] for peak in results["facts"]["peak"]] == PRECISIONS
    check_values(results["equal"])
    for name in ("step, small", "step, one image of full size"):
        (same,) = results["equal"][name]
        assert same["gradient"] == same["worst_tensor"] == same["losses"] == 0
        assert same["same_bits_twice"]
    for result in results["frame"]["one image"]:
        check_frame(result)
    assert [batch["images"] for batch in results["frame"]["batch"]] == [8, 32, 8, 32]
    for result in results["step"]["step"]:
        check_step(result)
    for result in results["profile"]["frame"] + results["profile"]["step"]:
        times = [operation["ms"] for operation in result["operations"]]
        assert len(times) == 10
        assert times == sorted(times, reverse=True)
    for role in ("teacher", "student", "baseline"):
        (training,) = results["train"][role]
        assert training["steps"] == train.STEPS_IN_REHEARSAL
        assert "reasonable-all" in training["scores"]
        assert set(training["blanked"]) == ({"visible", "lwir"} if role == "teacher" else set())
        assert training["parameter_files"] == (["student.safetensors.0"] if role == "student" else [])
        for name in (f"{role}-0/report.html", f"{role}-0/metrics.jsonl", *training["parameter_files"]):
            assert (tmp_path / name).is_file()

    tables.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"step: cpu, {contents['step']['date']}, jax {jax.__version__}, a rehearsal\n\n| step " in printed
    first_cells = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert {"TF32", "teacher, bfloat16", "student, TF32", "baseline, seed 0"} <= set(first_cells)
