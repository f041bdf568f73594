"""MSRS from small folders, from archives of a local server, and from a part of the real data."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from prepared_data import names, prepare, read, rows

from datasets.msrs import Msrs, msrs, open_builder
from dcrl_jax.errors import InputError

REAL = Path(__file__).parents[2].parent / "shared" / "msrs"
WIDTH, HEIGHT = 32, 24
IDS = {"train": ("00003N", "00017D", "00020D"), "test": ("00004N", "00055D")}


def make_images(root):
    rng = np.random.default_rng(1)
    for split, ids in IDS.items():
        for modality, channels in (("vi", 3), ("ir", 1)):
            (root / split / modality).mkdir(parents=True)
            for image_id in ids:
                image = rng.integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
                cv2.imwrite(str(root / split / modality / f"{image_id}.png"), image)
    return root


def make_labels(root):
    """A person in every image of the fusion set, a car beside it by night; the visible set is empty."""
    for label_set in msrs.LABEL_SETS:
        for split, ids in IDS.items():
            folder = root / label_set / split
            folder.mkdir(parents=True)
            for image_id in ids:
                text = "0 0.5 0.5 0.25 0.5\n" + ("2 0.25 0.75 0.5 0.5\n" if image_id.endswith("N") else "")
                (folder / f"{image_id}.txt").write_text("" if label_set == "visible" else text)
            (folder / "classes.txt").write_text("person\nbicycle\ncar\n")
    return root


@pytest.fixture
def raw(tmp_path):
    make_images(tmp_path / "raw")
    make_labels(tmp_path / "raw" / "labels")
    return tmp_path / "raw"


def open_msrs(folder, labels="fusion"):
    return open_builder(str(folder / "data"), labels)


def error_of(tmp_path, raw):
    """Return the message of a refusal; nothing may be written."""
    with pytest.raises(InputError) as caught:
        prepare(open_msrs(tmp_path), raw)
    assert not (tmp_path / "data").exists()
    return str(caught.value)


def test_records_have_stored_files_conditions_and_boxes_in_pixels(tmp_path, raw):
    builder = prepare(open_msrs(tmp_path), raw)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 3, "test": 2}
    records = sorted(read(builder, "train"), key=lambda record: record["image_id"])
    assert names(records) == list(IDS["train"])
    night, day, _ = records
    assert night["visible"] == (raw / "train" / "vi" / "00003N.png").read_bytes()
    assert night["lwir"] == (raw / "train" / "ir" / "00003N.png").read_bytes()
    assert (night["condition"], day["condition"]) == (1, 0)
    assert rows(night) == [("person", [12, 6, 8, 12], 0, False), ("car", [0, 12, 16, 12], 0, False)]
    assert [label for label, *_ in rows(day)] == ["person"]
    # The visible label set is another config; its files are empty.
    other = read(prepare(open_msrs(tmp_path, "visible"), raw), "test")
    assert [rows(record) for record in other] == [[], []]
    assert Msrs(data_dir=tmp_path / "data").builder_config.name == "fusion"
    # A broken folder does not change prepared data.
    (raw / "test" / "ir" / "00055D.png").unlink()
    with pytest.raises(InputError):
        prepare(open_msrs(tmp_path), raw, download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
    assert len(read(prepare(open_msrs(tmp_path), raw), "test")) == 2


def test_all_missing_and_broken_files_are_listed_before_writing(tmp_path, raw):
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8))[1].tobytes()
    wide = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH + 8, 3), np.uint8))[1].tobytes()
    changes = {  # the file, its new content (None: deleted), and the problem
        "train/ir/00003N.png": (None, "train/ir/00003N: the image is missing"),
        "train/vi/00017D.png": (b"", "train/vi/00017D.png: not a complete image (0 bytes)"),
        "train/ir/00017D.png": (jpeg[:200], "train/ir/00017D.png: not a complete image (200 bytes)"),
        "train/vi/00020D.png": (wide, "train/{vi,ir}/00020D: the sizes of the pair differ, 32x24 and 40x24 pixels"),
        "labels/fusion/train/00020D.txt": (
            b"0 0.5 0.5 0.25 0.5\n7 0.5 0.5 0.25 0.5\n",
            "labels/fusion/train/00020D.txt:2: unknown class 7; known are 0 person, 1 bicycle, 2 car",
        ),
        "labels/fusion/test/00055D.txt": (None, "labels/fusion/test/00055D.txt: the label file is missing"),
        "test/vi/frame4.png": (jpeg, "test/*/frame4: the name is not a number and D (day) or N (night)"),
        "test/vi/00004N.jpg": (jpeg, "test/vi/00004N: 2 files with this name, 00004N.jpg, 00004N.png"),
        "labels/fusion/test/00099N.txt": (b"", "test/vi/00099N: the image is missing"),
    }
    for name, (content, _) in changes.items():
        (raw / name).write_bytes(content or b"")
        if content is None:
            (raw / name).unlink()
    lines = error_of(tmp_path, raw).splitlines()
    problems = [*(problem for _, problem in changes.values()), "test/ir/00099N: the image is missing"]
    assert "10 problems" in lines[0]
    assert sorted(line.strip().removeprefix(f"{raw}/") for line in lines[1:11]) == sorted(problems)


def test_sizes_are_those_of_the_upright_images(tmp_path, raw):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for modality in ("vi", "ir"):
        path = raw / "test" / modality / "00055D.png"
        PIL.Image.open(path).rotate(90, expand=True).save(path, exif=exif)
    builder = prepare(open_msrs(tmp_path), raw)
    (record,) = (record for record in read(builder, "test") if record["image_id"] == b"00055D")
    assert rows(record) == [("person", [12, 6, 8, 12], 0, False)]
    exif[0x0112] = 1
    PIL.Image.open(path).save(path, exif=exif)
    assert "00055D: the sizes of the pair differ, 24x32 and 32x24" in error_of(tmp_path / "other", raw)


def test_other_or_empty_folders_show_the_expected_layout(tmp_path, raw):
    for folder in (raw / "test" / "vi", raw / "test" / "ir", raw / "labels" / "fusion" / "test"):
        shutil.rmtree(folder)
        folder.mkdir()
    assert f"{raw}/test: no images" in error_of(tmp_path, raw)
    (raw / "train").rename(raw / "training")
    shutil.rmtree(raw / "labels" / "fusion")
    message = error_of(tmp_path, raw)
    assert f"{raw}/train/vi: no such folder" in message
    assert f"{raw}/labels/fusion/test: no such folder" in message
    assert "labels/{fusion,visible,infrared}/{train,test}/ID.txt" in message
    assert "6 problems" in error_of(tmp_path, tmp_path / "absent")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def repositories(tmp_path, monkeypatch):
    """A local server of the two repositories; call the function to make their archives and use their URLs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def publish(change=lambda images, labels: None):
        images, labels = make_images(tmp_path / "images" / "MSRS-main"), make_labels(tmp_path / "labels" / "x-master")
        change(images, labels)
        for name, folder in (("images", images.parent), ("labels", labels.parent)):
            shutil.make_archive(tmp_path / "served" / name, "zip", folder)
            url = f"http://127.0.0.1:{server.server_port}/{name}.zip"
            monkeypatch.setattr(msrs, f"{name.upper()}_URL", url)

    publish.stop = lambda: (server.shutdown(), server.server_close())
    yield publish
    publish.stop()


