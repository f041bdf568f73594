"""What to detect in, from what a user names: images, pairs, pages and videos."""

import PIL.Image
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.scenes import find_scenes


@pytest.fixture
def touch(tmp_path, monkeypatch):
    """Returns a function that makes files, which need no content but their suffix; the folder is the current one."""
    monkeypatch.chdir(tmp_path)

    def make(names):
        for name in names.split():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def listed(scenes):
    """Each scene's name and files."""
    return [(scene.name, *(str(file.path) for file in scene[1:3] if file)) for scene in scenes]


SETS = "set00/visible/1.jpg set00/lwir/1.jpg set01/visible/1.jpg set01/lwir/1.jpg set01/x.txt"
FLIR = "a/0_RGB.jpg b/0_PreviewData.jpeg a/1_RGB.jpg b/1_PreviewData.jpeg"


@pytest.mark.parametrize(
    ("files", "source", "lwir", "names"),
    [
        (SETS, "set01/**", None, "1"),
        (SETS, "*/visible/*", "*/lwir/*", "set00/1 set01/1"),
        (SETS, ".", None, "set00/1 set01/1"),
        (SETS, ".", ".", "set00/1 set01/1"),
        ("set0/1.jpg set0/ir/1.jpg", "set0", "set0/ir", "1"),
        (FLIR, "a/*_RGB.jpg", "b/*_PreviewData.jpeg", "0 1"),
        (FLIR, "a/?_RGB.jpg", "b/*_PreviewData.jpeg", "0 1"),
        (FLIR, "a", "b/*", "0 1"),
        ("a/x1.jpg b/y1.png a/x2.jpg b/y2.png", "a/x*", "b/y*", "1 2"),
        ("1_hot.jpg 1_day.png 2_hot.png 2_day.png", "*_day.*", "*_hot.*", "1 2"),
        ("a/1.jpg a/2.jpg b/1.png b/3.png", "a", "b", "1"),
        ("a/1.jpg b/7.jpg", "a/1.jpg", "b/7.jpg", "1"),
        ("a/1_rgb.jpg b/1_ir.jpg", "a/1_rgb.jpg", "b/1_ir.jpg", "1"),
    ],
)
def test_pairs_are_found_in_one_or_two_sources(touch, files, source, lwir, names):
    touch(files)
    assert [scene.name for scene in find_scenes(source, lwir, True).images] == names.split()


def test_images_keep_their_names_for_a_detector_of_rgb(touch):
    touch("grey.jpg grey.png sub/c.webp lwir_camera.jpg notes.txt 0_W.JPG 0_T.JPG street_ir.jpg film.mkv film_ir.mp4")
    images, videos, unmatched, problems, notes = find_scenes(".", None, False)
    assert [scene.name for scene in images] == ["0_W.JPG", "grey.jpg", "grey.png", "lwir_camera.jpg", "sub/c.webp"]
    assert listed(videos) == [("film.mkv", "film.mkv")]
    assert (unmatched, problems) == ([], [])
    assert notes == [
        "1 other files (.txt 1) are neither images nor videos, left out: .",
        "2 of 7 files are thermal by their names, left out: 0_T.JPG, street_ir.jpg",
        "1 of 2 files are thermal by their names, left out: film_ir.mp4",
    ]


def test_videos_of_a_folder_are_pairs_too_and_the_rest_is_unmatched(touch):
    touch("film_rgb.mp4 film_ir.mkv other.avi a_rgb.jpg")
    images, videos, unmatched, _, _ = find_scenes(".", None, True)
    assert (images, listed(videos)) == ([], [("film", "film_rgb.mp4", "film_ir.mkv")])
    assert list(map(str, unmatched)) == ["a_rgb.jpg", "other.avi"]


def test_two_pairs_of_one_name_are_a_problem_but_not_the_end(touch):
    touch("a_rgb.jpg a_rgb.png a_ir.jpg b_rgb.jpg b_ir.jpg c-rgb.jpg c-ir.jpg c.jpg c_ir.jpg")
    scenes = find_scenes(".", None, True)
    assert listed(scenes.images) == [
        ("b", "b_rgb.jpg", "b_ir.jpg"),
        ("c", "c.jpg", "c_ir.jpg"),
        ("c-rgb.jpg", "c-rgb.jpg", "c-ir.jpg"),
    ]
    assert ["it is unclear" in problem for problem in scenes.problems] == [True]


def test_two_images_never_share_a_name(tmp_path, touch):
    pages = [PIL.Image.new("RGB", (6, 4)) for _ in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "a.tif#0002", "PNG")
    touch("b%0A.png")
    (tmp_path / "b\n.png").touch()
    scenes = find_scenes(".", None, False)
    assert [scene.name for scene in scenes.images] == ["a.tif#0001", "a.tif#0002", "b%0A.png"]
    assert [problem.rpartition("; ")[2] for problem in scenes.problems] == ["rename it."] * 2


def test_pages_are_images_and_pairs(tmp_path, touch):
    for name, count in (("a_rgb.tif", 3), ("a_ir.tif", 2)):
        pages = [PIL.Image.new("RGB", (6, 4)) for _ in range(count)]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    scenes = find_scenes(".", None, True)
    assert [(scene.name, scene.page) for scene in scenes.images] == [("a#0001", 0), ("a#0002", 1)]
    assert scenes.problems == [
        "a_rgb.tif holds 3 and a_ir.tif holds 2 images; those without a counterpart are left out."
    ]
    names = [scene.name for scene in find_scenes("a_rgb.tif", None, False).images]
    assert names == ["a_rgb.tif#0001", "a_rgb.tif#0002", "a_rgb.tif#0003"]


