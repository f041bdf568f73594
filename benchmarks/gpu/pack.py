"""Pack the files that a GPU machine without a network needs into one folder of at most 60 MiB.

    python -m benchmarks.gpu.pack --vgg16=FILE --pairs=DIR --output=.gpu

The folder gets wheels/ for Python 3.12, vgg16.safetensors, and pairs/, and unlabelled/ if --unlabelled names pairs
without labels; images are encoded again as JPEG. See benchmarks/README.md.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.errors import InputError

LIMIT_BYTES = 60 * 2**20
PAIRS_BYTES = 13_000_000
UNLABELLED_BYTES = 5_000_000
QUALITIES = (95, 90, 85, 80, 70, 60)  # of JPEG, from the best
PYTHON = "3.12"
# What the program needs beside JAX, Flax, Optax, Orbax, NumPy, SciPy, OpenCV, Matplotlib, safetensors and tqdm.
PACKAGES = (
    "array-record",
    "dm-tree",
    "docstring-parser",
    "googleapis-common-protos",
    "grain",
    "immutabledict",
    "importlib-resources",
    "jinja2",
    "markupsafe",
    "ml-collections",
    "msgspec",
    "portpicker",
    "promise",
    "psutil",
    "simple-parsing",
    "tensorboard",
    "tensorflow-datasets",
    "tensorflow-metadata",
    "termcolor",
    "toml",
)
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]


def fetch_wheels(packages: Sequence[str], folder: Path) -> None:
    """Download a wheel of each package for the other machine; build it here if there is none.

    Raises:
        InputError: a wheel can be neither downloaded nor built, or a built one fits this machine only.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    target = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    target += [f"--platform={platform}" for platform in _PLATFORMS]
    for package in packages:
        commands = (
            [*pip, "download", "--no-deps", *target, f"--dest={folder}", package],
            [*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", package],  # usable there if it is pure Python
        )
        for command in commands:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            if done.returncode == 0:
                break
        else:
            raise InputError(f"no wheel of {package} for Python {PYTHON}: {done.stderr.strip().splitlines()[-1]}")
    local = [path.name for path in folder.glob("*.whl") if not path.stem.endswith(("any", "x86_64"))]
    if local:
        raise InputError(f"these wheels were built for this machine, so another cannot use them: {', '.join(local)}")


def shrink_pairs(source: Path, target: Path, limit_bytes: int = PAIRS_BYTES) -> int:
    """Copy a folder with its text files, and its images as JPEG at the best quality that keeps the limit.

    Args:
        source: the folder.
        target: replaced if it exists.
        limit_bytes: largest size of all files together.

    Returns:
        The quality of the JPEGs.

    Raises:
        InputError: an image cannot be read, or no quality of QUALITIES keeps the limit.
    """
    for quality in QUALITIES:
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".txt":
                shutil.copyfile(path, copy)
                continue
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if image is None:
                raise InputError(f"{path} is not a readable image.")
            cv2.imwrite(str(copy.with_suffix(".jpg")), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if folder_bytes(target) <= limit_bytes:
            return quality
    raise InputError(
        f"the pairs of {source} take more than {limit_bytes:,} bytes even at JPEG quality {quality}. Give a folder "
        "with fewer pairs."
    )


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack(vgg16: Path, pairs: Path, unlabelled: Path | None, output: Path, packages: Sequence[str]) -> None:
    """Write the folder, completely or not at all.

    Raises:
        InputError: ``output`` exists, a file cannot be used, or the folder would be too large.
    """
    if output.exists():
        raise InputError(f"{output} exists already; give --output a new folder.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        partial = Path(folder) / "packed"
        (partial / "wheels").mkdir(parents=True)
        print(f"wheels of {len(packages)} packages", flush=True)
        fetch_wheels(packages, partial / "wheels")
        print("pairs", flush=True)
        quality = shrink_pairs(pairs, partial / "pairs")
        if unlabelled:
            quality = min(quality, shrink_pairs(unlabelled, partial / "unlabelled", UNLABELLED_BYTES))
        shutil.copyfile(vgg16, partial / "vgg16.safetensors")
        size = folder_bytes(partial)
        if size > LIMIT_BYTES:
            raise InputError(
                f"the folder takes {size / 2**20:.1f} MiB; expected at most {LIMIT_BYTES / 2**20:.0f}. Give a folder "
                "with fewer pairs."
            )
        partial.rename(output)
    print(f"{output}: {size / 2**20:.1f} MiB, images as JPEG of quality {quality} or better")


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack the folder."""
    parser = Parser(__doc__)
    parser.add_argument("--vgg16", type=Path, required=True, help="ImageNet's VGG-16, safetensors")
    parser.add_argument("--pairs", type=Path, required=True, help="a folder in MSRS's layout")
    parser.add_argument("--unlabelled", type=Path, help="a folder of pairs without labels")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    options = parser.parse_args(arguments)
    with exit_on_error():
        pack(options.vgg16, options.pairs, options.unlabelled, options.output, PACKAGES)


if __name__ == "__main__":
    main()