def test_archives_are_downloaded_once_for_all_label_sets(tmp_path, repositories):
    repositories(lambda images, labels: (labels / "fusion" / "test" / "00055D.txt").unlink())
    builder = open_msrs(tmp_path)
    builder.download_and_prepare()
    # An image without a label file has no objects.
    records = read(builder, "test")
    assert dict(zip(names(records), map(len, map(rows, records)), strict=True)) == {"00004N": 2, "00055D": 0}
    repositories.stop()
    other = open_msrs(tmp_path, "visible")
    other.download_and_prepare()
    assert len(read(other, "test")) == 2


def test_failed_download_or_archive_of_another_content_is_refused(tmp_path, repositories, monkeypatch):
    repositories(lambda images, labels: shutil.rmtree(images / "train" / "vi"))

    def is_refused(message):
        with pytest.raises(InputError, match=message):
            open_msrs(tmp_path).download_and_prepare()
        assert not list((tmp_path / "data").rglob("*.array_record*"))
        shutil.rmtree(tmp_path / "data")

    is_refused(r"train/vi: no such folder")
    (tmp_path / "served" / "labels.zip").write_text("<html>log in</html>")
    is_refused("is not a zip archive")
    monkeypatch.setattr(msrs, "LABELS_URL", msrs.IMAGES_URL.replace("images", "absent"))
    for images_url in (msrs.IMAGES_URL, "http://127.0.0.1:9/images.zip"):
        monkeypatch.setattr(msrs, "IMAGES_URL", images_url)
        is_refused(r"absent\.zip could not be downloaded.*manual_dir")


@pytest.mark.skipif(not REAL.is_dir(), reason="no part of the real data beside the repository")
def test_part_of_the_real_data_is_read(tmp_path):
    builder = prepare(open_msrs(tmp_path), REAL)
    counts = {}
    for split in msrs.SPLITS:
        records = read(builder, split)
        people = sum(record["objects"]["label"].count(b"person") for record in records)
        counts[split] = (len(records), sum(record["condition"] for record in records), people)
    assert counts == {"train": (170, 86, 420), "test": (72, 36, 164)}