@pytest.mark.parametrize(
    ("lines", "needs_lwir", "expected"),
    [
        ("a/1.jpg,b/2.png\na/3.jpg,b/4.png", True, "1.jpg 2.png 3.jpg 4.png"),
        ("\ufeffVisible,LWIR\r\na/1.jpg,b/2.png\r\n\r\n", True, "1.jpg 2.png"),
        ("id;thermal;rgb\n7;b/2.png;a/1.jpg\n", True, "1.jpg 2.png"),
        ('"a/1.jpg"\tb/2.png', True, "1.jpg 2.png"),
        ("a/1.jpg,b/2.png\na/3.jpg", False, "1.jpg 3.jpg"),
        ('"a/1.jpg";"b/5,6,7.png"', True, "1.jpg 5,6,7.png"),
    ],
)
def test_list_names_the_pairs(tmp_path, touch, lines, needs_lwir, expected):
    touch("in/a/1.jpg in/b/2.png in/a/3.jpg in/b/4.png in/b/5,6,7.png")
    (tmp_path / "in/pairs.csv").write_bytes(lines.encode())
    scenes = find_scenes("in/pairs.csv", None, needs_lwir)
    assert scenes.problems == []
    assert [file.path.name for scene in scenes.images for file in scene[1:3] if file] == expected.split()
    assert [scene.name for scene in scenes.images] == expected.split()[:: 1 + needs_lwir]


@pytest.mark.parametrize(
    ("files", "source", "lwir", "expected"),
    [
        ("vi/1.png ir/1.png vi/2.png ir/3.png", ".", None, "1:vi/1.png,ir/1.png ir/3.png:,ir/3.png vi/2.png:vi/2.png,"),
        ("a/1.png a/2.png b/2.jpg b/3.jpg", "a", "b", "1.png:a/1.png, 2:a/2.png,b/2.jpg 3.jpg:,b/3.jpg"),
        ("thermal/1.png", "thermal", None, "1.png:,thermal/1.png"),
        ("plain/1.png", "plain", None, "1.png:plain/1.png,"),
        ("plain/1.png", None, "plain", "1.png:,plain/1.png"),
        ("1_T.png", "1_T.png", None, "1_T.png:1_T.png,"),
        ("1_ir.png", "1_ir.png", None, "1_ir.png:,1_ir.png"),
        ("a.png b.png", "a.png", "b.png", "a:a.png,b.png"),
    ],
)
def test_files_without_a_partner_are_scenes_if_one_may_be_missing(touch, files, source, lwir, expected):
    touch(files)
    scenes = find_scenes(source, lwir, True, allow_missing=True)
    found = [f"{s.name}:{s.visible.path if s.visible else ''},{s.lwir.path if s.lwir else ''}" for s in scenes.images]
    assert found == expected.split()
    assert (scenes.unmatched, scenes.problems) == ([], [])


def test_every_bad_line_of_a_list_is_named(tmp_path, touch):
    touch("1.jpg 2.png 3.jpg film.mp4 notes.txt")
    lines = "visible,lwir 1.jpg,2.png 1.jpg,2.png 3.jpg,no.png 3.jpg notes.txt,2.png film.mp4,2.png".replace(" ", "\n")
    long = "x" * 300  # than a name may be
    (tmp_path / "pairs.csv").write_text(f"{lines}\n{long},2.png")
    scenes = find_scenes("pairs.csv", None, True)
    assert listed(scenes.images) == [("1.jpg", "1.jpg", "2.png")]
    assert scenes.problems == [
        "pairs.csv:3: 1.jpg is in line 2 already.",
        "pairs.csv:4: no.png: no such file.",
        "pairs.csv:5: '3.jpg'; expected paths in visible and lwir.",
        "pairs.csv:6: notes.txt: neither an image nor a video.",
        "pairs.csv:7: an image and a video; expected two of a kind.",
        f"pairs.csv:8: {long}: no such file.",
    ]


@pytest.mark.parametrize(
    ("files", "source", "lwir", "needs_lwir", "message"),
    [
        ("", "nowhere", None, False, "nowhere: no such file or folder"),
        ("", ".", None, False, r"\.: no image and no video \(no files\)"),
        ("a.txt", "a.txt", None, False, r"a.txt: no image and no video \(1 other files \(.txt 1\)\)"),
        ("a.jpg", "*.png", None, False, r"no image and no video \(no files\)"),
        ("a.jpg", ".", "*.png", True, r"\*.png: no image and no video \(no files\)"),
        ("a_lwir.jpg", ".", None, False, "thermal images only by their names; this detector takes visible images"),
        ("ir/a.jpg", "ir", None, False, "thermal images only by their names"),
        ("ir/a.jpg", "ir/*.jpg", None, False, "thermal images only by their names"),
        (
            "a.jpg",
            "a.jpg",
            None,
            True,
            r"1 visible and 0 thermal files, no pair \(a.jpg\).* or give .* with --lwir, or a",
        ),
        ("a_visible.jpg b_lwir.jpg", ".", None, True, r"1 visible and 1 thermal files, no pair \(a_v.*, b_l"),
        ("a/1.jpg b/2.jpg", "a", "b", True, r"1 visible and 1 thermal files, no pair \(a/1.jpg, b/2.jpg\)"),
        ("p.csv a.jpg", "p.csv", "a.jpg", True, "p.csv is a list of pairs, which names the thermal files: omit --lwir"),
        ("p.csv", "p.csv", None, True, "p.csv: no line that can be used; expected the columns visible and lwir"),
    ],
)
def test_source_that_names_nothing_usable_is_refused(touch, files, source, lwir, needs_lwir, message):
    touch(files)
    with pytest.raises(InputError, match=message):
        find_scenes(source, lwir, needs_lwir)
