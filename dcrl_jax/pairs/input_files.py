"""The files that a source names, a file, a folder or a pattern, and what each of them is."""

import fnmatch
import glob
import itertools
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.decoding import open_image, page_indices
from dcrl_jax.errors import InputError

# Suffixes that promise an image or a video: such a file is never passed over, whatever its content. Of the third kind
# no image can be read; files of the fourth look like videos.
IMAGE_SUFFIXES, VIDEO_SUFFIXES, UNREADABLE_SUFFIXES, AUDIO_SUFFIXES = (
    frozenset(f".{suffix}" for suffix in suffixes.split())
    for suffixes in (
        "apng avif avifs bmp dib gif j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo pbm pfm pgm png pnm ppm qoi tga "
        "tif tiff webp",
        "264 265 3gp asf avi divx f4v flv h264 h265 hevc ivf m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpeg mpg mts mxf ogv "
        "seq ts vob webm wmv y4m",
        "arw cr2 cr3 dng exr heic heif hif jxl nef orf psd raf rw2",
        "m4a m4b mka ogg wma",
    )
)
# A file of these begins with one JPEG image but holds many.
JPEG_STREAMS = frozenset([".mjpeg", ".mjpg"])

_IMAGE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|(II[*+]|MM\0[*+])\0?|RIFF....WEBP|qoif|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|P[1-6]\s+[#\d]",
    re.DOTALL,
)
_PAGED = re.compile(rb"\x89PNG|GIF8|II[*+]|MM\0[*+]|RIFF....WEBP|....ftyp", re.DOTALL)
_VIDEO = re.compile(
    rb"RIFF....AVI |\x1a\x45\xdf\xa3|FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\0\0\x01[\xba\xb3]|....(moov|mdat|wide)"
    rb"|YUV4MPEG2|(....)?G.{187}G.{187}G",
    re.DOTALL,
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# A folder with these is the output of a run, whose pictures are no input.
_OUTPUT = {"annotated", "images.txt", "results.json"}
_HEAD = 1024  # bytes at the start of a file that tell what it is
_APPLE_DOUBLE = b"\0\x05\x16\x07"  # what macOS puts beside a file on foreign disks, under the name ._NAME
_WILDCARD = r"\*+|\?|\[!?\]?[^\]]*\]"
_LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class File(NamedTuple):
    """An image or a video that a source names."""

    path: Path
    name: str  # the path below the searched folder, with slashes and the suffix
    kind: str  # 'image', 'video' or 'other'
    pages: tuple[int, ...] = (0,)  # of an image: the indices of the images that the file holds
    problem: str = ""  # why an image cannot be read, if that is known already
    wildcards: tuple[str, ...] = ()  # what the wildcards of the pattern stand for; () without a pattern


class Files(NamedTuple):
    """The images and videos that a source names."""

    images: list[File]  # sorted by name
    videos: list[File]
    others: list[File]
    problems: list[str]  # e.g. links that lead nowhere, folders that cannot be listed
    notes: list[str]  # folders that are left out on purpose
    root: str  # the folder below which names start


def find_files(source: str) -> Files:
    """Return every image and video that a source names, each once.

    A link to a file or folder is followed, unless the file or folder is found without it. A file's content decides what
    it is. A file with the suffix of an image or a video counts as one even if nothing can be read from it, so that it
    is reported instead of being passed over. The annotated copies of an earlier run are left out.

    Args:
        source: a file, a folder (searched recursively) or a pattern (``*``, ``?``, ``[...]``, ``**``).

    Raises:
        InputError: there is no such file or folder.
    """
    problems: list[str] = []
    notes: list[str] = []
    if os.path.isdir(source):
        root, paths = source, [(path, ()) for path in _walk([source], problems, notes)]
    elif os.path.isfile(source):
        root, paths = os.path.dirname(source), [(source, ())]
    elif os.path.exists(source):
        raise InputError(f"{source}: neither a file nor a folder.")
    elif glob.has_magic(source):
        root, paths = _expand(str(Path(source)), problems, notes)
    elif os.path.islink(source):
        raise InputError(f"{_dangling(source)}.")
    else:
        raise InputError(f"{source}: no such file or folder.")
    files = {}
    for path, wildcards in paths:
        file = look_at(path, root, wildcards)
        if files.setdefault(file.name, file) is not file:
            problems.append(f"{path}: its name in the results is that of {files[file.name].path}; rename it.")
    ordered = [files[name] for name in sorted(files)]
    images, videos, others = ([file for file in ordered if file.kind == kind] for kind in ("image", "video", "other"))
    return Files(images, videos, others, problems, notes, root or ".")


def is_video(source: str | Path) -> bool:
    """Return whether a source is one file, and a video by its content or suffix. A pattern is none."""
    return os.path.isfile(source) and _kind(source)[0] == "video"


def describe_others(others: list[File]) -> str:
    """Return the number of files that are neither images nor videos, and of each suffix."""
    suffixes = Counter(file.path.suffix.lower() or "no suffix" for file in others)
    counts = ", ".join(f"{suffix} {count}" for suffix, count in suffixes.most_common(5))
    return f"{len(others)} other files ({counts}{', ...' if len(suffixes) > 5 else ''})"


def look_at(path: str | Path, root: str = "", wildcards: tuple[str, ...] = ()) -> File:
    """Return what a file is; its name is its path below ``root``. A file that does not exist has a problem."""
    kind, problem, head = _kind(path)
    pages = (0,)
    if kind == "image" and not problem and _PAGED.match(head):
        pages, problem = _pages(path)
    return File(Path(path), one_line(os.path.relpath(path, root or ".")), kind, pages, problem, wildcards)


def one_line(name: str) -> str:
    """Return a name for lists of one name per line, with line breaks as in web addresses (``%0A``)."""
    return _LINE_BREAK.sub(lambda match: f"%{ord(match[0]):02X}", name)


def _kind(path) -> tuple[str, str, bytes]:
    """Return what a file is, why it cannot be read if that is known, and its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        kind = "video" if suffix in VIDEO_SUFFIXES else "image"
        return kind if _promises(path) else "other", f"{error.strerror}.", b""
    convert = "a format that cannot be read; convert it to PNG or JPEG."
    brands = head[8 : int.from_bytes(head[:4])] if head[4:8] == b"ftyp" else b""
    if head.startswith(_APPLE_DOUBLE):
        return "other", "", head
    if b"avif" in brands or b"avis" in brands:
        return "image", "", head
    if brands.startswith(_HEIF_BRANDS):
        return "image", f"HEIC, {convert}", head
    if suffix in UNREADABLE_SUFFIXES and not head.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return "image", f"{suffix[1:].upper()}, {convert}", head
    if _IMAGE.match(head):
        return "video" if suffix in JPEG_STREAMS else "image", "", head
    if (brands or _VIDEO.match(head)) and suffix not in AUDIO_SUFFIXES:
        return "video", "", head
    if suffix in IMAGE_SUFFIXES:
        return "image", "", head
    is_text = suffix == ".ts" and b"\0" not in head  # TypeScript
    return "video" if suffix in VIDEO_SUFFIXES and not is_text else "other", "", head


def _promises(path) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | UNREADABLE_SUFFIXES


def _pages(path) -> tuple[tuple[int, ...], str]:
    try:
        with open_image(Path(path)) as image:
            pages = tuple(page_indices(image, str(path)))
    except Exception:  # reading the image tells what is wrong
        return (0,), ""
    return pages or (0,), "" if pages else "holds no image but a preview; convert it to PNG or JPEG."


def _walk(folders: list[str], problems: list[str], notes: list[str]) -> list[str]:
    """Return every file below some folders once; links come last, so that what they lead to keeps its own name."""
    folders, links, files = folders[::-1], [], []
    seen = set()  # real paths of folders and files
    while folders or links:
        if folders:
            folder = folders.pop()
            real_folder = os.path.realpath(folder)
            if real_folder in seen:
                continue
            seen.add(real_folder)
            try:
                # Both lists are read from their ends.
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                problems.append(f"{folder}: {error.strerror}.")
                continue
            is_output = {entry.name for entry in entries} >= _OUTPUT
            for entry in entries:
                real = os.path.join(real_folder, entry.name)
                if is_output and entry.name == "annotated":
                    notes.append(f"{entry.path}: annotated copies of an earlier run, left out.")
                elif entry.is_symlink():
                    links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    problems += [f"{entry.path}: neither a file nor a folder."] if _promises(entry.name) else []
                elif real not in seen:
                    seen.add(real)
                    files.append(entry.path)
            continue
        link = links.pop()
        if os.path.isdir(link):
            folders.append(link)
        elif not os.path.exists(link):
            problems.append(f"{_dangling(link)}.")
        elif os.path.isfile(link) and (real := os.path.realpath(link)) not in seen:
            seen.add(real)
            files.append(link)
    return files


def _dangling(link):
    return f"{link}: a link to {os.readlink(link)}, which does not exist"


def _expand(pattern: str, problems: list[str], notes: list[str]) -> tuple[str, list[tuple[str, tuple[str, ...]]]]:
    """Return the folder before a pattern's first wildcard, and the files that match with what the wildcards are."""
    parts = Path(pattern).parts
    root = str(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts)))
    if "**" in parts:
        before = str(Path(*parts[: parts.index("**")]))
        paths = _walk(sorted(glob.glob(before)) if glob.has_magic(before) else [before], problems, notes)
    else:
        paths = sorted(glob.glob(pattern), key=lambda path: (os.path.islink(path), path))
        problems += [f"{_dangling(path)}." for path in paths if not os.path.exists(path)]
        paths = list({os.path.realpath(path): path for path in reversed(paths) if os.path.isfile(path)}.values())
    expressions = [*(_regex(part, False) for part in parts[:-1]), _regex(parts[-1], True)]
    regex = re.compile("".join(expressions).replace("//", "/"), re.DOTALL)
    # In a walk of the current folder, paths have no dot before them.
    matches = ((path, regex.fullmatch(str(Path(path)))) for path in paths)
    return root, [(path, tuple(text or "" for text in match.groups())) for path, match in matches if match]


def _wildcard_regex(match: re.Match[str]) -> str:
    if match[0][0] != "[":
        return "[^/]" if match[0] == "?" else "[^/]*"
    # A class, as glob reads it, without the group and the end of text around it.
    return fnmatch.translate(match[0]).removeprefix("(?s:").rpartition(")")[0]


def _regex(part: str, is_last: bool) -> str:
    """Return the expression of a pattern's part, with a group for its every run of wildcards."""
    if part == "**":
        return r"(.*)" if is_last else r"(?:(.*)/)?"
    runs = re.split(f"((?:{_WILDCARD})+)", part)
    for index in range(1, len(runs), 2):
        runs[index] = f"({re.sub(_WILDCARD, _wildcard_regex, runs[index])})"
    text = "".join(run if index % 2 else re.escape(run) for index, run in enumerate(runs))
    # As in a shell, a wildcard at the start matches no hidden file.
    return (r"(?!\.)" if not runs[0] and len(runs) > 1 else "") + text + ("" if is_last else "/")
