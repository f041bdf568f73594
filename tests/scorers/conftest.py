"""Files and helpers that several tests of the scorers use."""

import pytest
from scorer_cases import PERSON, write_results

from dcrl_jax.evaluation.truths import PreparedTruths


@pytest.fixture
def two_of_three(tmp_path):
    """Results that find the first person and the third, and a false alarm in the second image."""
    found = [(1, PERSON, 0.9), (3, PERSON, 0.8)]
    return write_results(tmp_path / "two.txt", *found, (2, (400, 300, 25, 60), 0.1))


@pytest.fixture
def no_curves(monkeypatch):
    """Draw no curves, which takes most of the time; return their arguments."""
    calls = []

    def draw(panels, path, title):
        path.write_bytes(b"curves")
        calls.append((panels, title))

    monkeypatch.setattr("dcrl_jax.reports.curves.miss_rate_panels", draw)
    return calls


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Makes a folder that a scorer takes for a prepared data set with these annotations."""

    def make(scorer, split, source=None, warnings=(), **images):
        folder = tmp_path / "prepared"
        folder.mkdir()
        (folder / "dataset_info.json").touch()
        truths = {(folder, split): PreparedTruths(images, source, list(warnings))}
        monkeypatch.setattr(scorer, "read_prepared", lambda *arguments: truths[arguments])
        return folder

    return make
