"""The options of a folder of pairs; they determine its records, and their checksum is in the data set's name."""

import dataclasses
import re
import zlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from dcrl_jax.errors import InputError

SPLITS = ("train", "validation", "test")
CHOICES = {
    "labels": ("visible", "lwir", "both", "none"),
    "missing_labels": ("background", "error"),
    "split": ("auto", "sequence", *SPLITS),
}
_WORDS = ("person_labels", "ignore_labels", "class_names")


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(eq=False, kw_only=True)
class FolderConfig(tfds.core.BuilderConfig):
    """The options. The name of the prepared data is ``NAME-CHECKSUM`` of all options.

    Options with several values take a text with commas or a sequence, and become tuples.

    Raises:
        InputError: an option is out of range, or two exclude each other.
    """

    name: str = _option("pairs", "word for the prepared data, so that several folders lie beside each other")
    pairs: str | None = _option(
        None, "CSV list within the folder, columns: visible, lwir; if given labels, split, condition, sequence"
    )
    visible: str | None = _option(
        None, "folder or pattern of the visible images within the folder, e.g. '**/*_RGB.jpg'; needs lwir"
    )
    lwir: str | None = _option(
        None, "folder or pattern of the thermal images; equal wildcards, then equal names make a pair"
    )
    labels: str = _option(
        "visible",
        "the images on which the labels were drawn; both: the objects that either shows; none: no labels",
    )
    label_folder: str | None = _option(None, "folder within the folder; label files elsewhere are not read")
    person_labels: str | Sequence[str] = _option(
        (), "labels that become person, with commas (default: person, pedestrian, ...; the result says which)"
    )
    ignore_labels: str | Sequence[str] = _option(
        (), "labels that become regions to ignore, with commas; * for all but people"
    )
    class_names: str | Sequence[str] = _option(
        (), "names of YOLO's classes from 0, with commas (default: a list of names in the folder)"
    )
    missing_labels: str = _option(
        "background", "what an image without a label file is: an image without objects, or an error"
    )
    split: str = _option("auto", "auto: as lists or names say, else by sequence; or the one split of all pairs")
    train_list: str | None = _option(None, "pattern within the folder: lists of the training pairs, one a line")
    validation_list: str | None = _option(None, "the same of the validation pairs")
    test_list: str | None = _option(None, "the same of the test pairs")
    sequence: str | None = _option(
        None, "regular expression searched in the name of a pair without its split: its groups name the sequence"
    )
    sequence_images: int = _option(0, "cut every sequence into blocks of so many consecutive images; 0: do not")
    test_share: float = _option(0.2, "share of the pairs that become the test split, where sequences are chosen")
    split_seed: int = _option(0, "seed of the choice of sequences")
    night: str | None = _option(None, "regular expression that the names of pairs by night contain, e.g. 'N$'")
    lwir_to_visible: str | Sequence[float] | None = _option(
        None, "where the thermal image lies in the visible one: stretch, four or nine numbers, or a file"
    )

    def __post_init__(self):
        for option, default in defaults().items():
            value = getattr(self, option)
            if value not in CHOICES.get(option, (value,)):
                raise InputError(
                    f"rgbt_folder: {option} is {value!r}; it must be one of: {', '.join(CHOICES[option])}."
                )
            if default is None and value is not None and not isinstance(value, str) and option != "lwir_to_visible":
                raise InputError(f"rgbt_folder: {option} must be a text, not {value!r}.")
            if value == "" and default is None:
                setattr(self, option, None)
            if type(default) is int and (type(value) is not int or value < 0):
                raise InputError(f"rgbt_folder: {option} must be a whole number of at least 0, not {value!r}.")
        for option in _WORDS:
            setattr(self, option, _words(option, getattr(self, option)))
        both = {label.lower() for label in self.person_labels} & {label.lower() for label in self.ignore_labels}
        if both:
            raise InputError(f"rgbt_folder: person_labels and ignore_labels both have {', '.join(sorted(both))}.")
        if not re.fullmatch(r"[A-Za-z0-9_]+", str(self.name)):
            raise InputError(f"rgbt_folder: name is {self.name!r}; expected a word of letters, digits and _.")
        if (self.visible is None) != (self.lwir is None):
            raise InputError("rgbt_folder: visible and lwir belong together; give both, or neither.")
        if self.pairs and self.visible:
            raise InputError("rgbt_folder: a list of pairs names all images; give pairs, or visible and lwir.")
        for option in ("sequence", "night"):
            expression = getattr(self, option)
            try:
                re.compile(expression or "")
            except re.error as error:
                raise InputError(f"rgbt_folder: {option} is {expression!r}, no regular expression: {error}.") from error
        if not isinstance(self.test_share, float) or not 0 < self.test_share < 1:
            raise InputError(f"rgbt_folder: test_share must be between 0 and 1, not {self.test_share!r}.")
        if isinstance(self.lwir_to_visible, Sequence) and not isinstance(self.lwir_to_visible, str):
            self.lwir_to_visible = tuple(self.lwir_to_visible)
        rules = {
            f"split={self.split}": self.split in SPLITS,
            "sequence or sequence_images": self.sequence or self.sequence_images or self.split == "sequence",
            "lists of pairs": any(self.lists().values()),
        }
        given = [rule for rule, is_given in rules.items() if is_given]
        if len(given) > 1:
            raise InputError(f"rgbt_folder: {' and '.join(given)}: each says how pairs are split; give one of them.")
        options = [(option, getattr(self, option)) for option in defaults()]
        self.name = f"{self.name}-{zlib.crc32(repr(options).encode()):08x}"

    def lists(self) -> dict[str, str | None]:
        """Return the pattern of the lists of each split, None where none is given."""
        return {split: getattr(self, f"{split}_list") for split in SPLITS}


HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(FolderConfig) if "help" in field.metadata}


def defaults() -> dict[str, Any]:
    """Return the default of each option, in their order."""
    return {field.name: field.default for field in dataclasses.fields(FolderConfig) if field.name in HELP}


def _words(option, value):
    parts = value.split(",") if isinstance(value, str) else value or ()
    if not all(isinstance(part, str) for part in parts):
        raise InputError(f"rgbt_folder: {option} is {value!r}; expected words, separated by commas.")
    return tuple(part.strip() for part in parts if part.strip())
