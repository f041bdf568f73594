"""KAIST prepared from small copies, and from a part of the real data."""

import json
from collections import Counter
from pathlib import Path

import kaist_copies
import pytest
from kaist_copies import TEST, TRAIN, make_annotations, make_images, picture, prepare_copy
from prepared_data import files_below, lines_of_counts, names, read, rows, table_of

from datasets import fetched
from datasets.kaist import Kaist, KaistConfig, open_builder
from dcrl_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "kaist"
XML = """<annotation><object><name>person</name><bndbox><x>10</x><y>20</y><w>30</w><h>60</h></bndbox>
<occlusion>1</occlusion></object><object><name>people</name><bndbox><xmin>200</xmin>
<ymin>100</ymin><xmax>250</xmax><ymax>170</ymax></bndbox></object></annotation>"""
ROWS = [("person", [10, 20, 30, 60], 1, False), ("people", [200, 100, 50, 70], 0, False)]


def test_records_have_the_stored_pairs_and_boxes_of_a_copy_with_xml(tmp_path, capsys):
    make_images(tmp_path / "raw", "{infrared}/{split}/{flat}.png")
    make_annotations(tmp_path / "raw", XML, "{split}/annotations/{flat}.xml")
    builder = prepare_copy(tmp_path)
    layout = "ICAFusion, {modality}/{split}/setNN_VNNN_INNNNN.png: 12 files"
    assert f"\nlayout: {layout}\n" in capsys.readouterr().out
    assert builder.info.metadata["layout"] == layout
    for split, image_ids, conditions in (("train", TRAIN, [0, 0, 1]), ("test", TEST, [0, 1, 1])):
        source = f"{split}/annotations: original, XML, 3 of 3 frames"
        assert builder.info.metadata["annotations"][split] == source
        records = read(builder, split)
        assert names(records) == list(image_ids)
        assert [record["condition"] for record in records] == conditions
        for image_id, record in zip(image_ids, records, strict=True):
            assert record["visible"] == picture(image_id, "visible", ".png")
            assert record["lwir"] == picture(image_id, "lwir", ".png")
            assert rows(record) == ROWS
            assert "objects_lwir" not in record


def test_records_of_many_files_are_in_the_order_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(Kaist, "SHARD_RECORDS", 2)
    monkeypatch.setattr(fetched, "_READ_AHEAD", 1)
    image_ids = [f"set00/V000/I{number:05d}" for number in range(7)]
    make_images(tmp_path / "raw", image_ids=[*image_ids, *TEST])
    make_annotations(tmp_path / "raw", image_ids=[*image_ids, *TEST])
    builder = prepare_copy(tmp_path, train=image_ids[::-1])
    assert len(list(Path(builder.data_dir).glob("kaist-train.array_record-*-of-00004"))) == 4
    records = read(builder, "train")
    assert names(records) == image_ids
    assert [record["lwir"] for record in records] == [picture(image_id, "lwir") for image_id in image_ids]


def test_table_counts_frames_pairs_people_and_ignore_regions(tmp_path):
    raw = kaist_copies.make_copy(tmp_path / "raw")
    make_annotations(raw, "% bbGt version=3\n", image_ids=TRAIN[:1])
    # Two people and an ignored person; the tree is neither.
    text = "person 1 2 3 4 0 0 0 0 0 1 0\nperson 1 2 3 4 0 0 0 0 0 0 0\nperson 9 2 3 4 2 0 0 0 0 0 0\n"
    make_annotations(raw, text + "tree 1 2 3 4 0 0 0 0 0 0 0\n", image_ids=TEST[1:2])
    (raw / "images" / "set03" / "V000" / "lwir" / "I00001.jpg").unlink()
    builder = prepare_copy(tmp_path)
    train = "frames asked for 3 2 1, pairs 2 2 0, pairs without a person 1 1 0, people 1 1 0, ignore regions 1 1 0"
    test = "frames asked for 3 1 2, pairs 3 1 2, pairs without a person 0 0 0, people 4 1 3, ignore regions 3 1 2"
    assert table_of(builder) == ["all day night", *lines_of_counts(train=train, test=test)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "moon"}, r"annotations is 'moon'; .* original, improved, sanitized, paired\."),
        ({"train_stride": 0}, "train_stride must be a whole number of at least 1, not 0"),
        ({"test_stride": 2.0}, "test_stride must be a whole number of at least 1, not 2.0"),
        ({"train_stride": 4401}, "train_stride is 4401; no video has as many frames"),
        ({"test_list": "absent/list.txt"}, r"absent/list\.txt: cannot be read"),
    ],
)
def test_option_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        open_builder(**options)
    with pytest.raises(TypeError, match="strides"):
        open_builder(strides=3)


