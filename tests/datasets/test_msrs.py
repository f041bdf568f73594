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
from prepared_data import findings_of, names, prepare, read, rows

from datasets import checks
from datasets.msrs import Msrs, msrs, open_builder
from dcrl_jax.data import sources
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


def open_msrs(folder, labels="fusion", **options):
    return open_builder(str(folder / "data"), labels, **options)


def error_of(tmp_path, raw, **options):
    """Return the message of a refusal; nothing may be written."""
    with pytest.raises(InputError) as caught:
        prepare(open_msrs(tmp_path, **options), raw)
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
    with pytest.raises(InputError, match="test/ir/00055D: the image is missing"):
        prepare(open_msrs(tmp_path), raw, download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
    builder = open_msrs(tmp_path)
    with pytest.raises(InputError, match=r"\n  1 file missing: test/ir/00055D\.png\n"):
        prepare(builder, raw)
    builder.download_and_prepare()
    assert len(read(builder, "test")) == 2
    assert sources.describe(builder).endswith(f"made from {raw}")
    # Data sets of earlier versions have neither metadata nor a record.
    for name in ("metadata.json", "source.json"):
        (Path(builder.data_dir) / name).unlink()
    builder = prepare(open_msrs(tmp_path, missing_labels="error"), raw)
    assert (sources.warnings_of(builder), len(read(builder, "test"))) == ((), 2)


def test_all_missing_and_broken_files_are_listed_before_writing(tmp_path, raw):
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8))[1].tobytes()
    wide = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH + 8, 3), np.uint8))[1].tobytes()
    changes = {  # the file, its new content (None: deleted), and the problem
        "train/ir/00003N.png": (None, "train/ir/00003N: the image is missing"),
        "train/vi/00017D.png": (b"", "train/vi/00017D.png: 0 bytes that cannot be read as an image."),
        "train/ir/00017D.png": (jpeg[:200], "train/ir/00017D.png: 200 bytes that cannot be read as an image."),
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
    lines = error_of(tmp_path, raw, missing_labels="error").splitlines()
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
    for folder, problem in (("absent", "no such folder"), ("raw/labels/visible/test/00004N.txt", "is not a folder")):
        message = error_of(tmp_path, tmp_path / folder)
        assert message.startswith(f"{tmp_path / folder}: {problem}.\nExpected layout")
    assert "labels/{fusion,visible,infrared}/{train,test}/ID.txt" in message
    assert error_of(tmp_path, "").startswith("manual_dir is empty")


def test_images_without_a_label_file_are_background_that_is_counted_or_an_error(tmp_path, raw, capsys):
    labels = raw / "labels" / "fusion"
    missing, renamed = labels / "train" / "00003N.txt", labels / "train" / "00017D (2).txt"
    missing.unlink()
    (labels / "train" / "00017D.txt").rename(renamed)
    message = error_of(tmp_path, raw, missing_labels="error")
    assert f"{missing}: the label file is missing" in message
    assert "With the option missing_labels='background'" in message
    builder = prepare(open_msrs(tmp_path), raw)
    records = read(builder, "train")
    assert {name: len(rows(record)) for name, record in zip(names(records), records, strict=True)} == {
        **{"00003N": 0, "00017D": 0, "00020D": 1}
    }
    warning = "train split: 2 of 3 images have no label file, taken as background"
    assert sources.warnings_of(builder) == (warning,)
    kind = "image without a label file, taken as background"
    findings = [(kind, f"train: {labels}/train/{image_id}.txt") for image_id in ("00003N", "00017D")]
    assert findings_of(tmp_path / "data") == [("text file that is not used", f"train: {renamed}"), *findings]
    assert f"\n{kind}: 2\n  train: {missing}\n" in (printed := capsys.readouterr().out)
    assert f"\nwarning: {warning}\n" in printed
    with pytest.raises(InputError, match=f"missing_labels is 'error', but .*\n  {warning}\nAdd the label files"):
        open_msrs(tmp_path, missing_labels="error").download_and_prepare()
    # No label file at all is another folder, not background.
    shutil.rmtree(tmp_path / "data")
    for path in (labels / "test").glob("0*.txt"):
        path.unlink()
    assert f"{labels}/test: no label file of any image in {raw}/test" in error_of(tmp_path, raw)


def test_images_of_other_values_than_training_takes_are_findings(tmp_path, raw):
    train, noise = raw / "train", np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
    cv2.imwrite(f"{train}/ir/00003N.png", noise[..., 0])
    cv2.imwrite(f"{train}/ir/00017D.png", noise.astype(np.uint8))
    cv2.imwrite(f"{train}/vi/00020D.png", noise[..., 0].astype(np.uint8))
    assert len(read(prepare(open_msrs(tmp_path), raw), "train")) == 3
    wide, coloured, grey = findings_of(tmp_path / "data")
    assert wide == (checks.MORE_BITS, f"train: {train}/ir/00003N.png: uint16")
    assert coloured[1].startswith(
        f"train: {train}/ir/00017D.png: 3 channels that differ; expected a grey thermal image"
    )
    assert grey[1].startswith(f"train: {train}/vi/00020D.png: grey, 1 channels; expected the three of an RGB image")
    assert coloured[0] == grey[0] == checks.REFUSED


def test_objects_that_are_there_twice_count_once(tmp_path, raw):
    for path in (raw / "labels" / "fusion").glob("*/0*.txt"):
        path.write_text(path.read_text() + path.read_text().replace("0.5 0.5 0.25 0.5", "0.50 .5 0.250 0.5"))
    builder = prepare(open_msrs(tmp_path), raw)
    night, day = sorted(map(rows, read(builder, "test")), key=len, reverse=True)
    assert [label for label, *_ in night + day] == ["person", "car", "person"]
    findings = findings_of(tmp_path / "data")
    assert len(findings) == 7
    assert findings[0] == ("annotation twice, counted once", "train: 00003N: person 12 6 8 12, 2 times")


@pytest.mark.parametrize("labels_too", [True, False])
def test_test_half_alone_can_be_scored(tmp_path, raw, capsys, labels_too):
    shutil.rmtree(raw / "train")
    if labels_too:
        shutil.rmtree(raw / "labels" / "fusion" / "train")
    builder = prepare(open_msrs(tmp_path), raw)
    assert "no training image found: this data set can be scored but not trained on\n" in capsys.readouterr().out
    assert sorted(names(read(builder, "test"))) == list(IDS["test"])
    with pytest.raises(
        InputError, match=r"it has test\. If the copy that it was prepared from lacked the split, remove"
    ):
        read(builder, "train")


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
    with pytest.raises(InputError, match=r"fusion/test/00055D\.txt: the label file is missing"):
        open_msrs(tmp_path, missing_labels="error").download_and_prepare()
    builder = open_msrs(tmp_path)
    builder.download_and_prepare()
    warning = "test split: 1 of 2 images have no label file, taken as background"
    assert sources.warnings_of(builder) == (warning,)
    records = read(builder, "test")
    assert dict(zip(names(records), map(len, map(rows, records)), strict=True)) == {"00004N": 2, "00055D": 0}
    repositories.stop()
    other = open_msrs(tmp_path, "visible")
    other.download_and_prepare()
    assert len(read(other, "test")) == 2
    assert sources.describe(other).endswith(f"made from {msrs.IMAGES_URL} and {msrs.LABELS_URL}")
    # The same files in a folder are the same source, and others are not.
    folder = make_images(tmp_path / "raw")
    make_labels(folder / "labels")
    prepare(open_msrs(tmp_path, "visible"), folder)
    with pytest.raises(InputError, match=r"\n  1 file new: labels/fusion/test/00055D\.txt\n"):
        prepare(open_msrs(tmp_path), folder)


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
