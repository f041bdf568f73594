"""The KAIST command on prepared data sets."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from kaist_scorer_cases import IDS, PERSON, fails, lines, main

from datasets import records
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.evaluation import kaist


class ScorerKaist(tfds.core.GeneratorBasedBuilder):
    """The three images with a person each, 100 pixels further right in the thermal one, and two warnings."""

    VERSION = tfds.core.Version("1.0.0")
    paired, ids = True, IDS

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=records.features(paired=self.paired),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(warnings=["copied in haste", "at night"] if self.paired else []),
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        png = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
        for place, image_id in enumerate(self.ids):
            x, *rest = PERSON
            boxes = {"objects": PERSON, "objects_lwir": (x + 100, *rest)}
            objects = {
                name: [{"box": np.float32(box), "label": "person", "occlusion": 0, "ignore": False}]
                for name, box in boxes.items()
                if name in self.info.features
            }
            images = {name: io.BytesIO(png) for name in ("visible", "lwir")}
            yield place, {"image_id": image_id, "condition": frames.condition(image_id), **images, **objects}


class ScorerKaistPlain(ScorerKaist):
    """As it is, with the boxes of the visible image alone."""

    paired = False


class ScorerStreet(ScorerKaistPlain):
    """Images of something else."""

    ids = ("set06/V000/I00019", "street")


@pytest.fixture
def prepare(tmp_path, capsys):
    """Prepares a data set and returns its folder; what TFDS says of it is dropped."""

    def prepare(builder_class):
        builder = builder_class(data_dir=tmp_path / "data", file_format="array_record")
        builder.download_and_prepare()
        capsys.readouterr()
        return Path(builder.data_path)

    return prepare


def test_prepared_paired_data_are_two_truths_with_the_warnings_of_the_data_set(prepare, two_of_three, capsys):
    folder = prepare(ScorerKaist)
    main(folder, two_of_three)
    printed = lines(capsys.readouterr().out)
    headings = [place for place, line in enumerate(printed) if line.startswith(str(folder))]
    assert [printed[place] for place in headings] == [
        f"{folder}: visible boxes (MR^R)",
        f"{folder}: lwir boxes (MR^T)",
    ]
    for place, miss_rates, recall in zip(headings, ("33.33 50.00 0.00", "100.00 " * 3), ("66.67", "0.00"), strict=True):
        block = printed[place + 1 : place + 13]
        assert block[2].split()[1:4] == miss_rates.split()
        assert block[3:5] == ["warning: copied in haste", "warning: at night"]
        assert block[7].split()[:2] == ["two.txt", recall]
        assert block[8].split()[:4] == ["people", "3", "2", "1"]
        assert block[10:] == ["warning: copied in haste", "warning: at night"]


def test_prepared_data_of_one_truth_are_named_by_their_folder(prepare, monkeypatch):
    seen = []
    monkeypatch.setattr(kaist.kaist_truths, "improved_videos", lambda by_id: seen.append(by_id) or (1, 2))
    folder = prepare(ScorerKaistPlain)
    (truth,) = kaist.read_annotations(folder)
    assert (truth.name, truth.heading, truth.warnings) == ("1.0.0", str(folder), [])
    assert truth.image_ids == list(IDS)
    assert truth.notes == ["boxes: equal to the improved test annotations in 1 of 2 videos"]
    assert seen == [{image_id: [("person", PERSON, 0, False)] for image_id in IDS}]


def test_prepared_data_of_something_else_are_refused(prepare, two_of_three, capsys):
    assert "record 1 of the test split is 'street', no frame of KAIST" in fails(
        capsys, prepare(ScorerStreet), two_of_three
    )


def test_damaged_prepared_data_are_refused(prepare, two_of_three, capsys):
    folder = prepare(ScorerKaistPlain)
    for file in folder.glob("*array_record*"):
        file.write_bytes(b"")
    assert f"{folder}: not readable as a prepared data set" in fails(capsys, folder, two_of_three)
    (folder / "dataset_info.json").write_text("{")
    assert f"{folder}: not readable as a prepared data set" in fails(capsys, folder, two_of_three)
