"""Damaged copies of KAIST: all problems are counted and listed. Shared behaviour is in test_fetched."""

import cv2
import numpy as np
import pytest
from kaist_copies import ANNOTATIONS, BBGT, DOUBT, TEST, TRAIN, encoded, make_copy, place, prepare_copy, write
from prepared_data import findings_of, names, read, rows

from datasets.checks import MORE_BITS
from dcrl_jax.errors import InputError

VISIBLE, LWIR = (f"images/{{video}}/{modality}/{{frame}}.jpg" for modality in ("visible", "lwir"))
CUT_OFF = "line 4: 3 fields instead of 12, label x y w h occ vx vy vw vh ignore angle"
# The file, its new content (None: deleted), and the finding.
FATAL = {
    "no visible": (VISIBLE, None, "image missing", "{image_id} visible"),
    "image cut off": (LWIR, encoded()[:4000] + bytes(5000), "image unreadable", "{path}: cut off: its end is missing"),
    "no annotation": (ANNOTATIONS, None, "annotation missing", "{image_id}"),
    "annotation cut off": (ANNOTATIONS, f"{BBGT}person 10 20", "annotation unreadable", "{path}: " + CUT_OFF),
}


@pytest.fixture
def raw(tmp_path):
    return make_copy(tmp_path / "raw")


def remove(raw, layout, *image_ids):
    for image_id in image_ids:
        place(raw, layout, image_id).unlink()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("layout", "content", "kind", "text"), FATAL.values(), ids=FATAL)
def test_damaged_frame_is_left_out_listed_and_counted(tmp_path, raw, capsys, layout, content, kind, text, split):
    image_ids = {"train": TRAIN, "test": TEST}
    remove(raw, layout, image_ids[split][1])
    path = place(raw, layout, image_ids[split][1])
    if content is not None:
        write(path, content)
    if split == "test":
        with pytest.raises(InputError, match=f"the test split is incomplete: 1 {kind}; .* Get the missing files, or "):
            prepare_copy(tmp_path)
    builder = prepare_copy(tmp_path, allow_incomplete=split == "test")
    text = f"{split}: {text.format(path=path, image_id=image_ids[split][1])}"
    for name, ids in image_ids.items():
        assert names(read(builder, name)) == [ids[0], *ids[1 + (split == name) :]]
    assert findings_of(tmp_path / "data") == [(kind, text)]
    assert f"\n{kind}: 1\n  {text}\n" in capsys.readouterr().out
    (warning,) = set(builder.info.metadata["warnings"]) - {DOUBT.format("annotations")}
    assert warning.startswith(f"incomplete {split} split: 1 of 3 images are left out")


def test_harmless_problems_are_listed_and_the_frame_stays(tmp_path, raw, capsys):
    path, again = place(raw, ANNOTATIONS, TEST[1]), place(raw, "again/{flat}_visible.png", TEST[1])
    write(path, f"{BBGT}tree 10 20 30 60{' 0' * 7}\ncyclist 640 20 30 60{' 0' * 7}")
    write(again, encoded(".png"))
    thermal = place(raw, LWIR, TEST[1])
    write(thermal, cv2.imencode(".png", np.zeros((512, 640), np.uint16))[1].tobytes())
    builder = prepare_copy(tmp_path)
    records = read(builder, "test")
    assert len(records) == 3
    assert [label for label, *_ in rows(records[1])] == ["person", "people", "tree"]
    findings = [
        ("image file that is not used", f"{place(raw, VISIBLE, TEST[1])}: {TEST[1]} visible is {again} already"),
        ("unknown label", f"test: {path}: 'tree'"),
        (MORE_BITS, f"test: {thermal}"),
        ("box outside the image", f"test: {TEST[1]}: cyclist 640 20 30 60"),
    ]
    assert sorted(findings_of(tmp_path / "data")) == sorted(findings)
    printed = capsys.readouterr().out
    assert all(f"\n{kind}: 1\n  {text}\n" in f"\n{printed}" for kind, text in findings)
    assert builder.info.metadata["warnings"] == [DOUBT.format("annotations")]


def test_error_counts_findings_by_kind_and_a_repaired_copy_has_none(tmp_path, raw):
    remove(raw, LWIR, TEST[0], TEST[1], TRAIN[0])
    remove(raw, ANNOTATIONS, TEST[2])
    write(place(raw, VISIBLE, TEST[0]), b"")
    counts = "1 annotation missing, 1 image unreadable, 2 image missing; "
    with pytest.raises(InputError, match=f"the test split is incomplete: {counts}"):
        prepare_copy(tmp_path)
    assert len(findings_of(tmp_path / "data")) == 5
    make_copy(raw)
    assert len(read(prepare_copy(tmp_path), "test")) == 3
    assert findings_of(tmp_path / "data") == []


@pytest.mark.parametrize(("image_ids", "split"), [(TRAIN, "train"), (TEST, "test")], ids=["train", "test"])
def test_split_without_a_usable_pair_is_always_an_error(tmp_path, raw, image_ids, split):
    remove(raw, VISIBLE, *image_ids)
    with pytest.raises(InputError, match=f"no usable image in the split {split}; .*findings.txt lists the problems"):
        prepare_copy(tmp_path, allow_incomplete=True)
