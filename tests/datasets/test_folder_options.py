"""The options of a folder of pairs."""

import pytest
from folder_copies import config

from datasets.rgbt_folder.options import HELP, defaults
from datasets.rgbt_folder.rgbt_folder import open_builder
from dcrl_jax.errors import InputError


def test_the_name_of_the_prepared_data_has_a_checksum_of_all_options():
    names = {
        config(**options).name
        for options in (
            {},
            {"labels": "lwir"},
            {"lwir_to_visible": (0, 0, 1, 1)},
            {"person_labels": "rider"},
            {"name": "street"},
            {"test_share": 0.5},
        )
    }
    assert len(names) == 6
    assert all(name.startswith(("pairs-", "street-")) for name in names)
    assert config(person_labels=["a", "b "], night="").name == config(person_labels="a, b", night=None).name
    assert config().name == config(labels="visible").name


def test_all_options_have_a_default_and_a_text():
    assert list(defaults()) == list(HELP)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "fusion"}, "labels is 'fusion'; it must be one of: visible, lwir, both"),
        ({"split": "folders"}, "split is 'folders'; it must be one of: auto, sequence, train, validation, test"),
        ({"missing_labels": "skip"}, "missing_labels is 'skip'"),
        ({"name": "a b"}, "name is 'a b'; expected a word of letters, digits and _"),
        ({"visible": "rgb"}, "visible and lwir belong together"),
        (
            {"visible": "rgb", "lwir": "ir", "pairs": "p.csv"},
            "a list of pairs names all images; give pairs",
        ),
        ({"night": "(N"}, r"night is '\(N', no regular expression: missing \)"),
        ({"sequence": "["}, r"sequence is '\[', no regular expression"),
        ({"sequence": 2}, "sequence must be a text, not 2"),
        ({"sequence_images": 0.5}, "sequence_images must be a whole number of at least 0, not 0.5"),
        ({"split_seed": True}, "split_seed must be a whole number"),
        ({"test_share": 20}, "test_share must be between 0 and 1, not 20"),
        ({"class_names": [1, 2]}, r"class_names is \[1, 2\]; expected words, separated by commas"),
        ({"split": "test", "train_list": "a.txt"}, "split=test and lists of pairs: each says how pairs are split"),
        ({"sequence_images": 9, "test_list": "a.txt"}, "sequence or sequence_images and lists of pairs: each says"),
        ({"person_labels": "A,b", "ignore_labels": "a"}, "person_labels and ignore_labels both have a"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=f"rgbt_folder: {message}"):
        config(**options)


def test_an_unknown_option_is_a_type_error_as_in_all_builders():
    with pytest.raises(TypeError, match="colour"):
        open_builder(colour="red")
