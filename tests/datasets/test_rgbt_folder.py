"""A folder of pairs as a data set: small folders, and the real ones in every label format."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from folder_copies import HEIGHT, WIDTH, write, write_image, write_pairs
from prepared_data import findings_of, lines_of_counts, names, prepare, read, rows, table_of

from datasets import checks, msrs
from datasets.rgbt_folder import RgbtFolder, open_builder
from datasets.rgbt_folder.checks import COPIED
from datasets.rgbt_folder.pair_check import NO_LABELS, SIZES_DIFFER
from dcrl_jax import decoding
from dcrl_jax.annotations.types import UNREADABLE
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared"
MSRS = SHARED / "msrs"
SPLITS = ("train", "test")
VOC = (
    "<annotation><object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "</object></annotation>"
)


def open_folder(folder, **options):
    return open_builder(str(folder / "data"), **options)


@pytest.fixture
def raw(tmp_path):
    """Pairs of two splits by day and night, with VOC labels of a person and a car; one image has none."""
    root = tmp_path / "meine Daten"
    write_pairs(root, ["train/d1", "train/d2", "train/n1", "test/d1", "test/n2"])
    for name in ("train/d1", "train/n1", "test/d1", "test/n2"):
        write(root / "Annotations" / f"{name}.xml", VOC.format("Pedestrian", 4, 2, 12, 20))
    write(root / "Annotations" / "train" / "d2.xml", VOC.format("car", 0, 0, 10, 10))
    return root


def refusal(tmp_path, raw, **options):
    """Return the message of a refusal; no records may be written."""
    with pytest.raises(InputError) as caught:
        prepare(open_folder(tmp_path, **options), raw)
    assert not list((tmp_path / "data").rglob("*.array_record*"))
    return str(caught.value)


def test_records_have_stored_files_conditions_and_labels(tmp_path, raw, capsys):
    (raw / "Annotations" / "train" / "n1.xml").unlink()
    builder = prepare(open_folder(tmp_path, night=r"(^|/)n\d", ignore_labels="car", name="street"), raw)
    assert isinstance(builder, RgbtFolder)
    assert builder.info.full_name.startswith("rgbt_folder/street-")
    train = read(builder, "train")
    assert names(train) == ["train/d1", "train/d2", "train/n1"]
    assert names(read(builder, "test")) == ["test/d1", "test/n2"]
    assert [record["condition"] for record in train] == [0, 0, 1]
    assert train[0]["visible"] == (raw / "visible" / "train" / "d1.png").read_bytes()
    assert train[0]["lwir"] == (raw / "lwir" / "train" / "d1.png").read_bytes()
    assert [rows(record) for record in train] == [
        [("person", [4, 2, 8, 18], 0, False)],
        [("ignore", [0, 0, 10, 10], 0, True)],
        [],
    ]
    text = builder.info.metadata["table"]
    for line in (
        "pairs: by the names of all images",
        "splits: the folders",
        r"day and night: night='(^|/)n\\d'",
        "labels: visible",
        "label formats: VOC 4",
        "image sizes: 32x24 5",
        "Pedestrian        3  person",
        "car               1  ignore",
    ):
        assert f"\n{line}\n" in f"\n{text}\n"
    counts = lines_of_counts(
        train="pairs 3 2 1, pairs without a person 2 1 1, people 1 1 0, ignored 1 1 0",
        test="pairs 2 1 1, pairs without a person 0 0 0, people 2 1 1, ignored 0 0 0",
    )
    assert table_of(builder)[-8:] == counts
    warning = "train split: 1 of 3 images have no labels, taken as background"
    assert sources.warnings_of(builder) == (warning,)
    assert findings_of(tmp_path / "data") == [(NO_LABELS, "train: train/n1")]
    assert f"warning: {warning}\n" in capsys.readouterr().out
    message = refusal(tmp_path / "other", raw, missing_labels="error")
    assert message.startswith("1 of 3 train images have no labels: train/n1. Add their label files; or with")


def test_a_prepared_folder_is_compared_with_what_it_was_made_from(tmp_path, raw):
    prepare(open_folder(tmp_path), raw)
    prepare(open_folder(tmp_path), raw)
    label = raw / "Annotations" / "train" / "d1.xml"
    label.write_text(label.read_text().replace(">4<", ">5<"))
    write(raw / "notes.txt", "not used")
    write_image(raw / "visible" / "train" / "alone.png")
    with pytest.raises(InputError, match=r"there are\n  1 file changed: Annotations/train/d1\.xml\nTo use"):
        prepare(open_folder(tmp_path), raw)
    # Other options are other prepared data beside it.
    assert len(read(prepare(open_folder(tmp_path, labels="both"), raw), "train")) == 3
    write_image(raw / "lwir" / "train" / "alone.png", 1)
    with pytest.raises(InputError, match=r"2 files new: lwir/train/alone\.png, visible/train/alone\.png"):
        prepare(open_folder(tmp_path), raw)


def test_damaged_files_leave_their_pairs_out_and_are_errors_in_the_test_split(tmp_path, raw, capsys):
    lwir, broken = raw / "lwir" / "train" / "d1.png", raw / "Annotations" / "train" / "d2.xml"
    lwir.write_bytes(lwir.read_bytes()[:-20])
    broken.write_text("<annotation><object>")
    write_image(raw / "lwir" / "train" / "n1.png", 1, dtype=np.uint16)
    write_image(raw / "visible" / "train" / "n1.png", 1)
    builder = prepare(open_folder(tmp_path), raw)
    assert names(read(builder, "train")) == ["train/n1"]
    assert "incomplete train split: 2 of 3 images are left out" in sources.warnings_of(builder)
    found = findings_of(tmp_path / "data")
    assert [kind for kind, _ in found] == [checks.IMAGE_UNREADABLE, UNREADABLE, checks.GREY, checks.MORE_BITS]
    assert found[0][1] == f"train: {lwir}: cut off: its end is missing"
    assert found[1][1].startswith(f"train: {broken}: not well-formed XML")
    (raw / "visible" / "test" / "d1.png").write_bytes(b"no image")
    message = refusal(tmp_path / "new", raw)
    assert message.startswith("the test split is incomplete: 1 image unreadable; ")
    builder = prepare(open_folder(tmp_path, allow_incomplete=True, name="part"), raw)
    assert names(read(builder, "test")) == ["test/n2"]
    consequence = "are left out; scores on it are not comparable with others"
    assert f"incomplete test split: 1 of 2 images {consequence}" in sources.warnings_of(builder)
    assert "\ngrey visible image; runs take it with --config.data.grey_visible=True: 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".TIFF"])
def test_images_of_any_format_are_stored_unchanged_and_decode(tmp_path, raw, suffix):
    for path in [*raw.glob("visible/*/*.png"), *raw.glob("lwir/*/*.png")]:
        with PIL.Image.open(path) as image:
            image.save(path.with_suffix(suffix))
        if suffix != ".png":
            path.unlink()
    records = read(prepare(open_folder(tmp_path), raw), "train")
    path = raw / "visible" / "train" / f"d1{suffix}"
    assert records[0]["visible"] == path.read_bytes()
    visible = decoding.decode(records[0]["visible"], "visible")[0]
    assert visible.shape == (HEIGHT, WIDTH, 3)
    assert decoding.decode(records[0]["lwir"], "lwir")[0].shape[:2] == (HEIGHT, WIDTH)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    prepare(open_folder(tmp_path, name="cut", allow_incomplete=True), raw)
    assert [kind for kind, _ in findings_of(tmp_path / "data")] == [checks.IMAGE_UNREADABLE]


def test_thermal_images_of_another_size_need_the_option_that_says_where_they_lie(tmp_path, raw):
    for path in raw.glob("lwir/*/*.png"):
        write_image(path, 1, WIDTH // 2, HEIGHT // 2, np.uint16, 20_000, 30_000)
    message = refusal(tmp_path, raw)
    assert message.startswith("the images of a pair differ in size: visible 32x24 thermal 16x12: 5 pairs. If both")
    assert "lwir_to_visible=stretch" in message
    assert {kind for kind, _ in findings_of(tmp_path / "data")} >= {SIZES_DIFFER}
    for path in raw.glob("Annotations/*/*.xml"):
        path.replace(path.with_name(f"{path.stem}_thermal.xml"))
    builder = prepare(open_folder(tmp_path, lwir_to_visible="stretch", labels="lwir"), raw)
    record = read(builder, "train")[0]
    assert rows(record) == [("person", [8, 4, 16, 36], 0, False)]
    lwir, dtype = decoding.decode(record["lwir"], "lwir")
    assert (lwir.shape, dtype) == ((HEIGHT, WIDTH), "uint16")
    thermal = decoding.decode((raw / "lwir" / "train" / "d1.png").read_bytes(), "lwir")[0]
    assert abs(float(lwir.mean()) - thermal.mean()) < 500
    assert 20_000 <= lwir.min() <= lwir.max() <= 30_000
    opaque = PIL.Image.merge("LA", [PIL.Image.new("L", (WIDTH, HEIGHT), grey) for grey in (200, 255)])
    opaque.save(raw / "lwir" / "train" / "d1.png")
    record = read(
        prepare(open_folder(tmp_path, lwir_to_visible=(0, 0, WIDTH, 2 * HEIGHT), labels="lwir"), raw), "train"
    )[0]
    lwir, _ = decoding.decode(record["lwir"], "lwir")
    assert lwir.shape == (HEIGHT, WIDTH)
    assert (lwir[HEIGHT // 4].min(), lwir[-1].max()) == (200, 0)
    with pytest.raises(InputError, match=r"lwir_to_visible 100.*does not lie in its visible image"):
        prepare(open_folder(tmp_path, lwir_to_visible=(100, 0, 200, 9), labels="lwir"), raw)


def test_a_file_that_describes_the_registration_is_a_source(tmp_path, raw):
    path = write(raw / "camera.txt", "1 0 0\n0 1 0\n0 0 1\n")
    prepare(open_folder(tmp_path, lwir_to_visible="camera.txt"), raw)
    path.write_text("1 0 1\n0 1 0\n0 0 1\n")
    with pytest.raises(InputError, match=r"1 file changed: camera\.txt"):
        prepare(open_folder(tmp_path, lwir_to_visible="camera.txt"), raw)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            "labels of test",
            {},
            r"no label for any of the 2 test images \(test/d1, test/n2\)\. Expected in the folder",
        ),
        (
            "other labels",
            {"label_folder": "wrong"},
            r"Label files of no image that is there: wrong/x\.xml\. Exp",
        ),
        (
            "thermal labels",
            {},
            r"5 pairs have labels of the lwir image, by a word in their path: use them with l",
        ),
        (
            "yolo",
            {},
            r"d1\.txt: YOLO labels have numbers for classes, and nothing names them",
        ),
        ("yolo names", {}, r"data\.yaml: the class names .* Or name the classes: class_names=NAME,NAME"),
        (None, {"person_labels": "rider"}, r"Found: Pedestrian \(4\), car \(1\)\. Expected one of: rider"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_a_remedy(tmp_path, raw, change, options, message):
    labels = raw / "Annotations"
    if change == "labels of test":
        shutil.rmtree(labels / "test")
    elif change == "other labels":
        write(raw / "wrong" / "x.xml", "")
    elif change == "thermal labels":
        labels.rename(raw / "thermal labels")
    elif change:
        for path in labels.glob("*/*.xml"):
            write(path.with_suffix(".txt"), "0 0.5 0.5 0.1 0.1\n")
            path.unlink()
        if change == "yolo names":
            write(raw / "classes.txt", "person\n")
            write(raw / "data.yaml", "names: [car]\n")
    with pytest.raises(InputError, match=f"(?s){message}"):
        prepare(open_folder(tmp_path, **options), raw)


def test_labels_of_none_reads_no_label_and_says_so(tmp_path, raw, capsys):
    train = read(prepare(open_folder(tmp_path, labels="none", split="train"), raw), "train")
    assert [len(record["objects"]["label"]) for record in train] == [0] * 5
    assert "labels=none: the pairs have no labels and serve as data.unlabelled only" in capsys.readouterr().out
    assert findings_of(tmp_path / "data") == []


def test_class_names_that_disagree_do_not_matter_without_yolo_labels(tmp_path, raw):
    write(raw / "classes.txt", "person\n")
    write(raw / "data.yaml", "names: [car]\n")
    prepare(open_folder(tmp_path), raw)
    assert findings_of(tmp_path / "data") == []


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_one_split_says_what_is_possible(tmp_path, raw, capsys, split):
    builder = prepare(open_folder(tmp_path, split=split), raw)
    assert [*builder.info.splits] == [split]
    assert names(read(builder, split))[0] == "test/d1"
    printed = capsys.readouterr().out
    assert (checks.NO_TRAINING_IMAGE in printed) == (split != "train")
    assert ("\nno test split: runs score the validation split" in printed) == (split == "validation")
    assert ("\nno test split: nothing to score on" in printed) == (split == "train")


def test_a_line_of_the_test_list_without_a_pair_is_a_missing_test_image(tmp_path, raw):
    write(raw / "lists" / "a.txt", "train/d1\ntrain/d2\ntrain/n9")
    write(raw / "lists" / "b.txt", "test/d1\ntest/n9")
    options = {"train_list": "lists/a.txt", "test_list": "lists/b.txt"}
    assert refusal(tmp_path, raw, **options).startswith(
        "the test split is incomplete: 1 line of a list that names no pair; "
    )
    builder = prepare(open_folder(tmp_path, allow_incomplete=True, **options), raw)
    assert [text for text in sources.warnings_of(builder) if text.startswith("incomplete")] == [
        "incomplete train split: 1 of 3 images are left out",
        "incomplete test split: 1 of 2 images are left out; scores on it are not comparable with others",
    ]
    (raw / "lists" / "a.txt").write_text("train/d1\n")
    with pytest.raises(InputError, match=r"1 file changed: lists/a\.txt"):
        prepare(open_folder(tmp_path, **options), raw)


def unusable_labels(raw):
    write(raw / "classes.txt", "person\n")
    for path in raw.glob("Annotations/*/*.xml"):
        write(path.with_suffix(".txt"), "0 12 8 4 9\n")
        path.unlink()


def labels_of_several(raw):
    shutil.rmtree(raw / "Annotations")
    for name in ("d1", "d2", "n1"):
        write_image(raw / "visible" / "test" / f"{name}.png")
        write_image(raw / "lwir" / "test" / f"{name}.png")
        write(raw / "labels" / f"{name}.xml", VOC.format("person", 4, 2, 12, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unusable_labels, r"no pair can be used: annotation unreadable 5, such as .*txt:1: x = 12 is not relative"),
        (labels_of_several, r"put it into the folder of its pair: .*/labels/d1\.xml: t.*/d1, t.*/d1\."),
    ],
    ids=["labels in pixels", "labels of several pairs"],
)
def test_a_folder_of_which_nothing_can_be_used_says_why(tmp_path, raw, change, message):
    change(raw)
    with pytest.raises(InputError, match=f"(?s){message}"):
        prepare(open_folder(tmp_path), raw)


def test_labels_in_a_folder_of_another_name_are_read_as_the_message_says(tmp_path):
    raw = write_pairs(tmp_path / "raw", ["a_1", "a_2", "b_1", "b_2"], "cam/rgb/{}.png", "cam/ir/{}.png")
    for name in ("a_1", "a_2", "b_1", "b_2"):
        write(raw / "Anna" / f"{name}.xml", VOC.format("person", 4, 2, 12, 20))
    message = refusal(tmp_path, raw)
    assert "Label files of no image that is there: Anna/a_1.xml, " in message
    assert "label_folder=Anna reads those in a folder of another name." in message
    assert len(read(prepare(open_folder(tmp_path, label_folder="Anna"), raw), "train")) == 2


def test_copies_of_images_and_splits_without_people_are_warnings(tmp_path, raw):
    shutil.copy(raw / "visible" / "test" / "d1.png", raw / "visible" / "train" / "d2.png")
    shutil.copy(raw / "visible" / "train" / "d1.png", raw / "visible" / "train" / "n1.png")
    for path in (raw / "Annotations" / "test").iterdir():
        path.write_text("<annotation></annotation>")
    builder = prepare(open_folder(tmp_path, person_labels="pedestrian,rider"), raw)
    assert findings_of(tmp_path / "data") == [
        (COPIED, "train: visible/train/d2.png: as test: visible/test/d1.png"),
        (COPIED, "train: visible/train/n1.png: as train: visible/train/d1.png"),
    ]
    assert sources.warnings_of(builder)[1:] == (
        "no object has the label rider, which person_labels or ignore_labels names",
        "test split: no image has a person",
        "images that are also in another split: 1; scores on images of training say little",
    )


def records_of(builder):
    """Return all records by split and id, with their boxes in order of label and place."""
    return {
        split: {
            record["image_id"].decode(): (record["condition"], record["visible"], record["lwir"], sorted(rows(record)))
            for record in read(builder, split)
        }
        for split in SPLITS
    }


def real_copy(folder):
    """Return a folder with links to the real images, without labels."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        for modality in ("vi", "ir"):
            (folder / split / modality).symlink_to(MSRS / split / modality)
    return folder


