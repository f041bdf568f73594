"""Files that several tests of the scorers read."""

import pytest
from kaist_scorer_cases import IDS, PERSON, write_results


@pytest.fixture
def two_of_three(tmp_path):
    """Finds the first person and the third."""
    return write_results(tmp_path / "two.txt", (1, PERSON, 0.9), (3, PERSON, 0.8))


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(IDS))
    return tmp_path / "list.txt"
