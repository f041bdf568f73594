"""A teacher with one camera, and pairs of cameras that are not registered."""

import csv

import cv2
import numpy as np
import pytest
from video_files import noise, write_video

from dcrl_jax.errors import InputError
from dcrl_jax.inference.detect_files import detect_files
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.trained import find_registration
from dcrl_jax.registration import Registration, register_lwir

HEIGHT, WIDTH = 32, 48
ZEROS = {"visible": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "lwir": np.zeros((HEIGHT, WIDTH, 1), np.uint8)}


def image(seed, height=HEIGHT, width=WIDTH, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


VISIBLE, LWIR = image(0), image(100, channels=1)


def with_data(trained, role="teacher", options=None, manual_dir=None, **data):
    """The parameters and the config of a detector, as if it had been trained with other ``data`` keys."""
    config = trained(role).config.copy_and_resolve_references()
    with config.unlocked():
        config.data.options.update(options or {})
        config.data.update(data)
        config.data.manual_dir = manual_dir
    return trained(role).params, config


def make_detector(trained, role="teacher", lwir_to_visible=None, **data):
    """A detector of ``with_data``, with the compiled programs of all of its role."""
    detector = Detector(*with_data(trained, role, **data), batch_size=4, lwir_to_visible=lwir_to_visible)
    detector._run = trained(role).detector._run
    return detector


@pytest.fixture
def one_camera(trained):
    """A teacher that was trained with blank images."""
    return make_detector(trained, blank_probability=0.3)


def assert_same(people, others, modalities):
    assert len(others.scores) > 2
    np.testing.assert_allclose(people.boxes, others.boxes, atol=1e-3)
    np.testing.assert_allclose(people.scores, others.scores, rtol=1e-4)
    assert people.modalities == modalities


def test_a_missing_image_is_black_as_in_training(trained, one_camera):
    pairs = trained("teacher").detector
    assert pairs(VISIBLE, LWIR).modalities == ("visible", "lwir")
    assert trained("student").detector(VISIBLE).modalities == ("visible",)
    assert_same(one_camera(VISIBLE, LWIR), pairs(VISIBLE, LWIR), ("visible", "lwir"))
    for people in (one_camera(VISIBLE), one_camera(VISIBLE, None), one_camera([VISIBLE])[0]):
        assert_same(people, pairs(VISIBLE, ZEROS["lwir"]), ("visible",))
    for people in (one_camera(lwir=LWIR), one_camera(None, LWIR), one_camera(lwir=LWIR[None])[0]):
        assert_same(people, pairs(ZEROS["visible"], LWIR), ("lwir",))


def test_black_covers_the_whole_input_and_boxes_are_those_of_the_image_that_is_there(trained, one_camera):
    narrow = image(5, HEIGHT, 24, 1)
    padded = np.pad(narrow, ((0, 0), (12, 12), (0, 0)))
    expected = trained("teacher").detector(ZEROS["visible"], padded)
    people = one_camera(lwir=narrow)
    moved = np.clip(expected.boxes - [12, 0, 12, 0], 0, [24, HEIGHT, 24, HEIGHT])
    np.testing.assert_allclose(people.boxes, moved, atol=1e-3)
    assert people.boxes[:, 2].max() <= 24


def test_pairs_and_single_images_mix_in_one_call(one_camera):
    others = image(1), image(101, channels=1)
    visible = [VISIBLE, None, others[0], VISIBLE, None]
    lwir = [None, LWIR, others[1], LWIR, others[1]]
    together = one_camera(visible, lwir)
    for people, *pair in zip(together, visible, lwir, strict=True):
        given = tuple(name for name, item in zip(("visible", "lwir"), pair, strict=True) if item is not None)
        assert_same(people, one_camera(*pair), given)
    assert one_camera([], []) == one_camera(lwir=[]) == []


@pytest.mark.parametrize(
    ("role", "blank", "arguments", "message"),
    [
        ("teacher", 0.0, {"visible": VISIBLE}, r"this detector is a teacher, .* give the thermal images too\. It has"),
        ("teacher", 0.0, {"lwir": LWIR}, r".* give the visible images too\. It has never .*_probability=0\.2"),
        ("teacher", 0.0, {"visible": [VISIBLE, None], "lwir": [LWIR, LWIR]}, r"\[1\]: this detector is a teacher, "),
        ("teacher", 0.3, {}, "neither a visible nor a thermal image; give at least one"),
        ("teacher", 0.3, {"visible": [VISIBLE, None], "lwir": [LWIR, None]}, r"\[1\]: neither a visible nor a"),
        ("teacher", 0.3, {"visible": [VISIBLE, None], "lwir": [LWIR]}, "2 visible images but 1 thermal ones"),
        ("teacher", 0.3, {"visible": VISIBLE, "lwir": LWIR[:20]}, "thermal image: 48x20 pixels, .* lwir_to_visible"),
        ("teacher", 0.3, {"lwir": VISIBLE}, "thermal image: 3 channels that differ"),
        ("student", 0.3, {"lwir": LWIR}, "this detector is a student, which sees RGB only: give no thermal"),
        ("student", 0.3, {"visible": [VISIBLE, None]}, r"\[1\]: visible image: of type NoneType"),
        ("student", 0.3, {"visible": [VISIBLE], "lwir": [None]}, None),
    ],
)
def test_missing_images_that_are_refused(trained, role, blank, arguments, message):
    detector = make_detector(trained, role, blank_probability=blank)
    if message is None:
        people = detector(**arguments)
        assert isinstance(people, list)
        assert [item.modalities for item in people] == [("visible",)]
        return
    with pytest.raises(InputError, match=f"^{message}"):
        detector(**arguments)


def test_grey_visible_images_are_taken_by_a_detector_that_was_trained_with_them(trained):
    grey = image(3, channels=1)
    for role, others in (("student", ()), ("teacher", (LWIR,))):
        detector = make_detector(trained, role, grey_visible=True)
        expected = trained(role).detector(np.repeat(grey, 3, axis=2), *others)
        for stored in (grey, grey[..., 0]):
            assert_same(detector(stored, *others), expected, detector.modalities)


PART = "10, 8, 58, 40"


@pytest.mark.parametrize(
    ("value", "size", "as_option"),
    [
        *(("stretch", (24, 16), as_option) for as_option in (True, False)),
        *((PART, (64, 48), as_option) for as_option in (True, False)),
        *((PART, (WIDTH, HEIGHT), as_option) for as_option in (True, False)),  # also where the sizes agree
        *(("2 0 -5 0 2 -3 0 0 1", (30, 20), as_option) for as_option in (True, False)),
        ("H.csv", (30, 20), False),
    ],
)
def test_pairs_are_registered_as_trained_or_as_the_user_says(trained, tmp_path, monkeypatch, value, size, as_option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "H.csv").write_text("2,0,-5\n0,2,-3\n0,0,1\n")
    raw = image(7, size[1], size[0], 1)
    if as_option:
        detector = make_detector(trained, options={"lwir_to_visible": value}, manual_dir=str(tmp_path))
    else:
        detector = make_detector(trained, lwir_to_visible=value, options={"lwir_to_visible": "5 5 9 9"})
    assert detector.registration
    registered = register_lwir(raw, detector.registration, (WIDTH, HEIGHT))
    assert_same(detector(VISIBLE, raw), trained("teacher").detector(VISIBLE, registered), ("visible", "lwir"))


def test_wide_values_and_false_colours_are_registered_as_a_data_set_is(trained):
    detector = make_detector(trained, options={"lwir_to_visible": PART}, lwir_range=(7000, 7510))
    assert detector.registration
    eight = image(8, 48, 64, 1)
    counts = 7000 + 2 * eight.astype(np.uint16)
    registered = register_lwir(counts, detector.registration, (WIDTH, HEIGHT))
    expected = trained("teacher").detector(VISIBLE, ((registered.astype(int) - 7000) // 2).clip(0).astype(np.uint8))
    assert_same(detector(VISIBLE, counts), expected, ("visible", "lwir"))
    with pytest.raises(InputError, match=r"^thermal image: 3 channels that differ"):
        detector(VISIBLE, image(9, 48, 64, 3))
    with pytest.raises(InputError, match=r"^thermal image: lwir_to_visible 10.0, 8.0, .* does not lie in its visible"):
        detector(VISIBLE, eight[:5, :5])


def test_file_that_a_config_names_is_asked_for_and_not_opened(trained, tmp_path):
    params, config = with_data(trained, options={"lwir_to_visible": "calib/H.txt"}, manual_dir=str(tmp_path))
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib/H.txt").write_text("10 20 50 60")
    message = r"lwir_to_visible is 'calib/H.txt', a file .* not opened.* give the numbers, .* as --lwir_to_visible"
    with pytest.raises(InputError, match=message):
        Detector(params, config)
    assert Detector(params, config, lwir_to_visible="stretch").registration == Registration(())
    with pytest.raises(InputError, match="not opened"):
        Detector(params, config, lwir_to_visible="")  # as an unset variable of a shell gives
    student, config = with_data(trained, "student", options={"lwir_to_visible": "calib/H.txt"})
    assert Detector(student, config).registration is None
    with pytest.raises(InputError, match="this detector is a student, which sees RGB only: omit lwir_to_visible"):
        find_registration(config, "stretch")


class Files:
    """A folder with files to detect in, and detectors by name."""

    def __init__(self, folder, detectors):
        self.folder, self.detectors = folder, detectors

    def write(self, name, pixels):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)

    def detect(self, source, role="one", output="out", **options):
        source = source and str(self.folder / source)
        if "lwir_source" in options:
            options["lwir_source"] = str(self.folder / options["lwir_source"])
        return detect_files(role, source, self.folder / output, **options)

    def rows(self, file="images.csv"):
        with (self.folder / "out" / file).open(newline="", encoding="utf-8") as stream:
            return list(csv.reader(stream))

    def picture(self, name):
        picture = cv2.imread(str(self.folder / "out/annotated" / name))
        return None if picture is None else picture.shape[:2]


@pytest.fixture
def files(trained, one_camera, tmp_path, monkeypatch):
    registering = make_detector(trained, options={"lwir_to_visible": PART})
    detectors = {"one": one_camera, "pairs": trained("teacher").detector, "student": trained("student").detector}
    detectors["registering"] = registering
    monkeypatch.setattr(Detector, "from_checkpoint", lambda role, **_: detectors[role])
    return Files(tmp_path, detectors)


def test_files_without_a_partner_are_looked_at_with_one_camera(files, capsys):
    for number in range(5):
        if number != 3:
            files.write(f"in/visible/{number}.png", image(number))
        if number != 1:
            files.write(f"in/lwir/{number}.png", image(50 + number, channels=1))
    (files.folder / "in/visible/5.png").write_bytes(b"hello")
    assert files.detect("in", output="pairs")
    printed = capsys.readouterr().out
    assert "3 without a counterpart in the other modality, left out (--allow_missing looks at them):" in printed
    assert not (files.folder / "pairs/images.csv").exists()

    assert not files.detect("in", allow_missing=True)
    printed = capsys.readouterr().out
    assert f"looked at with one camera: 1 lwir only, 1 visible only; {files.folder / 'out/images.csv'} names" in printed
    assert "without a counterpart" not in printed
    assert files.rows() == [
        ["image", "modalities"],
        ["0", "visible+lwir"],
        ["2", "visible+lwir"],
        ["4", "visible+lwir"],
        ["lwir/3.png", "lwir"],
        ["visible/1.png", "visible"],
        ["visible/5.png", ""],
    ]
    assert files.picture("lwir/3.png.jpg") == files.picture("visible/1.png.jpg") == (HEIGHT, WIDTH)
    assert files.picture("0.jpg") == (HEIGHT, 2 * WIDTH + 4)
    count = sum(line.startswith("4,") for line in (files.folder / "out/results.txt").read_text().splitlines())
    assert count == len(files.detectors["one"](lwir=image(53, channels=1)).scores)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("thermal", {}),
        (None, {"lwir_source": "plain"}),
        ("thermal/*.png", {}),
        ("empty.csv", {}),
        ("header.csv", {}),
    ],
)
def test_thermal_files_alone(files, source, options):
    for folder in ("thermal", "plain"):
        files.write(f"{folder}/a.png", image(1, channels=1))
        files.write(f"{folder}/b.png", image(2, channels=1))
    (files.folder / "empty.csv").write_text("visible,lwir\n,thermal/a.png\n,thermal/b.png\n")
    (files.folder / "header.csv").write_text("id;Thermal\r\n1;thermal/a.png\r\n2;thermal/b.png\r\n")
    assert files.detect(source, allow_missing=True, **options)
    assert files.rows()[1:] == [["a.png", "lwir"], ["b.png", "lwir"]]


