"""Which images and videos a source names, whatever their names and links."""

import os
from pathlib import Path

import PIL.Image
import pytest
from video_files import noise, write_video

from dcrl_jax.errors import InputError
from dcrl_jax.pairs.input_files import find_files, is_video

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def save(path, suffix="png", pages=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [PIL.Image.new("RGB", (6, 4), (40 * page, 0, 0)) for page in range(pages)]
    several = {"save_all": True, "append_images": images[1:]} if pages > 1 else {}
    images[0].save(path, PIL.Image.registered_extensions()[f".{suffix}"], **several)


def names(files):
    return [file.name for file in files]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_content_decides_what_a_file_is(folder):
    for suffix in ["jfif", "jpe", "avif", "jp2", "gif", "ppm", "bmp", "tga", "webp"]:
        save(folder / f"a.{suffix}", suffix)
    save(folder / "image.mp4", "png")
    write_video(folder / "film.mkv", noise(2))
    (folder / "film.mkv").rename(folder / "film.jpg")
    for name, content in {
        "a.txt": b"BM 1 2",
        "b.ts": b"let a = 1",
        "._a.jpg": b"\0\x05\x16\x07",
        "P5.md": b"P5 a",
    }.items():
        (folder / name).write_bytes(content)
    # What a suffix promises is not passed over.
    for name, content in {
        "z.jpg": b"",
        "z.heic": HEIC,
        "z.png": HEIC,
        "z.jxl": b"",
        "z.nef": b"II*\0",
        "z.avi": b"hello",
    }.items():
        (folder / name).write_bytes(content)
    found = find_files(str(folder))
    readable = ["a.avif", "a.bmp", "a.gif", "a.jfif", "a.jp2", "a.jpe", "a.ppm", "a.tga", "a.webp", "image.mp4"]
    assert names(found.images) == [*readable, "z.heic", "z.jpg", "z.jxl", "z.nef", "z.png"]
    assert [file.problem.partition(",")[0] for file in found.images[-5:]] == ["HEIC", "", "JXL", "NEF", "HEIC"]
    assert names(found.videos) == ["film.jpg", "z.avi"]
    assert names(found.others) == ["._a.jpg", "P5.md", "a.txt", "b.ts"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", True),
        ("video as text.txt", True),
        ("without suffix", True),
        ("12:30 [1].mkv", True),
        ("cut.mp4", True),
        ("a.gif", False),
        ("stream.mjpeg", True),
        ("still.gif", False),
        ("a.png", False),
        ("a.jpg", False),
        ("a.avif", False),
        ("image.mp4", False),
        ("a.txt", False),
        ("text.ts", False),
        ("text", False),
        ("", False),
        ("*.mp4", False),
        ("missing.mp4", False),
    ],
)
def test_a_single_video_is_told_by_its_content(tmp_path, name, expected):
    write_video(tmp_path / "a.mkv", noise(2))
    video = (tmp_path / "a.mkv").read_bytes()
    for copy in ("a.mp4", "video as text.txt", "without suffix", "12:30 [1].mkv"):
        (tmp_path / copy).write_bytes(video)
    write_video(tmp_path / "cut.mp4", noise(2))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:900])
    write_video(tmp_path / "stream.mjpeg", noise(2), 10, "mjpeg", "yuvj420p")
    images = [PIL.Image.fromarray(frame) for frame in noise(2)]
    for still in ("still.gif", "a.png", "a.jpg", "a.avif"):
        images[0].save(tmp_path / still)
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    (tmp_path / "image.mp4").write_bytes((tmp_path / "a.png").read_bytes())
    for text in ("a.txt", "text", "text.ts"):
        (tmp_path / text).write_text("hello")
    assert is_video(tmp_path / name) == expected
    assert is_video(str(tmp_path / name)) == expected


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_pages_are_counted(folder, suffix):
    save(folder / f"a.{suffix}", suffix, pages=3)
    save(folder / f"b.{suffix}", suffix)
    assert [file.pages for file in find_files(str(folder)).images] == [(0, 1, 2), (0,)]


