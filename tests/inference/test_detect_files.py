"""Detection in files writes what the detector finds, and reports and skips what is broken."""

import contextlib
import json
import signal
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from video_files import noise, shared_video, write_video

from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.inference.detect_files import detect_files
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.video import Video
from dcrl_jax.signals import raise_on_sigterm

HEIGHT, WIDTH = 40, 60
SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Preempted}


def image(seed, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def frames_of(path):
    return [frame.pixels for frame in Video(path).frames()]


def png(stems):
    return [f"{stem}.png" for stem in stems]


class Files:
    """A folder with files to detect in and the output, and detectors with batches of 4."""

    def __init__(self, folder, detectors):
        self.folder, self._detectors = folder, detectors

    def write_image(self, name, pixels):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels[..., ::-1])

    def write_images(self, folder, count):
        for seed in range(count):
            self.write_image(f"{folder}/{seed}.png", image(seed))

    def people(self, images, lwir=None, role="student"):
        """What a detector finds in arrays, or in the images of seeds."""
        images = [image(item) if isinstance(item, int) else item for item in images]
        return self._detectors[role](images, lwir)

    def detect(self, source, role="student", lwir=None, output="out", **options):
        """Detects in files; returns whether all could be read."""
        lwir = lwir and str(self.folder / lwir)
        return detect_files(role, str(self.folder / source), self.folder / output, lwir, **options)

    def frames_csv(self):
        return (self.folder / "out/frames.csv").read_text().splitlines()

    def stop(self, source, call, number=signal.SIGINT, handler=contextlib.nullcontext):
        """Detects in files until a signal comes with one of the calls of the detector."""
        detect_batch, calls = Detector.detect, []

        def interrupted(detector, *images):
            calls.append(1)
            if len(calls) == call:
                with handler():
                    signal.raise_signal(number)
            return detect_batch(detector, *images)

        with pytest.MonkeyPatch.context() as patch, raise_on_sigterm():
            patch.setattr(Detector, "detect", interrupted)
            with pytest.raises(SIGNALS[number]):
                self.detect(source)

    def assert_holds(self, names, people, pictures=None):
        """Checks the output; ``people`` has None for an image without results, and each other has a picture."""
        output, names = self.folder / "out", list(names)
        assert (output / "images.txt").read_text(errors="surrogateescape").splitlines() == names
        by_name = {name: item for name, item in zip(names, people, strict=True) if item is not None}
        for file in ("results.txt", "results.json"):
            results = read_results(output / file, names)
            assert set(results) == set(by_name)
            for name, item in by_name.items():
                assert len(item.scores) > 2
                np.testing.assert_allclose(results[name].scores, item.scores, rtol=1e-4)
                corners = results[name].boxes + np.pad(results[name].boxes[:, :2], ((0, 0), (2, 0)))
                np.testing.assert_allclose(corners, item.boxes, atol=1e-3)
        written = sorted(path.relative_to(output).as_posix() for path in output.rglob("annotated/**/*.*"))
        expected = [f"{name}.jpg" for name in by_name] if pictures is None else pictures
        assert written == [f"annotated/{name}" for name in expected]


@pytest.fixture(scope="module")
def detectors(trained):
    return {role: trained(role).detector for role in ("teacher", "student")}


@pytest.fixture
def files(detectors, tmp_path, monkeypatch):
    monkeypatch.setattr(Detector, "from_checkpoint", lambda role, **_: detectors[role])
    return Files(tmp_path, detectors)


def test_folder_gives_results_and_pictures_of_all_images(files, tmp_path, capsys):
    files.write_images("in/sub", 5)  # one more than a batch
    assert files.detect("in")
    people = files.people(range(5))
    files.assert_holds([f"sub/{seed}.png" for seed in range(5)], people)
    counts = [int((item.scores >= 0.5).sum()) for item in people]
    printed = capsys.readouterr().out
    assert printed.startswith("5 images in ")
    assert f": {sum(counts)} people with a score of at least 0.5, in {sum(map(bool, counts))} images; all" in printed
    assert cv2.imread(str(tmp_path / "out/annotated/sub/4.png.jpg")).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match=f"^{tmp_path}/out exists and is not an empty folder"):
        files.detect("in")