def write_voc(root, records):
    for split, by_id in records.items():
        for image_id, (*_, objects) in by_id.items():
            parts = [VOC.format(label, x, y, x + w, y + h) for label, (x, y, w, h), *_ in objects]
            text = "".join(parts).replace("</annotation><annotation>", "") or "<annotation></annotation>"
            write(root / "Annotations" / split / f"{image_id}.xml", text)


def write_kaist(root, records):
    for split, by_id in records.items():
        for image_id, (*_, objects) in by_id.items():
            lines = [f"{label} {x} {y} {w} {h} 0 0 0 0 0 0 0\n" for label, (x, y, w, h), *_ in objects]
            write(root / "labels" / split / f"{image_id}.txt", "% bbGt version=3\n" + "".join(lines))


def coco_of(records, file_name):
    images, annotations, categories = [], [], ["person", "bicycle", "car"]
    for split, by_id in records.items():
        for image_id, (*_, objects) in by_id.items():
            images.append({"id": image_id, "file_name": file_name(split, image_id), "width": 640, "height": 480})
            annotations += [
                {"id": f"{image_id}{i}", "image_id": image_id, "category_id": categories.index(label), "bbox": box}
                for i, (label, box, *_) in enumerate(objects)
            ]
    named = [{"id": index, "name": name} for index, name in enumerate(categories)]
    return json.dumps({"images": images, "annotations": annotations, "categories": named})


