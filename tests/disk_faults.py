"""Disks that fail, for processes that a test starts; see disk_faults.c."""

import pathlib
import shutil
import subprocess

import pytest

SOURCE = pathlib.Path(__file__).with_suffix(".c")


def build_disk(folder):
    """Return a function that gives the environment variables of a process in which a disk fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("there is no C compiler")
    library = folder / "disk_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)

    def disk(root, **settings):
        """Take the folder of the disk, and ``trigger``, ``errno``, ``sleep_ms`` or ``locks``."""
        values = {f"DISK_{name.upper()}": str(value) for name, value in settings.items()}
        return {"LD_PRELOAD": str(library), "DISK_FOLDER": str(root)} | values

    return disk
