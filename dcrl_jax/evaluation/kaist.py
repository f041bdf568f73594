"""The KAIST benchmark: scores of results files on one or several sets of test annotations.

    python -m dcrl_jax.evaluation.kaist --annotations=KAIST_annotation.json --results=mine.txt --results=theirs.txt
    python -m dcrl_jax.evaluation.kaist --annotations=KAIST/annotations --results=mine.txt --output=scores

Annotations are a COCO file, a folder of annotation files in any of KAIST's formats, or a prepared data set. Paired ones
are scored twice: on the boxes of the visible image (MR^R in the literature) and on those of the thermal one (MR^T).
Results files name an image by its place among the annotated images: in the order of their ids in a COCO file, of the
records of a prepared data set, of their names elsewhere. With the whole test split that is the published image list's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import folders, frames
from dcrl_jax.annotations.kaist import truths as kaist_truths
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import MISSING, MODALITIES, UNREADABLE, Annotation
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.evaluation import scorer
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import CONDITIONS, KAIST_REASONABLE, KAIST_SUBSETS
from dcrl_jax.evaluation.scorer import Benchmark, Truth, is_prepared, read_prepared

PAIRED_NAMES = {"visible": "visible boxes (MR^R)", "lwir": "lwir boxes (MR^T)"}
KAIST = Benchmark(
    subsets=KAIST_SUBSETS,
    panels=dict(zip(CONDITIONS, (subset.name for subset in KAIST_REASONABLE), strict=True)),
    read_results=read_results,
)


def read_annotations(path: Path, listed: Sequence[str] | None = None, allow_incomplete: bool = False) -> list[Truth]:
    """Reads test annotations of whatever kind, told apart by looking.

    Args:
        path: a COCO file, a folder of annotation files, or that of a prepared data set (with ``dataset_info.json``).
        listed: image ids that take the place of the test split, for a folder of annotation files alone.
        allow_incomplete: leave images out whose annotation file is missing or unreadable, and warn.

    Returns:
        one truth, or two of a paired set: ``visible``, then ``lwir``.

    Raises:
        InputError: there is nothing of the kind, more than one set, or something about a file; of missing and
            unreadable annotation files all are counted and the first named.
    """
    if is_annotation_folder(path):
        return _read_folder(path, frames.split_frames("test") if listed is None else listed, allow_incomplete)
    if path.is_dir():
        return _read_prepared(path)
    return [_from_files(path.stem, str(path), coco.read(path))]


def is_annotation_folder(path: Path) -> bool:
    """Whether a path is a folder, and not that of a prepared data set."""
    return path.is_dir() and not is_prepared(path)


def _from_files(name: str, heading: str, read: kaist_truths.Truths, image_ids: Sequence[str] | None = None) -> Truth:
    image_ids = list(read.by_id) if image_ids is None else image_ids
    warnings = []
    if left_out := len(image_ids) - len(read.by_id):
        warnings.append(
            f"{left_out:,} of {len(image_ids):,} images are left out, with what was detected in them; "
            "not comparable with scores on all images"
        )
    counts = Counter(finding.kind for finding in read.findings)
    for kind in (MISSING, UNREADABLE):
        del counts[kind]
    found = [", ".join(f"{kind}: {count:,}" for kind, count in counts.items())] if counts else []
    images = [scorer.image_truth(image_id, frames.condition(image_id), one) for image_id, one in read.by_id.items()]
    return Truth(name, heading, image_ids, images, [*_compare(read.by_id), *found], warnings, KAIST)


def _compare(by_id: Mapping[str, Sequence[Annotation]]) -> list[str]:
    """One line where boxes are those of the improved annotations, whatever the files are called."""
    equal, videos = kaist_truths.improved_videos(by_id)
    return [f"boxes: equal to the improved test annotations in {equal} of {videos} videos"] if equal else []


def _read_folder(root: Path, image_ids: Sequence[str], allow_incomplete: bool) -> list[Truth]:
    wanted = set(image_ids)
    found = [folder for folder in folders.index_annotations(root) if wanted & folder.frames()]
    if not found:
        raise InputError(
            f"{root}: holds annotations of none of the {len(image_ids):,} images, {', '.join(first_few(image_ids, 2))}. "
            "Looked for .xml and .txt files of their names, as set06/V000/I00019.xml or set06_V000_I00019.txt, and for "
            "the dataset_info.json of a prepared data set; name the folder that has them with --annotations"
        )
    if len(found) > 1:
        listing = "\n".join(f"  {root / one.name}: {len(wanted & one.frames()):,} images" for one in found)
        raise InputError(f"{root}: holds several sets of annotations. Name one of them with --annotations:\n{listing}")
    annotated, path = found[0], root / found[0].name
    if annotated.is_paired:
        read = {
            modality: kaist_truths.read_truths(annotated.files[modality], image_ids, keep_rows=True)
            for modality in MODALITIES
        }
    else:
        read = {"": kaist_truths.read_truths(annotated.by_image(), image_ids)}
    if not allow_incomplete or not all(one.by_id for one in read.values()):
        problems = [
            f"{modality} {finding.kind}: {finding.text}".lstrip()
            for modality, one in read.items()
            for finding in one.findings
            if finding.kind in (MISSING, UNREADABLE)
        ]
        raise_if_any(
            problems,
            f"{path}, annotations of {len(image_ids):,} images",
            "Add or repair these files; or leave the images out, for scores that compare with no others, with "
            "--allow_incomplete.",
        )
    if annotated.is_paired:
        return [_from_files(name, f"{path}: {PAIRED_NAMES[name]}", one, image_ids) for name, one in read.items()]
    # A folder may hold one modality's half of a paired set.
    boxes = "".join(f": {modality} boxes" for modality in annotated.files if modality)
    return [_from_files(path.resolve().name, f"{path}{boxes}", read[""], image_ids)]


def _read_prepared(folder: Path) -> list[Truth]:
    prepared = read_prepared(folder, "test")
    names = {folder.resolve().name: "objects"}
    if "objects_lwir" in prepared.images:
        names = {"visible": "objects", "lwir": "objects_lwir"}
    truths = []
    for name, feature in names.items():
        images, by_id = prepared.images[feature], {}
        for place, image in enumerate(images):
            image_id = frames.parse_name(image.image_id)
            if image_id is None:
                raise InputError(
                    f"{folder}: record {place} of the test split is {image.image_id!r}, no frame of KAIST; expected "
                    "one like set06/V000/I00019. Name a data set prepared from KAIST"
                )
            rows = zip(image.labels, image.boxes.tolist(), image.occlusion.tolist(), image.ignore.tolist(), strict=True)
            by_id[image_id] = [Annotation(label, tuple(box), *rest) for label, box, *rest in rows]
        heading = f"{folder}: {PAIRED_NAMES[name]}" if len(names) > 1 else str(folder)
        image_ids = [image.image_id for image in images]
        truths.append(Truth(name, heading, image_ids, images, _compare(by_id), prepared.warnings, KAIST))
    return truths


def _read_truths(options):
    if options.images and not any(map(is_annotation_folder, options.annotations)):
        raise InputError(
            f"--images={options.images}: COCO files and prepared data sets say themselves which images they hold; "
            "--images goes with a folder of annotation files"
        )
    listed = frames.read_list(options.images) if options.images else None
    return [truth for path in options.annotations for truth in read_annotations(path, listed, options.allow_incomplete)]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a user's mistake ends with one message and status 1."""
    parser = scorer.parser(
        __doc__,
        "COCO file, folder of annotation files, or folder of a prepared data set; may be given several times",
        "of one method each, KAIST text or COCO JSON",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="image list that takes the place of the test split, for folders of annotation files; results files count "
        "its images by their names",
    )
    parser.add_argument(
        "--allow_incomplete", action="store_true", help="leave out images without a readable annotation file"
    )
    scorer.main(parser, _read_truths, arguments)


if __name__ == "__main__":
    main()