def write_one_coco(root, records):
    write(root / "labels.json", coco_of(records, lambda split, image_id: f"datasets/msrs/{split}/{image_id}.jpg"))


def write_coco_of_each_split(root, records):
    for split in records:
        text = coco_of({split: records[split]}, lambda split, image_id: f"{image_id}.png")
        write(root / "annotations" / f"instances_{split}.json", text)


@pytest.mark.skipif(not MSRS.is_dir(), reason="no part of the real data beside the repository")
def test_real_pairs_give_the_records_of_their_own_builder_in_every_label_format(tmp_path):
    expected = records_of(prepare(msrs.open_builder(str(tmp_path / "msrs")), MSRS))
    options = {"label_folder": "labels/fusion", "class_names": "person,bicycle,car", "night": "N$"}
    assert records_of(prepare(open_folder(tmp_path, **options), MSRS)) == expected
    assert sum(map(len, expected.values())) == 242
    for write_labels, kind in (
        (write_voc, "VOC"),
        (write_kaist, "KAIST"),
        (write_one_coco, "COCO"),
        (write_coco_of_each_split, "COCO"),
    ):
        copy = real_copy(tmp_path / write_labels.__name__)
        write_labels(copy, expected)
        builder = prepare(open_builder(str(copy / "data"), night="N$"), copy)
        assert f"\nlabel formats: {kind} 242\n" in builder.info.metadata["table"].replace(", empty file 22", "")
        found = records_of(builder)
        for split, by_id in expected.items():
            assert found[split].keys() == by_id.keys()
            for image_id, (*files, objects) in by_id.items():
                *found_files, found_objects = found[split][image_id]
                assert found_files == files
                assert [label for label, *_ in found_objects] == [label for label, *_ in objects]
                boxes, found_boxes = ([box for _, box, *_ in each] for each in (objects, found_objects))
                np.testing.assert_allclose(found_boxes or [()], boxes or [()], atol=1e-4)


