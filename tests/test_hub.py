"""Downloads from the hub, without a network."""

import sys
from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dcrl_jax.errors import InputError
from dcrl_jax.hub import fetch


def test_files_of_a_revision_come_from_the_hubs_cache(monkeypatch, tmp_path):
    download = mock.Mock(return_value=str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch("hf://a/b", "a/b", ("x.json", "y/z"), "v1") == tmp_path
    download.assert_called_once_with(repo_id="a/b", revision="v1", allow_patterns=["x.json", "y/z"])


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no\n network"), ConnectionError("no network")])
def test_failed_download_names_the_reason_and_the_remedies(error, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", mock.Mock(side_effect=error))
    with pytest.raises(InputError, match=r"^key=hf://a/b: cannot be fetched from the hub \(.*no network.*\)\. Check"):
        fetch("key=hf://a/b", "a/b", ["x"])


def test_missing_library_is_named_with_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"is not installed\. Install it \(`pip install dcrl_jax\[hub\]`"):
        fetch("hf://a/b", "a/b", ["x"])
