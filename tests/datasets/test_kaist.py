"""KAIST prepared from small copies in every layout and format, and the command that does it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from kaist_copies import (
    BBGT,
    BBGT_ROWS,
    TEST,
    TRAIN,
    VIDEO_TREE,
    files,
    list_options,
    make_annotations,
    make_images,
    names,
    open_copy,
    picture,
    prepare,
    read,
    rows,
    run,
    write,
)

from configs import teacher
from datasets import records
from datasets.kaist import KaistConfig, kaist, open_builder
from datasets.kaist.prepare import main
from dcrl_jax import progress
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "kaist"


@pytest.fixture
def raw(tmp_path):
    make_images(tmp_path / "raw")
    make_annotations(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize(
    ("layout", "annotations", "line"),
    [
        (
            VIDEO_TREE,
            "annotations/{video}/{frame}.txt",
            "video tree, images/setNN/VNNN/{modality}/INNNNN.jpg: 12 files",
        ),
        (
            "{video}/{modality}/{frame}.jpg",
            "annotations/{video}/{frame}.txt",
            "video tree, setNN/VNNN/{modality}/INNNNN.jpg: 12 files",
        ),
        (
            "{split}/images/{modality}/{flat}.png",
            "{split}/annotations/{flat}.txt",
            "flat, {split}/images/{modality}/setNN_VNNN_INNNNN.png: 12 files",
        ),
        (
            "{split}/images/{flat}_{modality}.png",
            "labels/{flat}.txt",
            "flat, {split}/images/setNN_VNNN_INNNNN_{modality}.png: 12 files",
        ),
        (
            "{infrared}/{split}/{flat}.png",
            "annotations/{flat}.txt",
            "ICAFusion, {modality}/{split}/setNN_VNNN_INNNNN.png: 12 files",
        ),
    ],
    ids=["video tree", "video tree without images/", "flat by folder", "flat by suffix", "ICAFusion"],
)
def test_layout_is_recognised_named_and_prepared(tmp_path, capsys, layout, annotations, line):
    make_images(tmp_path / "raw", layout)
    make_annotations(tmp_path / "raw", layout=annotations)
    builder = prepare(tmp_path)
    assert f"\nlayout: {line}\n" in capsys.readouterr().out
    assert builder.info.metadata["layout"] == line
    suffix = Path(layout).suffix
    for split, image_ids in (("train", TRAIN), ("test", TEST)):
        records = read(builder, split)
        assert names(records) == list(image_ids)
        for image_id, record in zip(image_ids, records, strict=True):
            assert record["visible"] == picture(image_id, "visible", suffix)
            assert record["lwir"] == picture(image_id, "lwir", suffix)
            assert rows(record) == BBGT_ROWS


def test_two_layouts_in_one_copy_are_both_named(tmp_path, raw):
    for image_id in TEST:
        for modality in ("visible", "lwir"):
            (raw / "images" / image_id.rpartition("/")[0] / modality / f"{image_id[-6:]}.jpg").unlink()
    make_images(raw, "more/{flat}_{modality}.png", TEST[:2])
    make_images(raw, "{infrared}/{split}/{flat}.png", TEST[2:])
    assert prepare(tmp_path).info.metadata["layout"] == (
        "video tree, images/setNN/VNNN/{modality}/INNNNN.jpg: 6 files; flat, more/setNN_VNNN_INNNNN_{modality}.png: "
        "4 files; ICAFusion, {modality}/{split}/setNN_VNNN_INNNNN.png: 2 files"
    )


XML_XYWH = """<annotation><object><name>person</name><bndbox><x>10</x><y>20</y><w>30</w><h>60</h></bndbox>
<occlusion>1</occlusion></object><object><name>people</name><bndbox><x>200</x><y>100</y><w>50</w><h>70</h></bndbox>
<occlusion>0</occlusion></object></annotation>"""
XML_CORNERS = """<annotation><object><name>person</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax>
<ymax>80</ymax></bndbox><occlusion>1</occlusion></object><object><name>people</name><bndbox><xmin>200</xmin>
<ymin>100</ymin><xmax>250</xmax><ymax>170</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("text", "ending", "name"),
    [
        (BBGT, "txt", "bbGt"),
        (BBGT, "xml", "bbGt"),
        (XML_XYWH, "xml", "XML"),
        (XML_CORNERS, "xml", "XML"),
        (XML_CORNERS, "txt", "XML"),
    ],
    ids=["bbGt", "bbGt ending in xml", "XML with x y w h", "XML with corners", "XML ending in txt"],
)
def test_annotation_format_is_chosen_by_content(tmp_path, text, ending, name):
    make_images(tmp_path / "raw")
    make_annotations(tmp_path / "raw", text, f"annotations/{{video}}/{{frame}}.{ending}")
    builder = prepare(tmp_path)
    assert builder.info.metadata["annotations"] == {
        "train": f"annotations: original, {name}, 3 of 3 frames",
        "test": f"annotations: original, {name}, 3 of 3 frames",
    }
    assert [rows(record) for record in read(builder, "train") + read(builder, "test")] == [BBGT_ROWS] * 6