@pytest.mark.skipif(not MSRS.is_dir(), reason="no part of the real data beside the repository")
def test_labels_of_both_real_images_are_merged(tmp_path):
    options = {"class_names": "person,bicycle,car", "night": "N$"}
    people = {}
    for labels in ("visible", "lwir", "both"):
        builder = prepare(open_folder(tmp_path, labels=labels, **options), MSRS)
        people[labels] = sum(
            label == "person" for split in SPLITS for record in read(builder, split) for label, *_ in rows(record)
        )
    assert max(people["visible"], people["lwir"]) < people["both"] < people["visible"] + people["lwir"]


def test_grey_three_channel_and_rotated_images_keep_their_upright_size(tmp_path, raw):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for modality in ("visible", "lwir"):
        path = raw / modality / "test" / "d1.png"
        PIL.Image.open(path).rotate(90, expand=True).save(path, exif=exif)
    grey = cv2.cvtColor(cv2.imread(str(raw / "lwir" / "test" / "n2.png"), 0), cv2.COLOR_GRAY2BGR)
    cv2.imwrite(str(raw / "lwir" / "test" / "n2.png"), grey)
    builder = prepare(open_folder(tmp_path), raw)
    assert "\nimage sizes: 32x24 5\n" in builder.info.metadata["table"]
    assert findings_of(tmp_path / "data") == []
