"""A teacher whose thermal images were registered is not scored, or learnt from, with others of the same data set."""

import pytest
from ml_collections import ConfigDict

from dcrl_jax.training.same_data import is_same_data_set, registration_mismatch


def keys(data_set="rgbt_folder", **options):
    return ConfigDict({"name": data_set, "options": options})


CASES = {
    "equal": (keys(name="pairs", lwir_to_visible="stretch"), keys(name="pairs", lwir_to_visible="stretch"), None),
    "other cameras": (keys(name="roof", lwir_to_visible="stretch"), keys(name="pairs", lwir_to_visible=""), None),
    "other set": (keys("kaist", annotations="improved"), keys(name="pairs", lwir_to_visible="stretch"), None),
    "none in both": (keys(name="pairs", lwir_to_visible=None), keys(name="pairs", lwir_to_visible=""), None),
    "without the option": (keys("kaist", annotations="improved"), keys("kaist", annotations="original"), None),
    "left out": (keys(name="pairs", lwir_to_visible=None), keys(name="pairs", lwir_to_visible="stretch"), "is empty"),
    "another": (keys(name="pairs", lwir_to_visible="0, 0, 9, 9"), keys(name="pairs"), "is 0, 0, 9, 9, its own empty"),
}


@pytest.mark.parametrize("case", CASES)
def test_registration_of_the_same_data_set_is_that_of_the_training(case):
    own, trained, message = CASES[case]
    lines = registration_mismatch(own, trained, "its own")
    assert len(lines) == (message is not None)
    if message:
        assert lines[0].startswith("config.data.options.lwir_to_visible ")
        assert message in lines[0]
        assert lines[0].endswith("(pairs of other cameras: --config.data.options.name=WORD)")


def test_own_folders_with_names_of_their_own_are_other_data_sets():
    assert is_same_data_set(keys(name="pairs"), keys(name="pairs", labels="lwir"))
    assert not is_same_data_set(keys(name="llvip"), keys(name="cvc14"))
    assert not is_same_data_set(keys("kaist"), keys("msrs"))
