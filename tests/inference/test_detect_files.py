"""Detection in files: what is written is what the detector finds; what is broken is skipped and said."""

import contextlib
import json
import signal
from pathlib import Path

import cv2
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dcrl_jax import checkpoints
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.inference.detect_files import detect_files
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.publish import publish
from dcrl_jax.inference.video import read_frames
from dcrl_jax.models.build import build_model

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

HEIGHT, WIDTH = 40, 60


def image(seed, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


@pytest.fixture(scope="module")
def workdirs(tiny_config, random_params, tmp_path_factory):
    """A workdir with a checkpoint for each role."""
    folder = tmp_path_factory.mktemp("runs")
    for role in ("teacher", "student"):
        config = tiny_config(role)
        with checkpoints.open_manager(folder / role / "best") as manager:
            checkpoints.save_best(manager, 7, random_params(build_model(config), config), config, 0.5)
    return folder


@pytest.fixture(scope="module")
def detectors(workdirs):
    return {role: Detector.from_checkpoint(workdirs / role) for role in ("teacher", "student")}


def assert_results(output, names, people):
    assert (output / "images.txt").read_text().splitlines() == names
    for file in ("results.txt", "results.json"):
        found = read_results(output / file, names)
        assert set(found) == {name for name, one in zip(names, people, strict=True) if one is not None}
        for name, one in zip(names, people, strict=True):
            if one is not None:
                assert len(one.scores) > 2
                np.testing.assert_allclose(found[name].scores, one.scores, rtol=1e-4)
                corners = found[name].boxes + np.pad(found[name].boxes[:, :2], ((0, 0), (2, 0)))
                np.testing.assert_allclose(corners, one.boxes, atol=1e-3)


def test_folder_gives_results_files_and_pictures_of_all_that_the_detector_finds(workdirs, detectors, tmp_path, capsys):
    images = {f"sub/{seed}": image(seed) for seed in range(9)}  # one more than a batch
    for name, pixels in images.items():
        write_image(tmp_path / f"in/{name}.png", pixels)
    assert detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    people = detectors["student"](list(images.values()))
    assert_results(tmp_path / "out", list(images), people)
    printed = capsys.readouterr().out
    sure = [int((one.scores >= 0.5).sum()) for one in people]
    assert printed.startswith("9 images in ")
    assert f": {sum(sure)} people with a score of at least 0.5, in {sum(map(bool, sure))} images; all" in printed
    for name in images:
        assert cv2.imread(str(tmp_path / f"out/annotated/{name}.jpg")).shape == (HEIGHT, WIDTH, 3)


def test_teacher_detects_in_pairs_and_says_its_mean_weights_and_who_is_left_out(workdirs, detectors, tmp_path, capsys):
    pairs = [(image(seed), image(50 + seed, 1)) for seed in range(2)]
    for number, (visible, lwir) in enumerate(pairs):
        write_image(tmp_path / f"in/{number}_visible.png", visible)
        write_image(tmp_path / f"in/{number}_lwir.png", lwir)
    write_image(tmp_path / "in/lonely_visible.png", image(9))
    assert detect_files(str(workdirs / "teacher"), str(tmp_path / "in"), tmp_path / "out")
    people = detectors["teacher"](*(list(images) for images in zip(*pairs, strict=True)))
    assert_results(tmp_path / "out", ["0", "1"], people)
    printed = capsys.readouterr().out
    means = {name: np.mean([one.modality_weights[name] for one in people]) for name in ("visible", "lwir")}
    assert f"mean weights: visible {means['visible']:.2f}, lwir {means['lwir']:.2f}\n" in printed
    unmatched = f"1 without a counterpart in the other modality, left out:\n  {tmp_path / 'in/lonely_visible.png'}\n"
    assert unmatched in printed
    assert cv2.imread(str(tmp_path / "out/annotated/0.jpg")).shape == (HEIGHT, 2 * WIDTH + 4, 3)


BROKEN = {
    "truncated": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
    "no image": lambda path: path.write_bytes(b"hello"),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: write_image(path, image(1)) or path.write_bytes(path.read_bytes()[:-1000]),
    "grey": lambda path: write_image(path, image(1, 1)),
    "16 bits": lambda path: cv2.imwrite(str(path), image(1).astype(np.uint16) * 100),
    "alpha": lambda path: cv2.imwrite(str(path), np.dstack([image(1), image(2, 1)])),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_image_is_reported_and_skipped_and_the_rest_goes_on(workdirs, detectors, tmp_path, capsys, kind):
    write_image(tmp_path / "in/a.png", image(0))
    BROKEN[kind](tmp_path / "in/b.png")
    write_image(tmp_path / "in/c.png", image(2))
    assert not detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    people = detectors["student"]([image(0), image(2)])
    assert_results(tmp_path / "out", ["a", "b", "c"], [people[0], None, people[1]])
    assert f"1 that could not be used, skipped:\n  {tmp_path / 'in/b.png'}: " in capsys.readouterr().out


BROKEN_LWIR = {
    "wrong size": lambda path: write_image(path, image(1, 1)[:20]),
    "16 bits": lambda path: cv2.imwrite(str(path), image(1, 1).astype(np.uint16) * 100),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "alpha": lambda path: cv2.imwrite(str(path), np.dstack([image(1), image(2, 1)])),
    "false colours": lambda path: write_image(path, image(1)),
}


@pytest.mark.parametrize("kind", BROKEN_LWIR)
def test_pair_with_a_broken_thermal_image_is_skipped(workdirs, detectors, tmp_path, kind):
    for name in "ab":
        write_image(tmp_path / f"in/vi/{name}.png", image(0))
        write_image(tmp_path / f"in/ir/{name}.png", image(1, 1))
    BROKEN_LWIR[kind](tmp_path / "in/ir/b.png")
    assert not detect_files(str(workdirs / "teacher"), str(tmp_path / "in"), tmp_path / "out")
    assert_results(tmp_path / "out", ["a", "b"], [detectors["teacher"](image(0), image(1, 1)), None])


def test_nothing_but_broken_images_leaves_empty_results(workdirs, tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    assert not detect_files(str(workdirs / "student"), str(tmp_path / "a.png"), tmp_path / "out")
    assert_results(tmp_path / "out", ["a"], [None])
    assert json.loads((tmp_path / "out/results.json").read_text()) == []


def test_video_gives_a_video_of_as_many_frames_and_results_by_frame(workdirs, detectors, tmp_path):
    write_video(tmp_path / "film.mp4", [image(seed) for seed in range(10)])
    frames = list(read_frames(tmp_path / "film.mp4"))
    assert len(frames) == 10
    assert detect_files(str(workdirs / "student"), str(tmp_path / "film.mp4"), tmp_path / "out")
    assert_results(tmp_path / "out", [f"film_{n:06d}" for n in range(10)], detectors["student"](frames))
    drawn = list(read_frames(tmp_path / "out/annotated/film.mp4"))
    assert (len(drawn), drawn[0].shape) == (10, (HEIGHT, WIDTH, 3))


def test_teacher_takes_a_thermal_video_beside_it_and_says_that_it_is_shorter(workdirs, detectors, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", [image(seed) for seed in range(4)])
    write_video(tmp_path / "b.mp4", [image(seed, 1) for seed in range(3)])
    given = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    assert detect_files(str(workdirs / "teacher"), given[0], tmp_path / "out", given[1])
    visible, lwir = (list(read_frames(tmp_path / name)) for name in ("a.mp4", "b.mp4"))
    assert_results(tmp_path / "out", [f"a_{n:06d}" for n in range(3)], detectors["teacher"](visible[:3], lwir))
    assert "the videos differ in their numbers of frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [(None, "film.mp4: no such file"), (b"hello", "no frame can be read from its 5 bytes")]
)
def test_video_without_frames_is_refused_and_nothing_is_written(workdirs, tmp_path, content, message):
    if content is not None:
        (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(InputError, match=message):
        detect_files(str(workdirs / "student"), str(tmp_path / "film.mp4"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("role", "lwir", "message"),
    [
        ("student", "b.png", "is a student, which sees RGB alone: leave --lwir out"),
        ("teacher", None, "no two of one name"),
    ],
)
def test_thermal_images_that_are_missing_or_not_wanted_are_said(workdirs, tmp_path, role, lwir, message):
    write_image(tmp_path / "a.png", image(0))
    lwir = lwir and str(tmp_path / lwir)
    with pytest.raises(InputError, match=message):
        detect_files(str(workdirs / role), str(tmp_path / "a.png"), tmp_path / "out", lwir)


def test_output_that_holds_something_is_refused_and_kept(workdirs, tmp_path):
    write_image(tmp_path / "a.png", image(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already and is no empty folder: give another --output"):
        detect_files(str(workdirs / "student"), str(tmp_path / "a.png"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


@pytest.fixture
def stopped(monkeypatch, workdirs):
    """Runs a student until a signal comes with one of its calls of the detector, which look at 8 images each."""

    def run(number, call, given, output):
        detect, calls = Detector.__call__, []

        def interrupted(self, *images):
            calls.append(1)
            if len(calls) == call:
                signal.raise_signal(number)
            return detect(self, *images)

        with monkeypatch.context() as patch:
            patch.setattr(Detector, "__call__", interrupted)
            with pytest.raises(SIGNALS[number]):
                detect_files(str(workdirs / "student"), str(given), output)

    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_run_keeps_what_was_found_and_says_how_far_it_came(stopped, detectors, tmp_path, capsys, number):
    for seed in range(10):
        write_image(tmp_path / f"in/{seed}.png", image(seed))
    BROKEN["empty"](tmp_path / "in/3.png")
    former = signal.getsignal(signal.SIGTERM)
    stopped(number, 2, tmp_path / "in", tmp_path / "out")
    assert signal.getsignal(signal.SIGTERM) is former
    whole = [seed for seed in range(8) if seed != 3]
    people = detectors["student"]([image(seed) for seed in whole])
    people.insert(3, None)
    assert_results(tmp_path / "out", [str(seed) for seed in range(8)], people)
    assert sorted(path.stem for path in (tmp_path / "out/annotated").iterdir()) == [str(seed) for seed in whole]
    said = f"\nstopped after 8 of 10 images; {tmp_path / 'out'} has what was found until then\n"
    assert capsys.readouterr().out.endswith(said)


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_video_is_closed_after_the_frames_until_then(stopped, detectors, tmp_path, capsys, number):
    write_video(tmp_path / "film.mp4", [image(seed) for seed in range(10)])
    stopped(number, 2, tmp_path / "film.mp4", tmp_path / "out")
    frames = list(read_frames(tmp_path / "film.mp4"))[:8]
    assert_results(tmp_path / "out", [f"film_{n:06d}" for n in range(8)], detectors["student"](frames))
    assert len(list(read_frames(tmp_path / "out/annotated/film.mp4"))) == 8
    said = f"stopped after 8 of 10 frames; {tmp_path / 'out'} has what was found until then\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize(("given", "unit"), [("in", "images"), ("film.mp4", "frames")])
def test_run_interrupted_before_the_first_image_leaves_the_output_as_it_was(
    stopped, tmp_path, capsys, given, unit, was_there
):
    for seed in range(3):
        write_image(tmp_path / f"in/{seed}.png", image(seed))
    BROKEN["empty"](tmp_path / "in/0.png")
    write_video(tmp_path / "film.mp4", [image(seed) for seed in range(3)])
    output = tmp_path / "out"
    if was_there:
        output.mkdir()
    stopped(signal.SIGINT, 1, tmp_path / given, output)
    assert output.exists() == was_there
    assert not was_there or not any(output.iterdir())
    assert capsys.readouterr().out.endswith(f"stopped after 0 of 3 {unit}; nothing is written\n")


def test_interruption_that_was_lost_in_a_callback_ends_the_run_after_its_batch(
    workdirs, detectors, tmp_path, monkeypatch
):
    for seed in range(10):
        write_image(tmp_path / f"in/{seed}.png", image(seed))
    detect = Detector.__call__

    def interrupted(self, *images):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return detect(self, *images)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    people = detectors["student"]([image(seed) for seed in range(8)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(8)], people)


@pytest.mark.parametrize("file", ["3.jpg", "results.txt"])
def test_signal_between_a_picture_and_its_results_waits_for_both(workdirs, detectors, tmp_path, monkeypatch, file):
    for seed in range(5):
        write_image(tmp_path / f"in/{seed}.png", image(seed))
    replace, write_bytes = Path.replace, Path.write_bytes

    def interrupted(do):
        def then(self, argument):
            if file in (self.name, getattr(argument, "name", None)):
                signal.raise_signal(signal.SIGINT)
            return do(self, argument)

        return then

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted(replace))
        patch.setattr(Path, "write_bytes", interrupted(write_bytes))
        with pytest.raises(KeyboardInterrupt):
            detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    count = {"3.jpg": 4, "results.txt": 5}[file]
    people = detectors["student"]([image(seed) for seed in range(count)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(count)], people)
    assert sorted(path.stem for path in (tmp_path / "out/annotated").iterdir()) == [str(n) for n in range(count)]


@pytest.mark.parametrize("given", ["in", "film.mp4"])
def test_output_that_cannot_be_made_is_said(workdirs, tmp_path, given):
    # Permission bits do not stop everybody; a file in the way does.
    write_image(tmp_path / "in/a.png", image(0))
    write_video(tmp_path / "film.mp4", [image(0)])
    output = tmp_path / "film.mp4" / "out"
    with pytest.raises(InputError) as refusal:
        detect_files(str(workdirs / "student"), str(tmp_path / given), output)
    assert str(refusal.value) == (
        f"{output} cannot be written to: Not a directory. Make room, or give another --output."
    )


def test_disk_without_room_is_said_and_leaves_nothing_half_written(workdirs, tmp_path, no_room):
    write_image(tmp_path / "a.png", image(0))
    with (
        no_room(100),
        pytest.raises(InputError, match=r"out cannot be written to: File too large\. .* in 1 images is lost"),
    ):
        detect_files(str(workdirs / "student"), str(tmp_path / "a.png"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["annotated"]


def test_failure_to_write_keeps_what_was_found_before(workdirs, detectors, tmp_path, monkeypatch):
    for seed in range(10):
        write_image(tmp_path / f"in/{seed}.png", image(seed))
    write_bytes = Path.write_bytes

    def full(self, content):
        if self.name == "8.jpg":
            write_bytes(self, content[:10])
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device\. What was found in 9 images is in it\. Make"):
        detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    people = detectors["student"]([image(seed) for seed in range(9)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(9)], people)
    assert {path.stem for path in (tmp_path / "out/annotated").iterdir()} == set("01234567")


def test_video_without_room_is_said_and_its_results_are_kept(workdirs, detectors, tmp_path, no_room):
    frames = [image(seed) for seed in range(3)]
    write_video(tmp_path / "film.mp4", frames)
    frames = list(read_frames(tmp_path / "film.mp4"))
    size = (tmp_path / "film.mp4").stat().st_size
    people = detectors["student"](frames)
    with no_room(size // 2), pytest.raises(InputError, match=r"film\.mp4: could not be written to its end, and is rem"):
        detect_files(str(workdirs / "student"), str(tmp_path / "film.mp4"), tmp_path / "out")
    assert_results(tmp_path / "out", [f"film_{n:06d}" for n in range(3)], people)
    assert not list((tmp_path / "out/annotated").iterdir())


def test_truncated_video_gives_what_could_be_read_and_says_so(workdirs, tmp_path, capsys):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for seed in range(8):
        writer.write(image(seed))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not detect_files(str(workdirs / "student"), str(path), tmp_path / "out")
    names = (tmp_path / "out/images.txt").read_text().splitlines()
    assert 1 <= len(names) < 8
    assert len(read_results(tmp_path / "out/results.json", names)) == len(names)
    assert f"warning: {path}: {len(names)} of 8 frames could be read." in capsys.readouterr().out


def test_thermal_video_without_frames_is_refused_and_nothing_is_written(workdirs, tmp_path):
    write_video(tmp_path / "a.mp4", [image(0)])
    (tmp_path / "b.mp4").write_bytes(b"hello")
    given = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    with pytest.raises(InputError, match=r"b\.mp4: no frame can be read from its 5 bytes"):
        detect_files(str(workdirs / "teacher"), given[0], tmp_path / "out", given[1])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("nothing", "nothing holds no checkpoint: expected a run's workdir"),
        ("a.png", r"a\.png holds no checkpoint: expected a run's workdir"),
        ("foreign", r"foreign/3 cannot be read as a checkpoint: .*config"),
        ("hub", r"config\.json is no config of a model of dcrl_jax"),
        ("hf://name", "expected hf://OWNER/NAME"),
    ],
)
def test_unknown_and_foreign_checkpoints_are_refused_and_nothing_is_written(tmp_path, checkpoint, message):
    write_image(tmp_path / "a.png", image(0))
    with ocp.CheckpointManager(tmp_path / "foreign", item_names=("params", "state")) as manager:
        tree = ocp.args.StandardSave({"w": np.zeros(3)})
        manager.save(3, args=ocp.args.Composite(params=tree, state=tree))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/config.json").write_text('{"model_type": "other"}')
    (tmp_path / "hub/model.safetensors").touch()
    source = checkpoint if "://" in checkpoint else str(tmp_path / checkpoint)
    with pytest.raises(InputError, match=message):
        detect_files(source, str(tmp_path / "a.png"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_empty_folder_is_refused_and_nothing_is_written(workdirs, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"in: no image in it \(no files\)"):
        detect_files(str(workdirs / "student"), str(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pattern_of_videos_is_refused_and_a_video_with_such_a_name_is_not(workdirs, tmp_path):
    for name in ("film.mp4", "film[1].mp4"):
        write_video(tmp_path / name, [image(0)])
    with pytest.raises(
        InputError, match=r"\*\.mp4: no image in it \(2 files, 2 of them videos, which are given one by"
    ):
        detect_files(str(workdirs / "student"), str(tmp_path / "*.mp4"), tmp_path / "out")
    assert detect_files(str(workdirs / "student"), str(tmp_path / "film[1].mp4"), tmp_path / "out")
    assert (tmp_path / "out/annotated/film[1].mp4").is_file()


def test_published_model_detects_like_the_checkpoint_it_was_made_of(workdirs, detectors, tmp_path):
    write_image(tmp_path / "a.png", image(0))
    publish(str(workdirs / "student"), tmp_path / "model")
    assert detect_files(str(tmp_path / "model"), str(tmp_path / "a.png"), tmp_path / "out")
    assert_results(tmp_path / "out", ["a"], [detectors["student"](image(0))])