def test_coco_file_annotates_both_splits(tmp_path):
    make_images(tmp_path / "raw")
    content = {
        "images": [
            {"id": number, "im_name": name.replace("/", "_") + ".png"} for number, name in enumerate(TRAIN + TEST)
        ],
        "annotations": [
            {"image_id": 1, "category_id": 4, "bbox": [10, 20, 30, 60], "occlusion": 1},
            {"image_id": 4, "category_id": 4, "bbox": [1.5, 2, 3, 4], "ignore": 1},
            {"image_id": 4, "category_id": 7, "bbox": [200, 100, 50, 70]},
        ],
        "categories": [{"id": 4, "name": "person"}, {"id": 7, "name": "cyclist"}],
    }
    write(tmp_path / "raw" / "all.json", json.dumps(content))
    builder = prepare(tmp_path)
    assert builder.info.metadata["annotations"]["train"] == "all.json: original, COCO, 3 of 3 frames"
    assert [rows(record) for record in read(builder, "train")] == [[], [("person", [10, 20, 30, 60], 1, False)], []]
    assert [rows(record) for record in read(builder, "test")] == [
        [],
        [("person", [1.5, 2, 3, 4], 0, True), ("cyclist", [200, 100, 50, 70], 0, False)],
        [],
    ]


def test_records_have_condition_occlusion_and_ignore_as_annotated(tmp_path, raw):
    text = "person 1 2 3 4 2 0 0 0 0 1 0\nperson?a 5.5 6 7 8 0 0 0 0 0 0 0\ncyclist -4 6 7 8 0 0 0 0 0 0 0\n"
    make_annotations(raw, text, image_ids=TEST[1:2])
    make_annotations(raw, "% bbGt version=3\n", image_ids=TEST[2:])
    builder = prepare(tmp_path)
    assert [record["condition"] for record in read(builder, "train")] == [0, 0, 1]
    found = read(builder, "test")
    assert [record["condition"] for record in found] == [0, 1, 1]
    assert rows(found[1]) == [
        ("person", [1, 2, 3, 4], 2, True),
        ("person?", [5.5, 6, 7, 8], 0, False),
        ("cyclist", [-4, 6, 7, 8], 0, False),
    ]
    assert rows(found[2]) == []
    assert "objects_lwir" not in found[0]
    assert not (tmp_path / "data" / "kaist" / builder.builder_config.name / "findings.txt").exists()