def test_list_with_empty_cells(files):
    for number in range(3):
        files.write(f"rgb/{number}.png", image(number))
        files.write(f"ir/{number}.png", image(50 + number, channels=1))
    (files.folder / "list.csv").write_text("rgb/0.png,ir/0.png\nrgb/1.png,\n,ir/2.png\n,\n")
    assert files.detect("list.csv", allow_missing=True)
    assert files.rows()[1:] == [["ir/2.png", "lwir"], ["rgb/0.png", "visible+lwir"], ["rgb/1.png", "visible"]]
    assert not files.detect("list.csv", output="strict")
    assert (files.folder / "strict/images.txt").read_text() == "0.png\n"


def test_video_of_one_camera(files, tmp_path):
    write_video(tmp_path / "film.mp4", noise(2, HEIGHT, WIDTH))
    lwir = [frame[..., 0] for frame in noise(3, HEIGHT, WIDTH)]
    write_video(tmp_path / "hot.mkv", lwir, codec="ffv1", pix_fmt="gray")
    assert files.detect("film.mp4", allow_missing=True)
    assert files.rows()[1:] == [["film_000000", "visible"], ["film_000001", "visible"]]
    assert files.rows("frames.csv")[:2] == [
        ["name", "frame", "seconds", "lwir_frame", "lwir_seconds"],
        ["film_000000", "0", "0.000000", "", ""],
    ]
    (tmp_path / "out").rename(tmp_path / "film")
    assert files.detect(None, lwir_source="hot.mkv", allow_missing=True)
    assert files.rows()[1:] == [[f"hot_{number:06d}", "lwir"] for number in range(3)]
    assert files.rows("frames.csv")[1] == ["hot_000000", "", "", "0", "0.000000"]
    assert (tmp_path / "out/annotated/hot.mp4").is_file()
    (tmp_path / "hot.mkv").rename(tmp_path / "drive_thermal.mkv")
    assert files.detect("drive_thermal.mkv", output="out2", allow_missing=True)
    assert files.rows("../out2/images.csv")[1] == ["drive_thermal_000000", "lwir"]