def test_teacher_reports_its_mean_weights_and_unmatched_images(files, tmp_path, capsys):
    visible, lwir = [image(0), image(1), image(2)], [image(50, 1), image(51, 1), image(52, 1)[:20]]
    for number in range(3):
        files.write_image(f"in/{number}_visible.png", visible[number])
        files.write_image(f"in/{number}_lwir.png", lwir[number])
    files.write_image("in/single_visible.png", image(9))
    assert not files.detect("in", "teacher")
    people = files.people(visible[:2], lwir[:2], "teacher")
    files.assert_holds("012", [*people, None])
    printed = capsys.readouterr().out
    means = {name: np.mean([item.modality_weights[name] for item in people]) for name in ("visible", "lwir")}
    assert f"mean weights: visible {means['visible']:.2f}, lwir {means['lwir']:.2f}\n" in printed
    unmatched = f"1 without a counterpart in the other modality, left out:\n  {tmp_path / 'in/single_visible.png'}\n"
    assert unmatched in printed
    assert cv2.imread(str(tmp_path / "out/annotated/0.jpg")).shape == (HEIGHT, 2 * WIDTH + 4, 3)


def test_unusable_images_are_reported_and_skipped(files, tmp_path, capsys):
    files.write_images("in", 3)
    (tmp_path / "in/1.png").write_bytes(b"hello")
    files.write_image("in/3.png", image(1, 1))
    assert not files.detect("in")
    first, third = files.people([0, 2])
    files.assert_holds(png("0123"), [first, None, third, None])
    printed = capsys.readouterr().out
    assert f"2 that could not be used, skipped:\n  {tmp_path / 'in/1.png'}: 5 bytes" in printed
    assert f"\n  {tmp_path / 'in/3.png'}: grey" in printed
    assert not files.detect("in/1.png", output="nothing")
    assert (tmp_path / "nothing/images.txt").read_text() == "1.png\n"
    assert json.loads((tmp_path / "nothing/results.json").read_text()) == []


def test_folder_with_everything_gives_all_that_can_be_read_and_names_the_rest(files, tmp_path, capsys):
    for index, name in enumerate(("grey.png", "grey.png.bmp", "stra\udcdfe.png")):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(image(index)).save(tmp_path / "in" / name)
    PIL.Image.fromarray(image(3)).save(tmp_path / "in/grey.jpg")
    stack = [PIL.Image.fromarray(image(seed)) for seed in (4, 5)]
    stack[0].save(tmp_path / "in/stack.tif", save_all=True, append_images=stack[1:])
    write_video(tmp_path / "in/film.mp4", noise(2))
    (tmp_path / "in/sub").mkdir()
    write_video(tmp_path / "in/sub/film.mkv", noise(3))
    for name in ("broken1.jpg", "broken10.jpg", "bad\udcdf.mp4", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"hello" + b"!" * len(name))
    assert not files.detect("in")

    jpeg = np.asarray(PIL.Image.open(tmp_path / "in/grey.jpg"))
    people = files.people([jpeg, 0, 1, 4, 5, 2])
    frames = [files.people(frames_of(tmp_path / "in" / name)) for name in ("film.mp4", "sub/film.mkv")]
    names = ["broken1.jpg", "broken10.jpg", "grey.jpg", "grey.png", "grey.png.bmp", "stack.tif#0001", "stack.tif#0002"]
    names += ["stra\udcdfe.png", *(f"film.mp4_{n:06d}" for n in range(2)), *(f"sub/film.mkv_{n:06d}" for n in range(3))]
    pictures = ["film.mp4.mp4", "grey.jpg", "grey.png.bmp.jpg", "grey.png.jpg", "stack.tif#0001.jpg"]
    pictures += ["stack.tif#0002.jpg", "stra\udcdfe.png.jpg", "sub/film.mkv.mp4"]
    files.assert_holds(names, [None, None, *people, *frames[0], *frames[1]], pictures)
    assert b"\nstra\xdfe.png\n" in (tmp_path / "out/images.txt").read_bytes()
    printed = capsys.readouterr().out
    assert "1 other files (.txt 1) are neither images nor videos, left out" in printed
    assert f"3 that could not be used, skipped:\n  {tmp_path}/in/broken1.jpg: 16 bytes" in printed
    assert (
        f"an image. (2 like this; also {tmp_path}/in/broken10.jpg)\n  {tmp_path}/in/bad\\xdf.mp4: no frame" in printed
    )


def test_names_are_written_before_the_work(files, tmp_path):
    files.write_images("in", 6)
    before = []
    detect_batch = Detector.detect

    def look(detector, *images):
        before.append((tmp_path / "out/images.txt").read_text().split())
        return detect_batch(detector, *images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "detect", look)
        assert files.detect("in")
    assert before == [png("012345")] * 2


