"""Published results files of KAIST score as published."""

import json
import tarfile

import numpy as np
import pytest
from kaist_scorer_cases import REAL, SUBSETS

from dcrl_jax.annotations.kaist import frames
from dcrl_jax.evaluation import kaist, scorer
from dcrl_jax.evaluation.results import read_results, write_kaist_text

METHODS = ("MSDS-RCNN", "MBNet", "MLPD")
PUBLISHED = {  # log-average miss rate in percent on the improved annotations: reasonable all, day, night
    "MSDS-RCNN_result.txt": [11.34, 10.53, 12.94],
    "MBNet_result.txt": [8.13, 8.28, 7.86],
    "MLPD_result.txt": [7.58, 7.95, 6.95],
}


@pytest.fixture(scope="module")
def published():
    paths = [REAL / "KAIST_annotation.json", *(REAL / "results" / f"{name}_result.txt" for name in METHODS)]
    for path in paths:
        if not path.is_file():
            pytest.skip(f"needs {path}")
    (truth,) = kaist.read_annotations(paths[0])
    return truth, paths[1:], scorer.score_results(truth, paths[1:])


def to_percent(scores):
    return {name: [round(100 * row[subset].miss_rate, 2) for subset in SUBSETS[:3]] for name, row in scores.items()}


def test_published_results_score_as_published_the_best_first(published):
    truth, _, scores = published
    assert truth.notes == ["boxes: equal to the improved test annotations in 16 of 16 videos"]
    assert to_percent(scores) == PUBLISHED
    assert list(scores) == ["MLPD_result.txt", "MBNet_result.txt", "MSDS-RCNN_result.txt"]


def test_published_annotation_files_score_as_the_published_json(published, tmp_path):
    archive = REAL / "annotations-xml-new.tar.xz"
    if not archive.is_file():
        pytest.skip(f"needs {archive}")
    wanted = {f"annotations-xml-new/{image_id}.xml" for image_id in frames.split_frames("test")}
    with tarfile.open(archive) as members:
        for member in members:
            if member.name in wanted:
                path = tmp_path / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(members.extractfile(member).read())
    (truth,) = kaist.read_annotations(tmp_path)
    assert truth.heading == str(tmp_path / "annotations-xml-new")
    assert truth.notes[0] == "boxes: equal to the improved test annotations in 16 of 16 videos"
    from_json, paths, expected = published
    assert truth.image_ids == from_json.image_ids
    scores = scorer.score_results(truth, paths)
    for name, row in expected.items():
        for subset, score in row.items():
            found = scores[name][subset]
            assert (found.miss_rate, found.recall) == (score.miss_rate, score.recall)
            assert (found.people, found.images) == (score.people, score.images)


def test_results_that_were_read_and_written_again_score_the_same(published, tmp_path):
    truth, paths, expected = published
    for path in paths:
        write_kaist_text(tmp_path / path.name, read_results(path, truth.image_ids), truth.image_ids)
    scores = scorer.score_results(truth, [tmp_path / path.name for path in paths])
    for name, row in expected.items():
        assert [one.miss_rate for one in scores[name].values()] == [one.miss_rate for one in row.values()]
        np.testing.assert_array_equal(scores[name]["reasonable-all"].fppi, row["reasonable-all"].fppi)


def test_one_box_that_differs_makes_one_video_differ(published, tmp_path):
    content = json.loads((REAL / "KAIST_annotation.json").read_text())
    content["annotations"][0]["bbox"][0] += 1
    (tmp_path / "original.json").write_text(json.dumps(content))
    (truth,) = kaist.read_annotations(tmp_path / "original.json")
    assert truth.notes == ["boxes: equal to the improved test annotations in 15 of 16 videos"]