def test_names_of_configs_differ_wherever_an_option_differs(tmp_path):
    a = kaist_copies.list_options(tmp_path / "a")
    b = kaist_copies.list_options(tmp_path / "b", TRAIN[::-1], [one.replace("/", "_") for one in TEST])
    options = [{}, *({"annotations": name} for name in ("improved", "sanitized", "paired"))]
    options += [{key: stride} for key in ("train_stride", "test_stride") for stride in (4, 40)]
    options += [{"test_annotations": name} for name in ("labels/new", "labels_new", "labels-new")]
    new_labels = {"train_annotations": "labels_new"}
    options += [new_labels, new_labels | {"test_annotations": "labels_new"}]
    options += [{"annotations": "improved", "test_annotations": "labels_new"}]
    options += [{"test_list": a["train_list"]}, {"test_list": a["test_list"]}, {"train_list": a["test_list"]}, a]
    config_names = [KaistConfig(**one).name for one in options]
    assert len(set(config_names)) == len(config_names)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in config_names)
    benchmark, few = KaistConfig(train_stride=2, test_stride=20), KaistConfig(train_stride=3000, test_stride=2500)
    assert (benchmark.name, few.name) == ("original", "original-train_stride_3000-test_stride_2500")
    assert [len(benchmark.image_ids(split)) for split in ("train", "test")] == [25086, 2252]
    assert [len(few.image_ids(split)) for split in ("train", "test")] == [3, 11]
    assert KaistConfig(annotations="paired").name == "paired"
    # Lists of the same frames are the same config.
    assert KaistConfig(**a).name == KaistConfig(**b).name
    assert KaistConfig(**a).image_ids("test") == KaistConfig(**b).image_ids("test") == list(TEST)


def test_folder_without_images_shows_what_is_expected(tmp_path):
    kaist_copies.write(tmp_path / "raw" / "picture.jpg", picture("", "visible"))
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
    make_images(raw, image_ids=TRAIN[:1])
    make_annotations(raw, image_ids=TRAIN[:1])
    with pytest.raises(InputError, match=r"the boxes of original\.json equal the improved test annotations"):
        prepare_copy(tmp_path, train=TRAIN[:1], test=test, test_annotations="original.json")
    builder = prepare_copy(tmp_path, train=TRAIN[:1], test=test, annotations="improved")
    assert builder.info.metadata["layout"].startswith("flat, pairs/setNN_VNNN_INNNNN_{modality}.png: 18 files")
    assert builder.info.metadata["annotations"]["test"] == (
        "original.json: improved, COCO, 9 of 9 frames, boxes equal to the improved test annotations in 16 of 16 videos"
    )
    assert builder.info.metadata["warnings"] == []
    content = json.loads((REAL / "KAIST_annotation.json").read_text())
    people = Counter(one["image_id"] for one in content["annotations"] if one["category_id"] == 1 and not one["ignore"])
    expected = {one["im_name"]: people[one["id"]] for one in content["images"] if one["im_name"] in test}
    records = read(builder, "test")
    assert names(records) == test
    assert [record["condition"] for record in records] == [0] * 4 + [1] * 5
    for image_id, record in zip(test, records, strict=True):
        for modality in ("visible", "lwir"):
            path = REAL / "pairs" / f"{image_id.replace('/', '_')}_{modality}.png"
            assert record[modality] == path.read_bytes()
        assert sum(row[0] == "person" and not row[3] for row in rows(record)) == expected[image_id]
    assert sum(expected.values()) == 53
