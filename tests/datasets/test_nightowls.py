"""NightOwls prepared from a small copy."""

import pytest
from nightowls_files import png, write_copy
from prepared_data import findings_of, lines_of_counts, names, prepare, read, rows, table_of

from datasets.nightowls import Nightowls, open_builder
from dcrl_jax.data import sources, transforms
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.truths import read_truths


@pytest.fixture
def raw(tmp_path):
    return write_copy(tmp_path / "raw")


def prepare_copy(folder, data="data", **options):
    return prepare(open_builder(str(folder / data), **options), folder / "raw")


def test_records_have_the_stored_images_conditions_and_boxes(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(Nightowls, "SHARD_RECORDS", 2)
    builder = prepare_copy(tmp_path)
    assert builder.info.full_name == "nightowls/1.0.0"
    train = read(builder, "train")
    assert names(train) == ["3", "1", "2"]
    assert [record["condition"] for record in train] == [0, 1, 2]
    assert builder.info.features["condition"].names == ["day", "night", "dawn"]
    assert [record["visible"] for record in train] == [png(grey=number) for number in (3, 1, 2)]
    assert [rows(record) for record in train] == [
        [("person", [10, 20, 30, 60], 0, False), ("person", [-5, 20, 30, 60], 2, False)],
        [("ignore", [500, 100, 400, 300], 0, True), ("bicycledriver", [7, 8, 30, 60], 0, False)],
        [],
    ]
    assert all("lwir" not in record for record in train)
    # Decoded records do not take dawn for night.
    pairs = [transforms.decode(record, ("visible",)) for record in train]
    assert [pair["is_night"] for pair in pairs] == [False, True, False]
    assert pairs[0]["boxes"].tolist() == [[10, 20, 40, 80], [0, 20, 25, 80]]
    objects = [pairs[1][key] for key in ("annotated", "labels", "occlusion", "ignore")]
    assert transforms.filter_boxes(transforms.BoxFilter(), *objects)[1].tolist() == [True, False]
    assert [one.condition for one in read_truths(train).images] == ["day", "night", "dawn"]
    # The second image's person lies outside it.
    assert [rows(record) for record in read(builder, "validation")] == [[("person", [10, 20, 30, 60], 0, False)], []]
    outside = ("box outside the image", "validation: 58c12.png: person 2000 20 30 60")
    assert findings_of(tmp_path / "data") == [outside]
    assert builder.info.metadata["warnings"] == []
    counts = "images annotated {}, images {}, images without a person {}, people {}, riders {}, ignore areas {}"
    train = counts.format("3 1 1 1", "3 1 1 1", "2 0 1 1", "2 2 0 0", "1 0 1 0", "1 0 1 0")
    scored = counts.format("2 0 2 0", "2 0 2 0", "1 0 1 0", "1 0 1 0", "0 0 0 0", "0 0 0 0")
    assert table_of(builder) == ["all day night dawn", *lines_of_counts(train=train, validation=scored)]


def test_missing_and_unreadable_files_are_named(tmp_path, raw):
    folder = raw / "nightowls_validation"
    (folder / "58c11.png").write_bytes(png(320, 200))
    (raw / "nightowls_training" / "58c2.png").unlink()
    with pytest.raises(InputError, match="the validation split is incomplete: 1 image unreadable; "):
        prepare_copy(tmp_path)
    size = "320x200 pixels; expected 1024x640, in which the boxes are annotated"
    assert findings_of(tmp_path / "data")[:2] == [
        ("image missing", f"train: {raw}/nightowls_training/58c2.png"),
        ("image unreadable", f"validation: {folder}/58c11.png: {size}"),
    ]
    builder = prepare_copy(tmp_path, allow_incomplete=True)
    assert sources.warnings_of(builder) == (
        "incomplete train split: 1 of 3 images are left out",
        "incomplete validation split: 1 of 2 images are left out; scores on it are not comparable with others",
    )
    (raw / "nightowls_validation.json").unlink()
    with pytest.raises(
        InputError, match=f"an incomplete one. Add what is missing:\n  {raw}/nightowls_validation.json$"
    ):
        prepare_copy(tmp_path, data="other")