def test_previews_in_a_tiff_file_are_no_pages(folder):
    preview = PIL.Image.new("RGB", (3, 2))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    PIL.Image.new("RGB", (6, 4)).save(folder / "a.tif", save_all=True, append_images=[preview])
    preview.save(folder / "b.tif", tiffinfo={254: 1})
    first, second = find_files(str(folder)).images
    assert (first.pages, second.problem) == ((0,), "holds no image but a preview; convert it to PNG or JPEG.")


def test_links_are_followed_once(folder):
    for name in ("in/b/1.png", "outside/2.png", "outside/deep/3.png"):
        save(folder / name)
    os.mkfifo("in/pipe.jpg")
    links = {"a": "b", "b/up": "..", "file.png": "b/1.png", "other.png": "../outside/2.png", "x": "../outside"}
    for name, target in {**links, "y": "../outside", "nowhere.png": "missing.png", "self": "self"}.items():
        (folder / "in" / name).symlink_to(target)
    found = find_files("in")
    assert names(found.images) == ["b/1.png", "other.png", "x/deep/3.png"]
    assert found.problems == [
        "in/pipe.jpg: neither a file nor a folder.",
        "in/nowhere.png: a link to missing.png, which does not exist.",
        "in/self: a link to self, which does not exist.",
    ]
    assert names(find_files("in/**/*.png").images) == ["b/1.png", "other.png", "x/deep/3.png"]
    assert names(find_files("in/x/*.png").images) == ["2.png"]
    with pytest.raises(InputError, match=r"^in/nowhere\.png: a link to missing\.png, which does not exist"):
        find_files("in/nowhere.png")


def test_names_are_bytes_of_one_line(folder):
    save(folder / "in/a.png")
    for name in (b"in/stra\xdfe.png", b"in/a\nb.png"):
        Path(os.fsdecode(name)).write_bytes((folder / "in/a.png").read_bytes())
    assert [os.fsencode(name) for name in names(find_files("in").images)] == [b"a%0Ab.png", b"a.png", b"stra\xdfe.png"]


def test_annotated_copies_of_an_earlier_run_are_no_input(folder):
    for name in ("in/a.png", "in/annotated/b.png", "in/out/annotated/a.png.jpg"):
        save(folder / name)
    for name in ("images.txt", "results.json"):
        (folder / "in/out" / name).touch()
    for source in ("in", "in/**"):
        found = find_files(source)
        assert names(found.images) == ["a.png", "annotated/b.png"]
        assert found.notes == ["in/out/annotated: annotated copies of an earlier run, left out."]
    assert names(find_files("in/out/annotated").images) == ["a.png.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*_RGB.png", {"a_RGB.png": ("a",), "b_RGB.png": ("b",)}),
        ("./?_[RX]*", {"a_RGB.png": ("a", "RGB.png"), "b_RGB.png": ("b", "RGB.png")}),
        ("s*/vis/*.png", {"s1/vis/1.png": ("1", "1"), "s2/vis/1.png": ("2", "1")}),
        ("**/vis/*.png", {"s1/vis/1.png": ("s1", "1"), "s2/vis/1.png": ("s2", "1")}),
        ("s1/**", {"vis/1.png": ("vis/1.png",)}),
        ("s1/**/1.png", {"vis/1.png": ("vis",)}),
        ("[!b]_RGB.png", {"a_RGB.png": ("a",)}),
        ("[^b]_[R]*", {"b_RGB.png": ("b", "RGB.png")}),
        ("[]a]_[z-aR]GB.png", {"a_RGB.png": ("a", "R")}),
        ("**a_*.png", {"a_RGB.png": ("", "RGB")}),
    ],
)
def test_pattern_gives_its_files_and_what_the_wildcards_stand_for(folder, pattern, expected):
    for name in ("a_RGB.png", "b_RGB.png", ".c_RGB.png", "s1/vis/1.png", "s2/vis/1.png"):
        save(folder / name)
    for source in (pattern, f"{folder}/{pattern}"):
        assert {file.name: file.wildcards for file in find_files(source).images} == expected


def test_source_that_does_not_exist_is_refused(folder):
    os.mkfifo("pipe")
    for source, message in (("nowhere", "no such file or folder"), ("pipe", "neither a file nor a folder")):
        with pytest.raises(InputError, match=f"^{source}: {message}"):
            find_files(source)