def test_annotated_copies_have_names_of_their_own(files, tmp_path):
    for name in ("a.png", "a.png.jpg", "a.png.jpg.bmp", f"{'b' * 251}.png", f"{'b' * 251}.jpg"):
        files.write_image(f"in/{name}", image(0))
    assert files.detect("in")
    written = sorted(path.name for path in (tmp_path / "out/annotated").iterdir())
    long = [f"{'b' * 230}~.jpg", f"{'b' * 230}~.jpg.jpg"]
    assert written == ["a.png.jpg", "a.png.jpg.bmp.jpg", "a.png.jpg.jpg", *long]


def test_images_with_three_equal_channels_are_told(files, capsys):
    files.write_images("in", 2)
    assert files.detect("in")
    assert "equal channels" not in capsys.readouterr().out
    for name in "ab":
        files.write_image(f"in/{name}_T.png", np.repeat(image(7, 1), 3, axis=2))
    assert files.detect("in", output="other")
    assert "warning: 2 images have three equal channels: a_T.png, b_T.png. They are probably" in capsys.readouterr().out


def test_pages_of_two_stacks_are_pairs(files, tmp_path):
    visible, lwir = [image(seed) for seed in range(3)], [image(50 + seed, 1) for seed in range(3)]
    for name, pages in (("rgb", visible), ("thermal", lwir)):
        pages = [PIL.Image.fromarray(page.squeeze()) for page in pages]
        pages[0].save(tmp_path / f"run_{name}.tif", save_all=True, append_images=pages[1:])
    assert files.detect("run_rgb.tif", "teacher", "run_thermal.tif")
    people = files.people(visible, lwir, "teacher")
    files.assert_holds([f"run#{number:04d}" for number in (1, 2, 3)], people)


def test_video_gives_a_video_with_its_times_and_results_by_frame(files, tmp_path):
    times = [Fraction(1 + index * index, 90000) for index in range(6)]
    write_video(tmp_path / "film[1].ts", noise(6), times=times)
    assert files.detect("film[1].ts")
    people = files.people(frames_of(tmp_path / "film[1].ts"))
    files.assert_holds([f"film[1]_{n:06d}" for n in range(6)], people, ["film[1].mp4"])
    drawn = list(Video(tmp_path / "out/annotated/film[1].mp4").frames())
    seconds = [frame.seconds for frame in Video(tmp_path / "film[1].ts").frames()]
    assert [frame.seconds for frame in drawn] == seconds
    assert drawn[0].pixels.shape == (HEIGHT, WIDTH, 3)
    rows = [f"film[1]_{number:06d},{number},{float(time):.6f}" for number, time in enumerate(seconds)]
    assert files.frames_csv() == ["name,frame,seconds", *rows]


