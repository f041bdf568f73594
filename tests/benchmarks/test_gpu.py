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

from benchmarks import torchvision_side
from benchmarks.gpu import equal, facts, frame, pack, step, tables, train
from benchmarks.gpu.__main__ import REHEARSAL_SHARES, SHARES, stage_seconds
from benchmarks.gpu.profile import operations_ms
from benchmarks.gpu.record import Record
from benchmarks.gpu.worker import STAGES
from dcrl_jax.command_line import parse_recipe
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


REAL = {**train.WHOLE_PAIRS, "init.vgg16": "vgg16.safetensors", "data.manual_dir": "pairs"}


@pytest.mark.parametrize("run", train.trainings(Path("unlabelled"), rehearse=False), ids=lambda run: run.name)
def test_commands_of_trainings_on_real_pairs_are_valid(run, tmp_path):
    command = train.main_command(run, "msrs", REAL, tmp_path)
    assert command[:2] == [sys.executable, str(ROOT / "main.py")]
    recipe = parse_recipe([argument for argument in command[2:] if argument.startswith("--config")])
    config = recipe.config
    check_unread_keys(config, recipe.overrides.keys())
    shapes = build_network(config).param_shapes()
    assert (config.train.steps, config.data.crop) == (500, ())
    if run.name.startswith("half-student"):  # so small that it can be kept beside the code
        assert 2 * sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 16e6


def test_students_wait_for_their_teacher_and_go_without_a_failed_one(tmp_path, monkeypatch):
    program = (
        "import json, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "if folder.name == 'teacher' and 'fails' in str(folder): sys.exit('no memory')\n"
        "assert 'student' not in folder.name or (folder.parent / 'teacher' / 'evaluation' / 'scores.json').is_file()\n"
        "(folder / 'evaluation').mkdir(parents=True)\n"
        "(folder / 'metrics.jsonl').write_text(json.dumps({'step': 3, 'train/loss': 1.0}) + chr(10))\n"
        "scores = {'scores': {}, 'blanked': {}, 'modality_weights': {}}\n"
        "(folder / 'evaluation' / 'scores.json').write_text(json.dumps(scores))\n"
    )
    monkeypatch.setattr(train, "PROCESSES", 2)
    for name in ("works", "fails"):
        folder = tmp_path / name
        record = Record("train", folder, seconds=1000, rehearse=True)
        runs = [
            (run, [sys.executable, "-c", program, str(folder / run.name)])
            for run in train.trainings(None, rehearse=True)
        ]
        train._train(record, runs)
        results = json.loads((folder / "train.json").read_text())["results"]
        ended = {result["run"]: result for result in results}
        if name == "works":
            assert {run: result["name"] for run, result in ended.items()} == {
                "teacher": "teacher",
                "baseline-0": "baseline",
                "student-0": "student",
            }
            assert ended["student-0"]["last"]["step"] == 3
        else:
            assert {run: result["name"] for run, result in ended.items()} == {
                "teacher": "failed",
                "baseline-0": "baseline",
            }
            assert ended["teacher"]["output"] == "no memory\n"


def test_comparisons_are_between_finished_runs_of_the_same_seeds(tmp_path):
    runs = train.trainings(Path("unlabelled"), rehearse=False)
    for name in ("baseline-0", "baseline-1", "student-0", "student-1", "student-2", "unlabelled-1", "half-student-0"):
        (tmp_path / name / "evaluation").mkdir(parents=True)
        (tmp_path / name / "evaluation" / "scores.json").write_text("{}")
    assert [tuple(each) for each in train.comparisons(tmp_path, runs)] == [
        ("student", "baseline", [0, 1]),
        ("unlabelled", "student", [1]),
        ("unlabelled", "baseline", [1]),
    ]
    (tmp_path / "half-baseline-0" / "evaluation").mkdir(parents=True)
    (tmp_path / "half-baseline-0" / "evaluation" / "scores.json").write_text("{}")
    assert train.comparisons(tmp_path, runs)[-1] == train.Comparison("half-student", "half-baseline", [0])


def test_nothing_is_trained_without_weights_and_pairs(run_stage):
    assert list(run_stage(lambda record: train.run(record, None, None, None), rehearse=False)) == ["nothing trained"]


def test_time_left_over_by_a_stage_goes_to_the_stages_after_it():
    for shares in (SHARES, REHEARSAL_SHARES):
        assert sum(shares.values()) == pytest.approx(1)
    assert stage_seconds("facts", STAGES, 900) == pytest.approx(900 * SHARES["facts"])
    assert stage_seconds("train", STAGES, 400) == pytest.approx(400)
    assert stage_seconds("step", ("step", "profile"), 340) == pytest.approx(340 * 0.17 / 0.27)
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
    pack.pack(vgg16, pairs, None, output, packages=())
    assert {path.name for path in output.iterdir()} == {"wheels", "pairs", "vgg16.safetensors"}
    with pytest.raises(InputError, match="exists already"):
        pack.pack(vgg16, pairs, None, output, packages=())
    monkeypatch.setattr(pack, "LIMIT_BYTES", 500)
    with pytest.raises(InputError, match="the folder takes"):
        pack.pack(vgg16, pairs, None, tmp_path / "large", packages=())
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
        assert training["last"]["step"] == train.SCENES["train.steps"]
        assert "reasonable-all" in training["scores"]
        assert set(training["blanked"]) == ({"visible", "lwir"} if role == "teacher" else set())
        assert (tmp_path / training["run"] / "evaluation" / "report.html").is_file()
    (difference,) = results["train"]["difference"]
    assert (difference["runs"], difference["reference"], difference["seeds"]) == ("student", "baseline", [0])
    (first,) = results["train"]["first steps"]
    assert first["status"] == 0
    assert "dead channels of conv5" in first["tables"]

    tables.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"step: cpu, {contents['step']['date']}, jax {jax.__version__}, a rehearsal\n\n| step " in printed
    first_cells = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert {"TF32", "teacher, bfloat16", "student, TF32", "baseline-0", "student - baseline, 1 seeds"} <= set(
        first_cells
    )
