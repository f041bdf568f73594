"""KAIST prepared from small copies in every layout and format."""

import json
from collections import Counter
from pathlib import Path

import pytest
from kaist_copies import (
    BBGT,
    BBGT_ROWS,
    TEST,
    TRAIN,
    VIDEO_TREE,
    list_options,
    make_annotations,
    make_images,
    open_copy,
    picture,
    prepare_copy,
    write,
)
from prepared_data import files_below, findings_of, names, prepare, read, rows, table_of

from datasets.kaist import Kaist, KaistConfig, kaist, open_builder
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "kaist"


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
    builder = prepare_copy(tmp_path)
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
    assert prepare_copy(tmp_path).info.metadata["layout"] == (
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
    builder = prepare_copy(tmp_path)
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
    builder = prepare_copy(tmp_path)
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
    builder = prepare_copy(tmp_path)
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
    assert findings_of(tmp_path / "data") == []


def test_records_of_many_files_are_in_the_order_of_frames(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(Kaist, "SHARD_RECORDS", 2)
    monkeypatch.setattr(kaist, "_READ_AHEAD", 1)
    image_ids = [f"set00/V000/I{number:05d}" for number in range(7)]
    make_images(raw, image_ids=image_ids)
    make_annotations(raw, image_ids=image_ids)
    builder = prepare_copy(tmp_path, train=image_ids[::-1])
    assert len(list(Path(builder.data_dir).glob("kaist-train.array_record-*-of-00004"))) == 4
    records = read(builder, "train")
    assert names(records) == image_ids
    assert [record["lwir"] for record in records] == [picture(image_id, "lwir") for image_id in image_ids]


def test_strides_choose_frames(tmp_path):
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
    builder = prepare(open_builder(str(tmp_path / "data"), **options), tmp_path / "raw")
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
    builder = prepare_copy(tmp_path)
    assert table_of(builder) == [
        ["all", "day", "night"],
        ["train:", "frames", "asked", "for", "3", "2", "1"],
        ["train:", "pairs", "2", "2", "0"],
        ["train:", "pairs", "without", "a", "person", "1", "1", "0"],
        ["train:", "people", "1", "1", "0"],
        ["train:", "ignore", "regions", "1", "1", "0"],
        ["test:", "frames", "asked", "for", "3", "1", "2"],
        ["test:", "pairs", "3", "1", "2"],
        ["test:", "pairs", "without", "a", "person", "0", "0", "0"],
        # The second test image has two people and an ignored person; its tree is neither.
        ["test:", "people", "4", "1", "3"],
        ["test:", "ignore", "regions", "3", "1", "2"],
    ]
    assert len({len(line) for line in builder.info.metadata["table"].splitlines()}) == 1


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
    with pytest.raises(TypeError, match="strides"):
        open_builder(strides=3)


def test_line_of_a_list_that_is_no_frame_is_named(tmp_path):
    with pytest.raises(InputError, match=r"test\.txt:2: 'set06/V000/I99999' is no frame of KAIST"):
        open_copy(tmp_path, test=("set06/V000/I00019", "set06/V000/I99999"))


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


def test_lists_of_the_same_frames_are_the_same_config(tmp_path):
    first = KaistConfig(**list_options(tmp_path / "a"))
    second = KaistConfig(**list_options(tmp_path / "b", TRAIN[::-1], [one.replace("/", "_") for one in TEST]))
    assert first.name == second.name
    assert first.image_ids("test") == second.image_ids("test") == list(TEST)


def test_folder_without_images_shows_what_is_expected(tmp_path):
    write(tmp_path / "raw" / "picture.jpg", picture("", "visible"))
    with pytest.raises(InputError, match=r"raw: no image of KAIST found\. Expected .*images/set00/V000/visible"):
        prepare_copy(tmp_path)
    assert files_below(tmp_path / "data") == ["kaist/.lock"]


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
        prepare_copy(tmp_path, train=TRAIN[:1], test=test, test_annotations="original.json")
    builder = prepare_copy(tmp_path, train=TRAIN[:1], test=test, annotations="improved")
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