def test_teacher_pairs_frames_in_time(files, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", noise(7), 30)
    lwir = [frame[..., 0] for frame in noise(4)]
    write_video(tmp_path / "b.mkv", lwir, codec="ffv1", pix_fmt="gray")
    assert files.detect("a.mp4", "teacher", "b.mkv", lwir_offset_s=-0.1)
    people = files.people(frames_of(tmp_path / "a.mp4")[::3], lwir[1:], "teacher")
    files.assert_holds(["a_000000", "a_000003", "a_000006"], people, ["a.mp4"])
    assert files.frames_csv() == [
        "name,frame,seconds,lwir_frame,lwir_seconds",
        "a_000000,0,0.000000,1,0.100000",
        "a_000003,3,0.100000,2,0.200000",
        "a_000006,6,0.200000,3,0.300000",
    ]
    drawn = Video(tmp_path / "out/annotated/a.mp4").frames()
    assert [frame.seconds for frame in drawn] == [0, Fraction(1, 10), Fraction(1, 5)]
    printed = capsys.readouterr().out
    assert "\n3 pairs of frames within 17.2 ms of each other, the thermal times shifted by -0.1 s:\n" in printed
    assert f"  {tmp_path / 'a.mp4'}: 7 frames at 30 frames/s, 4 without a partner\n" in printed
    assert f"  {tmp_path / 'b.mkv'}: 4 frames at 10 frames/s, 1 without a partner\n" in printed


@pytest.mark.parametrize(("name", "count"), [("variable-rate.mkv", 30), ("camera.ts", 19)])
def test_shared_videos_are_detected_in_to_their_ends(files, tmp_path, name, count):
    assert files.detect(shared_video(name))
    assert len(files.frames_csv()) == 1 + count
    (drawn,) = (tmp_path / "out/annotated").iterdir()
    seconds = [[frame.seconds for frame in Video(path).frames()] for path in (shared_video(name), drawn)]
    assert seconds[0] == seconds[1]


def test_shared_cameras_are_paired_in_time(files):
    lwir = shared_video("thermal-10fps-3s.mp4")
    assert files.detect(shared_video("rgb-30fps-1s.mp4"), "teacher", lwir)
    rows = [row.split(",") for row in files.frames_csv()[1:]]
    assert [(int(row[1]), int(row[3])) for row in rows] == [(3 * number, number) for number in range(10)]
    assert all(row[2] == row[4] for row in rows)


def test_truncated_video_gives_the_readable_frames_and_a_warning(files, tmp_path, capsys):
    path = tmp_path / "film.avi"
    write_video(path, noise(8), codec="mjpeg", pix_fmt="yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not files.detect("film.avi")
    frames = frames_of(path)
    assert 1 <= len(frames) < 8
    files.assert_holds([f"film_{n:06d}" for n in range(len(frames))], files.people(frames), ["film.mp4"])
    printed = capsys.readouterr().out
    assert f"warning: {path}: it is cut off: its header states 0.80 s, but it ends after " in printed
    assert f"; {len(frames)} frames could be read.\n" in printed


@pytest.mark.parametrize(
    ("role", "source", "lwir", "offset", "message"),
    [
        ("student", "a.png", "a.png", 0, "this detector is a student, which sees RGB only: omit --lwir"),
        (
            "teacher",
            "a.mp4",
            None,
            0,
            "this detector is a teacher, which takes pairs: give the thermal video with --lwir",
        ),
        ("teacher", "a.mp4", "16bits.mkv", 0, "a_000000: thermal image: uint16 values, 0 to 0; expected uint8"),
        ("teacher", "a.mp4", "a.png", 0, "a.png: not a video, but .*a.mp4 is one; give the thermal video with --lwir"),
        ("teacher", "a.mp4", "b.mp4", 0, "b.mp4: no such file"),
        ("teacher", "a.mp4", "a.mp4", 60, r"no two frames are within .* Set it to the seconds by which the thermal"),
        ("student", "a.mp4", None, 1, "--lwir_offset_s shifts a thermal video: give one with --lwir"),
        ("student", "a.png", None, 1, "--lwir_offset_s shifts a thermal video, but .*a.png is not a video"),
        ("student", "cut.mp4", None, 0, "cut.mp4: no frame can be read from its .* lacks its index: copy it again"),
    ],
)
def test_unusable_source_is_refused_and_nothing_is_written(files, tmp_path, role, source, lwir, offset, message):
    files.write_image("a.png", image(0))
    write_video(tmp_path / "a.mp4", noise(1))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:600])
    write_video(tmp_path / "16bits.mkv", [np.zeros((HEIGHT, WIDTH), np.uint16)], codec="ffv1", pix_fmt="gray16le")
    with pytest.raises(InputError, match=message):
        files.detect(source, role, lwir, lwir_offset_s=offset)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_run_keeps_its_results_and_reports_its_progress(files, tmp_path, capsys, number):
    files.write_images("in", 6)
    (tmp_path / "in/3.png").write_bytes(b"")
    files.stop("in", 2, number)
    files.assert_holds(png("0123"), [*files.people(range(3)), None])
    progress = f"\nstopped after 4 of 6 images; {tmp_path / 'out'} has the results so far\n"
    assert capsys.readouterr().out.endswith(progress)


def test_interrupted_video_is_complete_up_to_the_last_batch(files, tmp_path, capsys):
    write_video(tmp_path / "film.mp4", noise(6))
    files.stop("film.mp4", 2)
    people = files.people(frames_of(tmp_path / "film.mp4")[:4])
    files.assert_holds([f"film_{n:06d}" for n in range(4)], people, ["film.mp4"])
    assert len(frames_of(tmp_path / "out/annotated/film.mp4")) == 4
    assert len(files.frames_csv()) == 1 + 4
    progress = f"stopped after 4 frames; {tmp_path / 'out'} has the results so far\n"
    assert capsys.readouterr().out == progress


