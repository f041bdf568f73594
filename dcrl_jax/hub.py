"""Downloads from the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from dcrl_jax.errors import InputError

HUB = "hf://"


def fetch(source: str, repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Download files of a repository into huggingface_hub's cache, unless the cache has them.

    Args:
        source: the name that the user gave, for messages.
        repository: the repository, OWNER/NAME.
        files: paths in the repository.
        revision: a branch, tag or commit; None for the default branch.

    Returns:
        The folder of the files. A file that the repository lacks is missing there too.

    Raises:
        InputError: huggingface_hub is not installed, or the download failed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise InputError(
            f"{source}: huggingface_hub is not installed. Install it (`pip install dcrl_jax[hub]`), or download the "
            "files yourself and give their path."
        ) from error
    try:
        return Path(snapshot_download(repo_id=repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # errors of the library, of its HTTP client and of a bad name share no base class
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{source}: cannot be fetched from the hub ({reason}). Check the name and the network (`hf auth login` "
            "for a private repository), or download the files yourself and give their path."
        ) from error
