"""Detection in files writes what the detector finds, and reports and skips what is broken."""

import contextlib
import json
import signal
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import noise, write_video

from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.inference.detect_files import detect_files
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.publish import publish
from dcrl_jax.inference.video import read_frames
from dcrl_jax.signals import raise_on_sigterm

HEIGHT, WIDTH = 40, 60


def image(seed, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def write_images(folder, count):
    for seed in range(count):
        write_image(folder / f"{seed}.png", image(seed))
    return str(folder)


@pytest.fixture(scope="module")
def detectors(trained):
    return {role: Detector.from_checkpoint(trained(role).workdir, batch_size=4) for role in ("teacher", "student")}


@pytest.fixture
def detect(detectors, tmp_path, monkeypatch):
    """Detects in files below tmp_path with a role's detector, in batches of 4; returns whether all could be read."""
    monkeypatch.setattr(Detector, "from_checkpoint", detectors.get)

    def run(source, role="student", lwir=None, output="out"):
        return detect_files(role, str(tmp_path / source), tmp_path / output, lwir and str(tmp_path / lwir))

    return run


def assert_results(output, names, people):
    """Checks the files of an output; ``people`` has None for an image that could not be used."""
    assert (output / "images.txt").read_text().splitlines() == names
    for file in ("results.txt", "results.json"):
        results = read_results(output / file, names)
        assert set(results) == {name for name, item in zip(names, people, strict=True) if item is not None}
        for name, item in zip(names, people, strict=True):
            if item is not None:
                assert len(item.scores) > 2
                np.testing.assert_allclose(results[name].scores, item.scores, rtol=1e-4)
                corners = results[name].boxes + np.pad(results[name].boxes[:, :2], ((0, 0), (2, 0)))
                np.testing.assert_allclose(corners, item.boxes, atol=1e-3)


def annotated(output):
    return sorted(path.name for path in (output / "annotated").iterdir())


def test_folder_gives_results_and_pictures_of_all_images(detect, detectors, tmp_path, capsys):
    write_images(tmp_path / "in/sub", 5)  # one more than a batch
    assert detect("in")
    people = detectors["student"]([image(seed) for seed in range(5)])
    assert_results(tmp_path / "out", [f"sub/{seed}" for seed in range(5)], people)
    counts = [int((item.scores >= 0.5).sum()) for item in people]
    printed = capsys.readouterr().out
    assert printed.startswith("5 images in ")
    assert f": {sum(counts)} people with a score of at least 0.5, in {sum(map(bool, counts))} images; all" in printed
    for seed in range(5):
        assert cv2.imread(str(tmp_path / f"out/annotated/sub/{seed}.jpg")).shape == (HEIGHT, WIDTH, 3)


def test_teacher_reports_its_mean_weights_and_unmatched_images(detect, detectors, tmp_path, capsys):
    pairs = [(image(seed), image(50 + seed, 1)) for seed in range(2)]
    for number, (visible, lwir) in enumerate(pairs):
        write_image(tmp_path / f"in/{number}_visible.png", visible)
        write_image(tmp_path / f"in/{number}_lwir.png", lwir)
    write_image(tmp_path / "in/single_visible.png", image(9))
    assert detect("in", "teacher")
    people = detectors["teacher"](*(list(images) for images in zip(*pairs, strict=True)))
    assert_results(tmp_path / "out", ["0", "1"], people)
    printed = capsys.readouterr().out
    means = {name: np.mean([item.modality_weights[name] for item in people]) for name in ("visible", "lwir")}
    assert f"mean weights: visible {means['visible']:.2f}, lwir {means['lwir']:.2f}\n" in printed
    unmatched = f"1 without a counterpart in the other modality, left out:\n  {tmp_path / 'in/single_visible.png'}\n"
    assert unmatched in printed
    assert cv2.imread(str(tmp_path / "out/annotated/0.jpg")).shape == (HEIGHT, 2 * WIDTH + 4, 3)


def test_published_model_detects_like_its_checkpoint(trained, detectors, tmp_path):
    write_image(tmp_path / "a.png", image(0))
    publish(str(trained("student").workdir), tmp_path / "model")
    assert detect_files(str(tmp_path / "model"), str(tmp_path / "a.png"), tmp_path / "out")
    assert_results(tmp_path / "out", ["a"], [detectors["student"](image(0))])


def test_unusable_images_are_reported_and_skipped(detect, detectors, tmp_path, capsys):
    write_images(tmp_path / "in", 3)
    (tmp_path / "in/1.png").write_bytes(b"hello")
    write_image(tmp_path / "in/3.png", image(1, 1))
    assert not detect("in")
    people = detectors["student"]([image(0), image(2)])
    assert_results(tmp_path / "out", ["0", "1", "2", "3"], [people[0], None, people[1], None])
    printed = capsys.readouterr().out
    assert f"2 that could not be used, skipped:\n  {tmp_path / 'in/1.png'}: 5 bytes" in printed
    assert f"\n  {tmp_path / 'in/3.png'}: grey" in printed
    assert annotated(tmp_path / "out") == ["0.jpg", "2.jpg"]


def test_pair_with_an_unusable_thermal_image_is_skipped(detect, detectors, tmp_path):
    for name in "ab":
        write_image(tmp_path / f"in/vi/{name}.png", image(0))
        write_image(tmp_path / f"in/ir/{name}.png", image(1, 1)[: 20 if name == "b" else HEIGHT])
    assert not detect("in", "teacher")
    assert_results(tmp_path / "out", ["a", "b"], [detectors["teacher"](image(0), image(1, 1)), None])


def test_nothing_but_unusable_images_leaves_empty_results(detect, tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    assert not detect("a.png")
    assert_results(tmp_path / "out", ["a"], [None])
    assert json.loads((tmp_path / "out/results.json").read_text()) == []


def test_video_gives_a_video_with_its_times_and_results_by_frame(detect, detectors, tmp_path):
    times = [Fraction(1 + index * index, 90000) for index in range(6)]
    write_video(tmp_path / "film[1].ts", noise(6), times=times)
    frames = list(read_frames(tmp_path / "film[1].ts"))
    assert detect("film[1].ts")
    people = detectors["student"]([frame.pixels for frame in frames])
    assert_results(tmp_path / "out", [f"film[1]_{n:06d}" for n in range(6)], people)
    drawn = list(read_frames(tmp_path / "out/annotated/film[1].mp4"))
    assert [frame.time for frame in drawn] == [frame.time for frame in frames]
    assert drawn[0].pixels.shape == (HEIGHT, WIDTH, 3)


def test_teacher_takes_a_thermal_video_and_reports_that_it_is_shorter(detect, detectors, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", noise(4))
    lwir = [frame[..., 0] for frame in noise(3)]
    write_video(tmp_path / "b.mkv", lwir, codec="ffv1", pix_fmt="gray")
    assert detect("a.mp4", "teacher", "b.mkv")
    visible = [frame.pixels for frame in read_frames(tmp_path / "a.mp4")][:3]
    assert_results(tmp_path / "out", [f"a_{n:06d}" for n in range(3)], detectors["teacher"](visible, lwir))
    assert "the videos differ in their numbers of frames" in capsys.readouterr().out


def test_truncated_video_gives_the_readable_frames_and_a_warning(detect, tmp_path, capsys):
    path = tmp_path / "film.avi"
    write_video(path, noise(8), codec="mjpeg", pix_fmt="yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not detect("film.avi")
    names = (tmp_path / "out/images.txt").read_text().splitlines()
    assert 1 <= len(names) < 8
    assert len(read_results(tmp_path / "out/results.json", names)) == len(names)
    assert f"warning: {path}: {len(names)} of 8 frames could be read." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("role", "source", "lwir", "message"),
    [
        ("student", "a.png", "a.png", "this detector is a student, which sees RGB only: omit --lwir"),
        ("teacher", "a.png", None, "no two with the same name"),
        ("teacher", "a.mp4", None, "this detector is a teacher, which takes pairs: give the thermal video with --lwir"),
        ("teacher", "a.mp4", "text.mp4", r"text\.mp4: no frame can be read from its 5 bytes"),
        ("teacher", "a.mp4", "16bits.mkv", "a_000000: thermal image: uint16 values; expected uint8"),
        ("student", "missing.mp4", None, r"missing\.mp4: no such file"),
        ("student", "empty", None, r"empty: contains no image \(no files\)"),
        ("student", "*.mp4", None, r"contains no image \(2 files, 2 of them videos, which must be given one by one"),
    ],
)
def test_unusable_source_is_refused_and_nothing_is_written(detect, tmp_path, role, source, lwir, message):
    write_image(tmp_path / "a.png", image(0))
    write_video(tmp_path / "a.mp4", noise(1))
    (tmp_path / "text.mp4").write_bytes(b"hello")
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "16bits.mkv", [np.zeros((HEIGHT, WIDTH), np.uint16)], codec="ffv1", pix_fmt="gray16le")
    with pytest.raises(InputError, match=message):
        detect(source, role, lwir)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("nothing", "nothing holds no checkpoint: expected a run's workdir"),
        ("a.png", r"a\.png holds no checkpoint: expected a run's workdir"),
        ("hub", r"config\.json is not the config of a dcrl_jax model"),
        ("hf://name", "expected hf://OWNER/NAME"),
    ],
)
def test_unknown_checkpoint_is_refused_and_nothing_is_written(tmp_path, checkpoint, message):
    write_image(tmp_path / "a.png", image(0))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/config.json").write_text('{"model_type": "other"}')
    (tmp_path / "hub/model.safetensors").touch()
    source = checkpoint if "://" in checkpoint else str(tmp_path / checkpoint)
    with pytest.raises(InputError, match=message):
        detect_files(source, str(tmp_path / "a.png"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_that_is_not_empty_is_refused_and_kept(detect, tmp_path):
    write_image(tmp_path / "a.png", image(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an empty folder: give another --output"):
        detect("a.png")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


@pytest.fixture
def stopped(detect, monkeypatch):
    """Detects in files until a signal comes with one of the calls of the detector, each of which takes 4 images."""

    def run(number, call, source):
        detect_batch, calls = Detector.__call__, []

        def interrupted(self, *images):
            calls.append(1)
            if len(calls) == call:
                signal.raise_signal(number)
            return detect_batch(self, *images)

        monkeypatch.setattr(Detector, "__call__", interrupted)
        with raise_on_sigterm(), pytest.raises(SIGNALS[number]):
            detect(source)
        monkeypatch.setattr(Detector, "__call__", detect_batch)

    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_run_keeps_its_results_and_reports_its_progress(stopped, detectors, tmp_path, capsys, number):
    write_images(tmp_path / "in", 6)
    (tmp_path / "in/3.png").write_bytes(b"")
    stopped(number, 2, "in")
    people = detectors["student"]([image(seed) for seed in range(3)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(4)], [*people, None])
    assert annotated(tmp_path / "out") == ["0.jpg", "1.jpg", "2.jpg"]
    progress = f"\nstopped after 4 of 6 images; {tmp_path / 'out'} has the results so far\n"
    assert capsys.readouterr().out.endswith(progress)


def test_interrupted_video_is_complete_up_to_the_last_batch(stopped, detectors, tmp_path, capsys):
    write_video(tmp_path / "film.mp4", noise(6))
    stopped(signal.SIGINT, 2, "film.mp4")
    frames = [frame.pixels for frame in read_frames(tmp_path / "film.mp4")][:4]
    assert_results(tmp_path / "out", [f"film_{n:06d}" for n in range(4)], detectors["student"](frames))
    assert len(list(read_frames(tmp_path / "out/annotated/film.mp4"))) == 4
    progress = f"stopped after 4 of 6 frames; {tmp_path / 'out'} has the results so far\n"
    assert capsys.readouterr().out == progress


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(("source", "unit"), [("in", "images"), ("film.mp4", "frames")])
def test_run_interrupted_before_the_first_image_leaves_the_output(stopped, tmp_path, capsys, source, unit, existed):
    write_images(tmp_path / "in", 3)
    (tmp_path / "in/0.png").write_bytes(b"")
    write_video(tmp_path / "film.mp4", noise(3))
    if existed:
        (tmp_path / "out").mkdir()
    stopped(signal.SIGINT, 1, source)
    assert (tmp_path / "out").exists() == existed
    assert not existed or not any((tmp_path / "out").iterdir())
    assert capsys.readouterr().out.endswith(f"stopped after 0 of 3 {unit}; nothing is written\n")


def test_signal_lost_in_a_callback_ends_the_run_after_its_batch(detect, detectors, tmp_path, monkeypatch):
    write_images(tmp_path / "in", 6)
    detect_batch = Detector.__call__

    def interrupted(self, *images):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return detect_batch(self, *images)

    monkeypatch.setattr(Detector, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detect("in")
    monkeypatch.setattr(Detector, "__call__", detect_batch)
    people = detectors["student"]([image(seed) for seed in range(4)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(4)], people)


@pytest.mark.parametrize(("file", "count"), [("2.jpg", 3), ("results.txt", 4)])
def test_signal_while_writing_waits_for_picture_and_results(detect, detectors, tmp_path, monkeypatch, file, count):
    write_images(tmp_path / "in", 4)

    def interrupted(write):
        def then(self, argument):
            if file in (self.name, getattr(argument, "name", None)):
                signal.raise_signal(signal.SIGINT)
            return write(self, argument)

        return then

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted(Path.replace))
        patch.setattr(Path, "write_bytes", interrupted(Path.write_bytes))
        with pytest.raises(KeyboardInterrupt):
            detect("in")
    people = detectors["student"]([image(seed) for seed in range(count)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(count)], people)
    assert annotated(tmp_path / "out") == [f"{seed}.jpg" for seed in range(count)]


@pytest.mark.parametrize("source", ["in", "film.mp4"])
def test_output_that_cannot_be_created_is_reported(detect, tmp_path, source):
    # Permission bits do not stop root; a file in the way does.
    write_images(tmp_path / "in", 1)
    write_video(tmp_path / "film.mp4", noise(1))
    with pytest.raises(InputError) as refusal:
        detect(source, output="film.mp4/out")
    assert str(refusal.value) == (
        f"{tmp_path / 'film.mp4/out'} cannot be written to: Not a directory. Make room, or give another --output."
    )


def test_full_disk_is_reported_and_leaves_nothing_half_written(detect, tmp_path, no_room):
    write_image(tmp_path / "a.png", image(0))
    with (
        no_room(100),
        pytest.raises(InputError, match=r"out cannot be written to: File too large\. .* of 1 images are lost"),
    ):
        detect("a.png")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["annotated"]


def test_write_error_keeps_the_results_before_it(detect, detectors, tmp_path, monkeypatch):
    write_images(tmp_path / "in", 6)
    write_bytes = Path.write_bytes

    def full(self, content):
        if self.name == "4.jpg":
            write_bytes(self, content[:10])
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device\. The results of 5 images are kept\. Make"):
        detect("in")
    people = detectors["student"]([image(seed) for seed in range(5)])
    assert_results(tmp_path / "out", [str(seed) for seed in range(5)], people)
    assert annotated(tmp_path / "out") == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_video_on_a_full_disk_is_deleted_and_its_results_are_kept(detect, detectors, tmp_path, no_room):
    write_video(tmp_path / "film.mp4", noise(3, 200, 300))
    people = detectors["student"]([frame.pixels for frame in read_frames(tmp_path / "film.mp4")])
    with no_room(60000), pytest.raises(InputError, match=r"too large\. The results of 3 images are kept\. Make room"):
        detect("film.mp4")
    assert_results(tmp_path / "out", [f"film_{n:06d}" for n in range(3)], people)
    assert annotated(tmp_path / "out") == []
