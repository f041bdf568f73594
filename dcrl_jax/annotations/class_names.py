"""The class names of YOLO labels, which have only numbers."""

import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dcrl_jax.annotations.text import has_control_characters, read_text
from dcrl_jax.errors import InputError, first_few

_LISTS = (".names", ".labels")  # of Darknet
_YAML = (".yaml", ".yml")
# Other YAML, such as a training's settings, has no such line.
_NAMES_LINE = re.compile(r"^['\"]?names['\"]?[ \t]*:", re.MULTILINE)
_NUMBERED = re.compile(r"(\d{1,6})\s*[:=,]?\s+(\S.*)", re.ASCII)
# Four numbers at the end, a folder or a suffix.
_NO_WORDS = re.compile(r"(\s+[\d.+-]+){4}\s*$|[/\\]|\.\w")
_SHOWN = 10
# Larger YAML takes the parser seconds; a thousand names have 20 KiB.
_LIMIT_CHARACTERS = 2**17
# Of the two parsers, the one in Python takes time that grows with the square of the depth.
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_BaseLoader):
    """A loader that leaves all values as text, where others read the name "no" as False, and refuses repeated keys."""

    def construct_mapping(self, node, deep=False):
        """Construct a mapping; raise ConstructorError if a key is there twice."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            counts = Counter(key.value for key, _ in node.value)
            key = next(key for key, _ in reversed(node.value) if counts[key.value] > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{key.value[:40]!r} is there twice", key.start_mark)
        return mapping


def find_class_names(files: Mapping[str, Path]) -> tuple[list[str], str] | None:
    """Return the class names by number and the name of the file that has them, or None if no file has class names.

    Files with class names are ``classes.txt``, ``obj.names`` and other ``*.names``, a ``labels.txt`` of words, with one
    name per line, and YAML with ``names``, such as ``data.yaml``: a list, or names by number.

    Args:
        files: the files of a folder by their path relative to it, with ``/``. Files of other names are skipped.

    Raises:
        InputError: a file is malformed, or two files disagree; names them.
    """
    found: tuple[list[str], str] | None = None
    for name, path in sorted(files.items()):
        names = _read_names(path, name.rpartition("/")[2].lower())
        if names is None:
            continue
        if found and found[0] != names:
            raise InputError(
                f"{path}: the class names {_shown(names)} are not those of {files[found[1]]}, {_shown(found[0])}. "
                "Delete the wrong file"
            )
        found = found or (names, name)
    return found


def _read_names(path: Path, base_name: str) -> list[str] | None:
    """Return the class names of a file, or None if it is a file of another kind."""
    if base_name.endswith(_YAML):
        text = read_text(path)
        return _yaml_names(text, path) if _NAMES_LINE.search(text) else None
    if base_name == "classes.txt" or base_name.endswith(_LISTS):
        return _listed_names(read_text(path), path)
    if base_name == "labels.txt":
        text = read_text(path)
        return _listed_names(text, path) if _is_list_of_words(text) else None
    return None


def _is_list_of_words(text: str) -> bool:
    """Return whether a ``labels.txt`` has class names, and not boxes or files."""
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and not any(_NO_WORDS.search(line) or not re.search(r"[^\W\d_]", line) for line in lines)


def _listed_names(text: str, path: Path) -> list[str]:
    """Return the names of a list with one name per line, each possibly after its number."""
    names = [line.strip() for line in text.rstrip().split("\n")]
    if "" in names:
        count = names.index("") + 1
        raise InputError(f"{path}:{count}: an empty line instead of the name of class {count - 1}")
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    if all(match and int(match[1]) == count for count, match in enumerate(numbered)):
        return [match[2].strip() for match in numbered if match]
    return names


def _yaml_names(text: str, path: Path) -> list[str]:
    if len(text) > _LIMIT_CHARACTERS:
        raise InputError(f"{path}: more than {_LIMIT_CHARACTERS:,} characters; expected a list of class names")
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if sorted(names, key=str) != sorted(numbers):
            raise InputError(
                f"{path}: names has the numbers {_shown(list(names))}; expected 0 to {len(names) - 1}, each"
            )
        names = [names[number] for number in numbers]
    if not names or not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        # An alias within an alias makes a value whose text is endless.
        found = reprlib.repr(names)[:80]
        raise InputError(f"{path}: names is neither a list of class names nor names by number: {found}")
    count = content.get("nc", str(len(names)))
    if count != str(len(names)):
        raise InputError(f"{path}: nc is {reprlib.repr(count)[:20]}, but names has {len(names)} class names")
    if control := next(filter(has_control_characters, names), None):
        raise InputError(f"{path}: the class name {control[:40]!r} has a line break or a control character")
    return [name.strip() for name in names]


def _shown(names: list[Any]) -> str:
    return ", ".join(first_few([str(name)[:40] for name in names], _SHOWN))