def test_records_of_many_files_are_in_the_order_of_frames_whatever_the_order_of_the_list(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(kaist, "_SHARD", 2)
    monkeypatch.setattr(kaist, "_READ_AHEAD", 1)
    image_ids = [f"set00/V000/I{number:05d}" for number in range(7)]
    make_images(raw, image_ids=image_ids)
    make_annotations(raw, image_ids=image_ids)
    builder = prepare(tmp_path, train=image_ids[::-1])
    assert len(list(Path(builder.data_dir).glob("kaist-train.array_record-*-of-00004"))) == 4
    records = read(builder, "train")
    assert names(records) == image_ids
    assert [record["lwir"] for record in records] == [picture(image_id, "lwir") for image_id in image_ids]


def test_strides_choose_frames_and_day_and_night_are_parts_of_the_test(tmp_path):
    options = {"train_stride": 3000, "test_stride": 2500}
    train = ["set00/V000/I02999", "set03/V000/I02999", "set04/V000/I02999", "set04/V001/I02999"]
    train = [one for one in train if frames.is_known(one)]
    test = [
        *("set06/V001/I02499", "set06/V003/I02499", "set06/V004/I02499", "set07/V000/I02499", "set07/V001/I02499"),
        *("set08/V000/I02499", "set08/V001/I02499", "set08/V002/I02499"),
        *("set09/V000/I02499", "set10/V000/I02499", "set10/V001/I02499"),
    ]
    make_images(tmp_path / "raw", image_ids=train + test)
    make_annotations(tmp_path / "raw", image_ids=train + test)
    builder = run(open_builder(str(tmp_path / "data"), **options), tmp_path / "raw")
    assert builder.info.full_name == "kaist/original-train_stride_3000-test_stride_2500/1.0.0"
    assert names(read(builder, "train")) == train
    assert names(read(builder, "test")) == test
    assert names(read(builder, "test[:8]")) == test[:8]
    assert [record["condition"] for record in read(builder, "test")] == [0] * 8 + [1] * 3


def test_default_configs_are_the_benchmarks_splits():
    for name in ("original", "improved", "sanitized", "paired"):
        config = KaistConfig(annotations=name)
        assert config.name == name
        assert [len(config.image_ids(split)) for split in ("train", "test")] == [25086, 2252]
    conditions = [frames.condition(image_id) for image_id in config.image_ids("test")]
    assert conditions == ["day"] * 1455 + ["night"] * 797


def test_table_counts_frames_pairs_people_and_ignore_regions_by_condition(tmp_path, raw):
    make_annotations(raw, "% bbGt version=3\n", image_ids=TRAIN[:1])
    text = "person 1 2 3 4 0 0 0 0 0 1 0\nperson 1 2 3 4 0 0 0 0 0 0 0\nperson 9 2 3 4 2 0 0 0 0 0 0\n"
    make_annotations(raw, text + "tree 1 2 3 4 0 0 0 0 0 0 0\n", image_ids=TEST[1:2])
    (raw / "images" / "set03" / "V000" / "lwir" / "I00001.jpg").unlink()
    table = prepare(tmp_path).info.metadata["table"]
    assert [line.split() for line in table.splitlines()] == [
        ["all", "day", "night"],
        ["train:", "frames", "asked", "for", "3", "2", "1"],
        ["train:", "pairs", "2", "2", "0"],
        ["train:", "pairs", "without", "a", "person", "1", "1", "0"],
        ["train:", "people", "1", "1", "0"],
        ["train:", "ignore", "regions", "1", "1", "0"],
        ["test:", "frames", "asked", "for", "3", "1", "2"],
        ["test:", "pairs", "3", "1", "2"],
        ["test:", "pairs", "without", "a", "person", "0", "0", "0"],
        # The second test image has two people and one ignored; a tree is neither.
        ["test:", "people", "4", "1", "3"],
        ["test:", "ignore", "regions", "3", "1", "2"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_progress_of_checking_and_writing_is_shown(tmp_path, raw, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    prepare(tmp_path)
    shown = capsys.readouterr().err
    for what in ("checking train", "checking test", "writing train", "writing test"):
        assert re.search(rf"^{what}: (\d+) of \1 pairs, ", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "moon"}, r"annotations is 'moon'; .* original, improved, sanitized, paired\."),
        ({"train_stride": 0}, "train_stride must be a whole number of at least 1, not 0"),
        ({"test_stride": -20}, "test_stride must be a whole number of at least 1, not -20"),
        ({"test_stride": True}, "test_stride must be a whole number of at least 1, not True"),
        ({"train_stride": 2.0}, "train_stride must be a whole number of at least 1, not 2.0"),
        ({"train_stride": 4401}, "train_stride is 4401; no video has as many frames"),
        ({"test_list": "absent/list.txt"}, r"absent/list\.txt: cannot be read"),
    ],
)
def test_option_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        open_builder(**options)


def test_list_with_a_line_that_is_no_frame_is_named_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"test\.txt:2: 'set06/V000/I99999' is no frame of KAIST"):
        open_copy(tmp_path, test=("set06/V000/I00019", "set06/V000/I99999"))


def test_unknown_option_is_a_type_error_of_the_builder_and_named_by_the_config(tmp_path):
    with pytest.raises(TypeError, match="strides"):
        open_builder(strides=3)
    data = teacher.get_config("kaist").data
    with data.unlocked():
        data.options.strides = 3
    with pytest.raises(InputError, match=r"config\.data\.options: .*strides"):
        sources.prepare(data)