@pytest.mark.parametrize(
    ("source", "count", "unit", "existed"),
    [("in", " of 3", "images", False), ("in", " of 3", "images", True), ("film.mp4", "", "frames", False)],
)
def test_run_interrupted_before_the_first_image_leaves_the_output(
    files, tmp_path, capsys, source, count, unit, existed
):
    files.write_images("in", 3)
    (tmp_path / "in/0.png").write_bytes(b"")
    write_video(tmp_path / "film.mp4", noise(3))
    if existed:
        (tmp_path / "out").mkdir()
    files.stop(source, 1)
    assert (tmp_path / "out").exists() == existed
    assert not any(tmp_path.glob("out/*"))
    assert capsys.readouterr().out.endswith(f"stopped after 0{count} {unit}; nothing is written\n")


def test_signal_lost_in_a_callback_ends_the_run_after_its_batch(files):
    files.write_images("in", 6)
    files.stop("in", 1, handler=lambda: contextlib.suppress(KeyboardInterrupt))
    files.assert_holds(png("0123"), files.people(range(4)))


@pytest.mark.parametrize(("file", "count"), [("2.png.jpg", 3), ("results.txt", 4)])
def test_signal_while_writing_waits_for_picture_and_results(files, monkeypatch, file, count):
    files.write_images("in", 4)

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
            files.detect("in")
    files.assert_holds(png("0123"[:count]), files.people(range(count)))


def test_full_disk_leaves_nothing_half_written(files, tmp_path, no_room):
    write_video(tmp_path / "film.mp4", noise(3, 200, 300))
    people = files.people(frames_of(tmp_path / "film.mp4"))
    with (
        no_room(60000),
        pytest.raises(InputError, match=r"too large\. The results of 3 of 3 images are kept\. Make room"),
    ):
        files.detect("film.mp4")
    files.assert_holds([f"film_{n:06d}" for n in range(3)], people, [])
    files.write_images("in", 1)
    for size, output, kept in ((100, "lost", 0), (2000, "kept", 1)):
        with no_room(size), pytest.raises(InputError, match=rf"File too large\. The results of {kept} of 1 images are"):
            files.detect("in", output=output)
    assert sorted(path.name for path in (tmp_path / "lost").rglob("*")) == ["annotated"]
    assert [path.name for path in (tmp_path / "kept/annotated").iterdir()] == []
    assert list(read_results(tmp_path / "kept/results.txt", ["0.png"])) == ["0.png"]


def test_results_files_stay_of_one_state_if_the_disk_is_full_later(files, tmp_path, no_room):
    files.write_images("in", 1)
    write_video(tmp_path / "in/film.mp4", noise(4))
    with no_room(4000), pytest.raises(InputError, match=r"The results of 1 of 5 images are kept\. Make room"):
        files.detect("in")
    files.assert_holds(["0.png"], files.people([0]))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == ["images.txt", "results.json", "results.txt"]


def test_frames_never_have_the_name_of_an_image(files, tmp_path):
    for number in range(2):
        files.write_image(f"in/film_{number:06d}_visible.png", image(number))
        files.write_image(f"in/film_{number:06d}_lwir.png", np.repeat(image(number, 1), 3, axis=2))
    for name in ("film", "film_lwir", "line\nbreak", "line\nbreak_lwir"):
        grey = [np.repeat(frame[..., :1], 3, axis=2) for frame in noise(2)]
        write_video(tmp_path / f"in/{name}.mp4", grey)
    assert files.detect("in", "teacher")
    stems = ("film", "film.mp4", "line%0Abreak")
    expected = [f"{stem}_{number:06d}" for stem in stems for number in range(2)]
    assert (tmp_path / "out/images.txt").read_text().splitlines() == expected
    assert set(read_results(tmp_path / "out/results.txt", expected)) == set(expected)


def test_picture_of_an_image_too_long_for_jpeg_is_smaller(files, tmp_path):
    files.write_image("long.png", np.zeros((2, 65_520, 3), np.uint8))
    assert files.detect("long.png")
    assert cv2.imread(str(tmp_path / "out/annotated/long.png.jpg")).shape == (1, 32_760, 3)


def test_counts_of_a_video_that_fails_are_not_those_of_the_next(files, tmp_path, capsys):
    grey = [np.repeat(frame[..., :1], 3, axis=2) for frame in noise(6)]
    for name, frames in {"a": grey, "a_ir": [*grey[:4], *noise(2)], "b": noise(4), "b_ir": grey[:4]}.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        write_video(tmp_path / f"in/{name}.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    assert not files.detect("in", "teacher")
    printed = capsys.readouterr().out
    assert "3 channels that differ" in printed
    assert "three equal channels" not in printed