@pytest.mark.parametrize(
    ("role", "source", "options", "message"),
    [
        ("pairs", "a.png", {"allow_missing": True}, r"takes pairs: omit --allow_missing\. It has never .*=0\.2"),
        ("student", "a.png", {"allow_missing": True}, "which sees RGB only: omit --allow_missing"),
        ("one", "film.mp4", {}, "this detector is a teacher, which takes pairs: give the thermal video with --lwir"),
        ("one", "film.mp4", {"allow_missing": True, "lwir_offset_s": 1.0}, "--lwir_offset_s shifts a thermal video"),
        ("one", "a.png", {}, "1 visible and 0 thermal files, no pair .* --allow_missing takes files without a partner"),
        ("one", None, {"lwir_source": "nothing", "allow_missing": True}, "nothing: no such file or folder"),
    ],
)
def test_what_cannot_be_looked_at_with_one_camera(files, tmp_path, role, source, options, message):
    files.write("a.png", image(0))
    write_video(tmp_path / "film.mp4", noise(1))
    with pytest.raises(InputError, match=message):
        files.detect(source, role, **options)
    assert not (tmp_path / "out").exists()


def test_files_are_registered_once(files, trained):
    raw = image(7, 48, 64, 1)
    files.write("in/a_visible.png", VISIBLE)
    files.write("in/a_lwir.png", raw)
    files.write("in/b_visible.png", VISIBLE)
    files.write("in/b_lwir.png", image(8, channels=1))  # of the visible image's size, but registered like the other
    assert files.detect("in", "registering")
    registration = files.detectors["registering"].registration
    lines = (files.folder / "out/results.txt").read_text().splitlines()
    for number, pixels in enumerate((raw, image(8, channels=1)), 1):
        registered = register_lwir(pixels, registration, (WIDTH, HEIGHT))
        scores = trained("teacher").detector(VISIBLE, registered).scores
        found = [float(line.split(",")[5]) for line in lines if line.startswith(f"{number},")]
        np.testing.assert_allclose(found, scores, rtol=1e-3)