def test_names_of_configs_differ_wherever_an_option_differs(tmp_path):
    write(tmp_path / "a" / "list.txt", "set06/V000/I00019\n")
    write(tmp_path / "b" / "list.txt", "set06/V000/I00039\n")
    options = [
        {},
        *({"annotations": name} for name in ("improved", "sanitized", "paired")),
        {"train_stride": 4},
        {"train_stride": 20},
        {"test_stride": 4},
        {"test_stride": 40},
        {"test_list": str(tmp_path / "a" / "list.txt")},
        {"test_list": str(tmp_path / "b" / "list.txt")},
        {"train_list": str(tmp_path / "a" / "list.txt")},
        {"test_annotations": "labels/new"},
        {"test_annotations": "labels_new"},
        {"test_annotations": "labels-new"},
        {"train_annotations": "labels_new"},
        {"train_annotations": "labels_new", "test_annotations": "labels_new"},
        {"annotations": "improved", "test_annotations": "labels_new"},
    ]
    found = [KaistConfig(**one).name for one in options]
    assert len(set(found)) == len(found)
    assert [KaistConfig(**one).name for one in options] == found
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in found)
    assert KaistConfig(train_stride=2, test_stride=20).name == "original"


def test_list_of_the_same_frames_in_another_place_and_order_is_the_same_config(tmp_path):
    first = KaistConfig(**list_options(tmp_path / "a"))
    second = KaistConfig(**list_options(tmp_path / "b", TRAIN[::-1], [one.replace("/", "_") for one in TEST]))
    assert first.name == second.name
    assert first.image_ids("test") == second.image_ids("test") == list(TEST)


def test_data_prepared_once_is_read_without_the_copy_and_left_as_it_is(tmp_path, raw, capsys):
    prepared = Path(prepare(tmp_path).data_dir)
    times = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    raw.rename(tmp_path / "moved")
    capsys.readouterr()
    builder = prepare(tmp_path)
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == times
    assert names(read(builder, "test")) == list(TEST)
    assert builder.info.metadata["annotations"]["train"] == "annotations: original, bbGt, 3 of 3 frames"


