"""The KAIST benchmark: scores of results files on one or several sets of test annotations.

    python -m dcrl_jax.evaluation.kaist --annotations=KAIST_annotation.json --results=mine.txt --results=theirs.txt
    python -m dcrl_jax.evaluation.kaist --annotations=KAIST/annotations --results=mine.txt --output=scores

Annotations are a COCO file, a folder of annotation files in any of KAIST's formats, or a prepared data set. A paired
set is scored twice: on the boxes of the visible image (MR^R in the literature) and on those of the thermal image
(MR^T). Results are a text file, COCO JSON, or a folder with a file per image. Names in them, or in images.txt beside
them, decide which image is meant; if that list names a part of the images, scores are taken on this part. Without
names, a number is the index among the annotated images: sorted by id in a COCO file, in record order in a prepared data
set, sorted by name elsewhere. For the complete test split this is the order of the published image list.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import folders, frames, truths
from dcrl_jax.annotations.kaist.formats import LABELS
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation
from dcrl_jax.command_line import exit_on_error
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.evaluation.overlaps import Results
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import KAIST_REASONABLE, KAIST_SUBSETS
from dcrl_jax.evaluation.truths import is_prepared, read_prepared, to_truths
from dcrl_jax.scorers import common
from dcrl_jax.scorers.common import AnnotationSet

SIZE = (frames.WIDTH_PX, frames.HEIGHT_PX)
PAIRED_NAMES = {"visible": "visible boxes (MR^R)", "lwir": "lwir boxes (MR^T)"}


def read_annotations(
    path: Path, listed: Sequence[str] | None = None, allow_incomplete: bool = False
) -> list[AnnotationSet]:
    """Read test annotations of any kind; the path's content decides which.

    Args:
        path: a COCO file, a folder of annotation files, or the folder of a prepared data set.
        listed: image ids that replace the test split, if ``path`` is a folder of annotation files.
        allow_incomplete: leave out images whose annotation file is missing or unreadable, with a warning.

    Returns:
        One set; of paired annotations two, ``visible`` and ``lwir``.

    Raises:
        InputError: no annotations or more than one set of them, or a malformed file. If several annotation files are
            missing or unreadable, the message counts them and names the first ones.
    """
    if is_annotation_folder(path):
        return _read_folder(path, frames.split_frames("test") if listed is None else listed, allow_incomplete)
    if path.is_dir():
        return _read_prepared(path)
    return [_from_files(path.stem, str(path), coco.read(path))]


def is_annotation_folder(path: Path) -> bool:
    """Return whether a path is a folder other than that of a prepared data set."""
    return path.is_dir() and not is_prepared(path)


def _from_files(name: str, heading: str, read: truths.Truths, image_ids: Sequence[str] | None = None) -> AnnotationSet:
    image_ids = list(read.by_id) if image_ids is None else image_ids
    notes, warnings = _compare_improved(read.by_id)
    counts = Counter(finding.kind for finding in read.findings if finding.kind not in (MISSING, UNREADABLE))
    if counts:
        notes.append(", ".join(f"{kind}: {count:,}" for kind, count in counts.items()))
    unknown = Counter(
        annotation.label for objects in read.by_id.values() for annotation in objects if annotation.label not in LABELS
    )
    if unknown:
        listing = ", ".join(f"{label[:40]!r}: {count:,}" for label, count in unknown.most_common(10))
        notes.append(f"labels that do not count: {listing}")
    # The rows of a paired set are read with their repeats.
    images, repeated = to_truths(
        (image_id, frames.condition(image_id), annotations) for image_id, annotations in read.by_id.items()
    )
    notes += repeated
    warnings += common.left_out_warnings(len(image_ids), len(images))
    return AnnotationSet(name, heading, image_ids, images, KAIST_SUBSETS, notes, warnings, SIZE)


def _compare_improved(by_id: Mapping[str, Sequence[Annotation]]) -> tuple[list[str], list[str]]:
    """Return notes and warnings: annotations that equal the improved ones, or only have their boxes."""
    boxes, complete = truths.improved_videos(by_id)
    equal = truths.improved_roles(by_id)
    if not boxes:
        return [], []
    if equal == boxes:
        return [f"boxes, labels and flags: equal to the improved test annotations in {equal} of {complete} videos"], []
    return [], [
        f"boxes equal the improved test annotations in {boxes} of {complete} videos, but boxes, labels and flags "
        f"together only in {equal}: other people count, so scores are not comparable with those on improved annotations"
    ]


def _read_folder(root: Path, image_ids: Sequence[str], allow_incomplete: bool) -> list[AnnotationSet]:
    wanted = set(image_ids)
    candidates = [folder for folder in folders.index_annotations(root) if wanted & folder.frames()]
    if not candidates:
        raise InputError(
            f"{root}: holds annotations of none of the {len(image_ids):,} images, "
            f"{', '.join(first_few(image_ids, 2))}. Looked for .xml and .txt files with their names, such as "
            "set06/V000/I00019.xml or set06_V000_I00019.txt, and for the dataset_info.json of a prepared data set; "
            "name the folder that has them with --annotations"
        )
    if len(candidates) > 1:
        listing = "\n".join(
            f"  {root / folder.name}: {len(wanted & folder.frames()):,} images" for folder in candidates
        )
        raise InputError(f"{root}: holds several sets of annotations. Name one of them with --annotations:\n{listing}")
    (folder,) = candidates
    path = root / folder.name
    if folder.is_paired:
        read = {
            modality: truths.read_truths(folder.files[modality], image_ids, keep_rows=True) for modality in PAIRED_NAMES
        }
    else:
        read = {"": truths.read_truths(folder.by_image(), image_ids)}
    if not allow_incomplete or not all(annotations.by_id for annotations in read.values()):
        problems = [
            f"{modality} {finding.kind}: {finding.text}".lstrip()
            for modality, annotations in read.items()
            for finding in annotations.findings
            if finding.kind in (MISSING, UNREADABLE)
        ]
        raise_if_any(problems, f"{path}, annotations of {len(image_ids):,} images", common.INCOMPLETE)
    if folder.is_paired:
        return [_from_files(name, f"{path}: {PAIRED_NAMES[name]}", read[name], image_ids) for name in read]
    # A folder may hold only one modality's half of a paired set.
    boxes = "".join(f": {modality} boxes" for modality in folder.files if modality)
    return [_from_files(path.resolve().name, f"{path}{boxes}", read[""], image_ids)]


def _read_prepared(folder: Path) -> list[AnnotationSet]:
    prepared = read_prepared(folder, "test")
    is_paired = "objects_lwir" in prepared.images
    features = {"visible": "objects", "lwir": "objects_lwir"} if is_paired else {folder.resolve().name: "objects"}
    sets = []
    for name, feature in features.items():
        images = prepared.images[feature]
        by_id: dict[str, list[Annotation]] = {}
        for index, image in enumerate(images):
            image_id = frames.parse_name(image.image_id)
            if image_id is None:
                raise InputError(
                    f"{folder}: record {index} of the test split is {image.image_id!r}, no frame of KAIST; expected "
                    "one like set06/V000/I00019. Name a data set prepared from KAIST"
                )
            rows = zip(image.labels, image.boxes.tolist(), image.occlusion.tolist(), image.ignore.tolist(), strict=True)
            by_id[image_id] = [Annotation(label, tuple(box), level, ignore) for label, box, level, ignore in rows]
        heading = f"{folder}: {PAIRED_NAMES[name]}" if is_paired else str(folder)
        image_ids = [image.image_id for image in images]
        notes, warnings = _compare_improved(by_id)
        warnings = [*warnings, *prepared.warnings]
        sets.append(AnnotationSet(name, heading, image_ids, images, KAIST_SUBSETS, notes, warnings, SIZE))
    return sets


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = common.make_parser(
        __doc__,
        annotations="COCO file, folder of annotation files, or folder of a prepared data set; may be repeated",
        results="KAIST text, COCO JSON, or folder of a text file per image, of one method; may be repeated",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="image list that replaces the test split, for folders of annotation files; results files count its images "
        "sorted by name",
    )
    parser.add_argument(
        "--allow_incomplete", action="store_true", help="leave out images without a readable annotation file"
    )
    options = parser.parse_args(arguments)
    with exit_on_error():
        common.check_names(options.results)
        if options.images and not any(map(is_annotation_folder, options.annotations)):
            raise InputError(
                f"--images={options.images}: COCO files and prepared data sets name their images themselves; give "
                "--images only with a folder of annotation files"
            )
        listed = frames.read_list(options.images) if options.images else None
        all_annotations = [
            annotations
            for path in options.annotations
            for annotations in read_annotations(path, listed, options.allow_incomplete)
        ]
        scored = [common.score_files(annotations, options.results, _read) for annotations in all_annotations]
        common.print_and_write(scored, KAIST_REASONABLE, options.output)


def _read(path: Path, annotations: AnnotationSet) -> Results:
    return read_results(path, annotations.image_ids)


if __name__ == "__main__":
    main()