def test_run_without_a_copy_says_how_to_get_one(tmp_path):
    data = teacher.get_config("kaist").data
    data.data_dir = str(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        sources.prepare(data)
    message = str(caught.value)
    assert "kaist/improved/1.0.0 is not prepared" in message or "kaist/original/1.0.0 is not prepared" in message
    for part in (
        "https://huggingface.co/datasets/McCheng/KAIST\n",
        "richidubey/KAIST-Multispectral-Pedestrian-Detection-Dataset (reported incomplete)",
        "CC BY-NC-SA 4.0",
        "python -m datasets.kaist.prepare --manual_dir=",
        "--config.data.manual_dir=",
        ":synthetic",
    ):
        assert part in message
    assert not (tmp_path / "data").exists()
    data.manual_dir = str(tmp_path / "absent")
    with pytest.raises(InputError, match=r"absent: no such folder\.\n(.|\n)*McCheng"):
        sources.prepare(data)
    assert not (tmp_path / "data").exists()


def test_run_prepares_from_the_manual_folder(tmp_path, raw):
    data = teacher.get_config("kaist").data
    data.data_dir, data.manual_dir = str(tmp_path / "data"), str(raw)
    data.options.update(annotations="original", **list_options(tmp_path))
    (raw / "annotations" / "set06" / "V000" / "I00019.txt").unlink()
    with pytest.raises(InputError, match=r"test split is incomplete.*config\.data\.options\.allow_incomplete=True"):
        sources.prepare(data)
    with data.unlocked():
        data.options.allow_incomplete = True
    builder = sources.prepare(data)
    assert "3 train" in sources.describe(builder)
    assert "2 test" in sources.describe(builder)
    assert any(text.startswith("incomplete test split: 1 of 3") for text in sources.warnings_of(builder))


def test_folder_without_images_shows_what_is_expected(tmp_path):
    write(tmp_path / "raw" / "picture.jpg", picture("", "visible"))
    with pytest.raises(InputError, match=r"raw: no image of KAIST found\. Expected .*images/set00/V000/visible"):
        prepare(tmp_path)
    assert files(tmp_path / "data") == ["kaist/.lock"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "datasets.kaist.prepare", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )


def arguments(tmp_path):
    lists = [f"--{name}={path}" for name, path in list_options(tmp_path).items()]
    return [f"--manual_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'data'}", *lists]


def test_command_prepares_and_prints_the_table(tmp_path, raw):
    found = command(*arguments(tmp_path))
    assert found.returncode == 0
    builder = open_copy(tmp_path)
    assert f"KAIST in {raw}: looking for files\n" in found.stdout
    assert f"\n{builder.info.metadata['table']}\n" in found.stdout
    assert found.stdout.endswith(f"prepared: {builder.info.full_name}, in {builder.data_dir}\n")
    assert "WARNING" not in found.stderr
    assert names(read(builder, "test")) == list(TEST)


def test_command_ends_with_one_message_and_status_1_for_a_broken_copy(tmp_path, raw):
    (raw / "images" / "set06" / "V000" / "lwir" / "I00019.jpg").unlink()
    found = command(*arguments(tmp_path))
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith("error: the test split is incomplete: 1 image missing; ")
    assert "Traceback" not in found.stderr
    assert "image missing: 1\n  test: set06/V000/I00019 lwir\n" in found.stdout


def test_command_given_again_shows_the_table_and_the_warnings_of_what_is_there(tmp_path, raw, capsys):
    (raw / "images" / "set06" / "V000" / "lwir" / "I00019.jpg").unlink()
    main([*arguments(tmp_path), "--allow_incomplete"])
    warning = (
        "warning: incomplete test split: 1 of 3 images are left out; scores on it are not comparable with others, "
    )
    first = capsys.readouterr().out
    assert f"\n{warning}" in first
    main(arguments(tmp_path))
    again = capsys.readouterr().out
    assert again.startswith("prepared already, in ")
    assert open_copy(tmp_path).info.metadata["table"] in again
    assert f"\n{warning}" in again


def test_command_that_is_told_to_end_in_the_middle_of_writing_says_so_and_leaves_nothing(tmp_path, raw, monkeypatch):
    def told_to_end(annotations):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(records, "objects", told_to_end)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="interrupted; nothing half-written is left, and the same command"):
        main(arguments(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is former
    folder = tmp_path / "data" / "kaist" / open_copy(tmp_path).builder_config.name
    assert list(folder.iterdir()) == []


def test_command_names_a_folder_that_cannot_be_written(tmp_path, raw):
    write(tmp_path / "data", "a file")
    found = command(*arguments(tmp_path))
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith("error: ")
    assert f"{tmp_path / 'data'}" in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(not REAL.is_dir(), reason="no part of the real data beside the repository")
def test_real_pairs_are_read_with_the_improved_annotations(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "pairs").symlink_to(REAL / "pairs")
    (raw / "original.json").symlink_to(REAL / "KAIST_annotation.json")
    test = sorted(path.name[:17].replace("_", "/") for path in (REAL / "pairs").glob("*_visible.png"))
    make_annotations(raw, image_ids=TRAIN[:1])
    for modality in ("visible", "lwir"):
        source = next((REAL / "pairs").glob(f"*_{modality}.png"))
        (raw / f"set00_V000_I00001_{modality}.png").symlink_to(source)
    with pytest.raises(InputError, match=r"the boxes of original\.json equal the improved test annotations"):
        prepare(tmp_path, train=TRAIN[:1], test=test, test_annotations="original.json")
    builder = prepare(tmp_path, train=TRAIN[:1], test=test, annotations="improved")
    assert builder.info.metadata["layout"].startswith("flat, pairs/setNN_VNNN_INNNNN_{modality}.png: 18 files")
    assert builder.info.metadata["annotations"]["test"] == (
        "original.json: improved, COCO, 9 of 9 frames, boxes equal to the improved test annotations in 16 of 16 videos"
    )
    assert builder.info.metadata["warnings"] == []
    found = read(builder, "test")
    assert names(found) == test
    assert [record["condition"] for record in found] == [0] * 4 + [1] * 5
    for image_id, record in zip(test, found, strict=True):
        for modality in ("visible", "lwir"):
            path = REAL / "pairs" / f"{image_id.replace('/', '_')}_{modality}.png"
            assert record[modality] == path.read_bytes()
    content = json.loads((REAL / "KAIST_annotation.json").read_text())
    counted = Counter(
        one["image_id"] for one in content["annotations"] if one["category_id"] == 1 and not one["ignore"]
    )
    by_name = {one["im_name"]: counted[one["id"]] for one in content["images"]}
    people = [sum(label == "person" and not ignore for label, _, _, ignore in rows(record)) for record in found]
    assert people == [by_name[image_id] for image_id in test]
    assert sum(people) == 53
