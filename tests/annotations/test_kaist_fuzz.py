"""KAIST readers on generated inputs: a valid result or an InputError, and written files are read back."""

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcrl_jax.annotations.kaist import folders, formats, frames
from dcrl_jax.annotations.kaist.truths import read_truths
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation
from dcrl_jax.errors import InputError

FINDINGS = {formats.UNKNOWN_LABEL, formats.NO_SIZE, formats.ONE_MODALITY}


def examples(count):
    """Return settings that give the same inputs in every run."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


def words(text):
    return tuple(text.split())


# Pieces of all formats, and similar ones.
NUMBERS = (
    *words("0 1 2 3 -1 0.5 -0.0 640 +7 1e3 .5 1e-320 1e6 1000001 1e400 -1e400 nan -nan inf Infinity True None"),
    *words("1_0 0x10 1,5 1e --1 \u0661\u0662 \uff11 \u00bd"),
    *("9" * 400, "1" + "0" * 5000, "0." + "0" * 400 + "1", ""),
)
PLAIN = words("0 0 1 1 2 5 700 -1 0.5")
mostly_plain = st.one_of(*[st.sampled_from(PLAIN)] * 15, st.sampled_from(NUMBERS))
LABELS = words("person people person? person?a cyclist ignore unpaired car Person \u4eba a&b %")
TAGS = words("annotation object name bndbox occlusion label x y w h xmin ymin xmax ymax b")
PIECES = (
    *("\n", "\r\n", "\r", " ", "\t", "\x00", "\x1c", "\u00a0", "\u2028", "\ufeff", "\ud800"),
    *("% bbGt version=3\n", "%bbGt version=2\n", "person 1 2 3 4\n", "person 1 2 3 4 0 0 0 0 0 0 0\n"),
    *(f"<{tag}>" for tag in TAGS),
    *(f"</{tag}>" for tag in TAGS),
    *words("<object/> <label/> <!-- --> <![CDATA[1]]> &e; &amp; &lt; &#49; &#x661; &#0; < > &"),
    *("<!DOCTYPE annotation [<!ENTITY e '1'>]>", "<?xml version='1.0' encoding='utf-16'?>"),
)
VALID = (
    "% bbGt version=3\nperson 505 212 20 50 1 0 0 0 0 0 0\npeople 3 4 50 60 2 5 6 7 8 1 0\n",
    "person? 505 212 20 50 0 0 0 0 0 0 0\r\nunpaired 0 0 0 0 0 0 0 0 0 0 0\r\n",
    "person 10 20 31 62\nignore 0 0 640 512\n",
    "<annotation><object><name>person</name><bndbox><x>505</x><y>212</y><w>20</w><h>50</h></bndbox>"
    "<occlusion>1</occlusion></object><object><name>people</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox>"
    "<label>lwir</label></object></annotation>",
    '<?xml version="1.0"?>\n<annotation>\n<object><name>cyclist</name><bndbox><xmin>505</xmin><ymin>212</ymin>'
    "<xmax>525</xmax><ymax>262</ymax></bndbox></object>\n</annotation>\n",
)


def rows_of(text, kind):
    """Return the number of objects of a valid text, counted without its reader."""
    if kind == "XML":
        return sum(element.tag == "object" for element in ElementTree.fromstring(text.strip()).iter())
    return sum(bool(line.strip()) and not line.startswith("%") for line in text.split("\n"))


def attempt(reader, *arguments):
    """Return a reader's result and None, or None and its message."""
    try:
        return reader(*arguments), None
    except InputError as error:
        return None, str(error)


def check(text):
    """Check that each object is read or in the findings, or the file refused; return the result."""
    parsed, message = attempt(formats.parse, text, "place")
    kept, message_of_kept = attempt(formats.parse, text, "place", True)
    assert message == message_of_kept
    if parsed is None:
        assert message
        return None
    assert parsed.format in ("bbGt", "corners", "XML", "")
    if parsed.format == "XML":
        objects = list(ElementTree.fromstring(text.strip()).iter("object"))
        assert all(len(one.findall(name)) <= 1 for one in objects for name in ("name", "bndbox", "occlusion"))
    for one in parsed.annotations:
        assert one.label
        assert all(type(value) is float and math.isfinite(value) for value in one.box)
        assert min(one.box[2:]) > 0
        assert (type(one.occlusion), type(one.ignore)) == (int, bool)
        assert one.occlusion in (0, 1, 2)
    assert {one.kind for one in parsed.findings} <= FINDINGS
    unknown = sum(one.kind == formats.UNKNOWN_LABEL for one in parsed.findings)
    assert unknown >= sum(one.label not in formats.LABELS for one in parsed.annotations)
    assert kept.findings == parsed.findings
    assert [one for one in kept.annotations if min(one.box[2:]) > 0] == parsed.annotations
    assert all(one.ignore for one in kept.annotations if min(one.box[2:]) <= 0)
    alone = sum(one.kind == formats.ONE_MODALITY for one in parsed.findings)
    assert len(kept.annotations) + alone == rows_of(text, parsed.format)
    return parsed


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "I00019.txt"


# Random bytes are seldom a valid file: most of these begin like one, in several encodings.
BEGINNINGS = (b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", "<?xml version='1.0'?><annotation/>".encode("utf-16"))
BEGINNINGS += tuple(text.encode() for text in VALID)


@examples(200)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=100), st.booleans())
def test_files_of_any_bytes(path, beginning, rest, at_the_end):
    path.write_bytes(beginning + rest if at_the_end else rest + beginning)
    text, message = attempt(read_text, path)
    assert message in (None, f"{path}: is not a text file")
    parsed = None if text is None else check(text)
    read = read_truths({"a": path}, ["b", "a"])
    assert read.findings[0].kind == MISSING
    if parsed is None:
        assert read.by_id == {}
        assert [one.kind for one in read.findings[1:]] == [UNREADABLE]
    else:
        assert read.by_id == {"a": parsed.annotations}


# Characters, tokens, lines, elements.
PARTS = (r"(?s).", r"<[^>]*>|\s+|[^<\s]+", r"[^\n]*\n?", r"(?s)<object>.*?</object>|<\w+>[^<]*</\w+>|.")


@st.composite
def mutated(draw):
    """Draw a valid file with a few characters or tokens dropped, replaced, inserted, doubled or swapped."""
    text = draw(st.sampled_from(VALID))
    parts = re.findall(draw(st.sampled_from(PARTS)), text)
    new = st.one_of(st.sampled_from((*PIECES, *NUMBERS, *LABELS)), st.characters())
    for _ in range(draw(st.integers(1, 4))):
        if not parts:
            break
        index = draw(st.integers(0, len(parts) - 1))
        match draw(st.sampled_from(("drop", "replace", "insert", "double", "swap"))):
            case "drop":
                del parts[index]
            case "replace":
                parts[index] = draw(new)
            case "insert":
                parts.insert(index, draw(new))
            case "double":
                parts.insert(index, parts[index])
            case "swap":
                other = draw(st.integers(0, len(parts) - 1))
                parts[index], parts[other] = parts[other], parts[index]
    return "".join(parts)


@examples(400)
@given(mutated())
def test_mutated_valid_files(text):
    check(text)


@st.composite
def fields_replaced(draw):
    """Draw unusual numbers; return them and a row of either text format, or an object, that has them."""
    count, tags = draw(st.sampled_from(((11, None), (4, None), (4, ("x", "y", "w", "h")))))
    values = [draw(mostly_plain) for _ in range(count)]
    if tags is None:
        return values, "person " + " ".join(values)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, values, strict=True))
    return values, f"<annotation><object><name>person</name><bndbox>{box}</bndbox></object></annotation>"


@examples(300)
@given(fields_replaced())
def test_numbers_are_read_if_and_only_if_plain_decimals(case):
    values, text = case
    parsed = check(text)
    plain = all(
        re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e-?\d+)?", one, re.ASCII) and abs(float(one)) <= 1e6 for one in values
    )
    if not plain:
        assert parsed is None
    elif parsed is not None and parsed.annotations:
        x, y, w, h = map(float, values[:4])
        assert parsed.annotations[0].box == ((x, y, w - x, h - y) if parsed.format == "corners" else (x, y, w, h))
    elif parsed is not None:
        assert [one.kind for one in parsed.findings] == [formats.NO_SIZE]


# Valid objects. Corners must be whole numbers, so that their differences are exact.
whole_boxes = st.tuples(*[st.integers(-700, 700).map(float)] * 2, *[st.integers(1, 640).map(float)] * 2)
any_boxes = st.tuples(*[st.floats(-1e6, 1e6)] * 2, *[st.floats(1e-3, 1e6)] * 2)
plain_labels = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
labels = st.one_of(st.sampled_from(formats.LABELS), plain_labels).filter(
    lambda label: label == "person?" or not label.startswith(("%", "person?", "<"))
)
spaces = st.sampled_from((" ", "  ", "\t", " \t "))
ends = st.sampled_from(("\n", "\r\n", "\n\n", " \n", "\n \r\n"))
between = st.sampled_from(("", "\n  ", "<!-- <x>1</x> -->", "<pose>unknown</pose>", "<?b c?>"))


def bbgt_row(one):
    return [one.label, *map(repr, one.box), str(one.occlusion), "1", "2", "3", "4", str(int(one.ignore)), "0"]


def corners_row(one):
    x, y, w, h = one.box
    return [one.label, *map("{:g}".format, (x, y, x + w, y + h))]


def xml_object(one, names, data):
    """Return an object with its elements in any order and irrelevant parts between them."""
    x, y, w, h = one.box
    values = one.box if "x" in names else (x, y, x + w, y + h)
    sides = [f"<{name}>{value!r}</{name}>" for name, value in zip(names, values, strict=True)]
    parts = [f"<name>{escape(one.label)}</name>", f"<bndbox>{''.join(data.draw(st.permutations(sides)))}</bndbox>"]
    if one.occlusion or data.draw(st.booleans()):
        parts.append(f"<occlusion>{one.occlusion}</occlusion>")
    parts += [data.draw(between)]
    return data.draw(between) + f"<object>{''.join(data.draw(st.permutations(parts)))}</object>"


@pytest.mark.parametrize("kind", ["bbGt", "corners", "xywh", ("xmin", "ymin", "xmax", "ymax")], ids=str)
@examples(80)
@given(st.data())
def test_written_objects_are_read_back(path, kind, data):
    boxes = any_boxes if kind in ("bbGt", "xywh") else whole_boxes
    ignore = st.booleans() if kind == "bbGt" else st.just(False)
    objects = data.draw(st.lists(st.builds(Annotation, labels, boxes, st.integers(0, 2), ignore), max_size=8))
    if kind == "corners":
        objects = [
            Annotation("ignore" if one.occlusion else "person", one.box, 0, one.occlusion > 0) for one in objects
        ]
    if kind in ("bbGt", "corners"):
        row = bbgt_row if kind == "bbGt" else corners_row
        rows = "".join(data.draw(spaces).join(row(one)) + data.draw(ends) for one in objects)
        heads = ("", "\ufeff", "% bbGt version=3\n", "\ufeff% bbGt version=3\n")
        text = data.draw(st.sampled_from(heads if kind == "bbGt" else heads[:2])) + rows
    else:
        head = data.draw(st.sampled_from(("", '<?xml version="1.0" encoding="UTF-8"?>', "\n<!-- -->")))
        rows = "".join(xml_object(one, kind, data) for one in objects)
        text = f"{head}<annotation>{rows}{data.draw(between)}</annotation>"
        kind = "XML"
    path.write_bytes(text.encode())
    parsed = check(read_text(path))
    assert parsed.annotations == objects
    assert parsed.format == (kind if objects or kind == "XML" else "")
    unknown = [one.label for one in objects if one.label not in formats.LABELS]
    assert [one.text for one in parsed.findings] == [f"place: {label[:40]!r}" for label in unknown]


# With digits of other scripts, and the long s and dotted I, which a pattern without case takes for s and i.
SETS = words("set00 set06 SET11 set99 set\u0660\u0660 \u017fet00 set0 offset00")
VIDEOS = words("V000 v001 V999 V\u0661\u0661\u0661 V00")
FRAMES = words("I00019 i00001 I99999 I\u0661\u0661\u0661\u0661\u0661 \u013000001 I1 I000190")
MODALITIES = words("visible lwir RGB Thermal")
ANYTHING = (*MODALITIES, *words("images train Test set00 V000 .. a"), "a b", "a\nb")


@st.composite
def paths(draw):
    """Draw a path similar to those of frames; return it and the image id that it names if it names one."""

    def perhaps(names):
        return st.one_of(st.just(()), st.sampled_from(names).map(lambda name: (name,)))

    names = [draw(st.one_of(st.just(one[0]), st.sampled_from(one))) for one in (SETS, VIDEOS, FRAMES)]
    parts = [*draw(st.lists(st.sampled_from(ANYTHING), max_size=3)), *names[:2], *draw(perhaps(MODALITIES)), names[2]]
    joints = [*"/" * (len(parts) - 1)] if draw(st.booleans()) else [draw(st.sampled_from("/_")) for _ in parts[1:]]
    behind = "".join("_" + name for name in draw(perhaps(MODALITIES)))
    ending = draw(st.sampled_from((".jpg", ".png", ".PNG", ".txt", ".XML", "", ".jpg.txt")))
    return parts[0] + "".join(map("".join, zip(joints, parts[1:], strict=True))) + behind + ending, "/".join(names)


@examples(200)
@given(paths())
def test_any_path_names_its_frame_or_none(case):
    path, name = case
    root = Path("copy")
    found = folders.recognise(root / path, root)
    if found is not None:
        assert re.fullmatch(r"set\d\d/V\d{3}/I\d{5}", found.image_id, re.ASCII)
        assert found.image_id.lower() == name.lower()
        assert found.modality in (None, "visible", "lwir")
        assert found.layout in ("video tree", "flat", "ICAFusion")
        assert isinstance(frames.is_known(found.image_id), bool)


@examples(200)
@given(
    st.lists(
        st.one_of(st.sampled_from(("set06/V000/I00019", "\n", *SETS, *VIDEOS, *FRAMES, "/", "_")), st.text(max_size=5))
    )
)
def test_any_list_has_known_frames_or_is_refused(path, pieces):
    path.write_bytes("".join(pieces).encode(errors="surrogatepass"))
    ids, message = attempt(frames.read_list, path)
    if ids is None:
        assert message.startswith(f"{path}:")
        return
    assert ids
    assert all(re.fullmatch(r"set\d\d/V\d{3}/I\d{5}", one, re.ASCII) and frames.is_known(one) for one in ids)
    assert ids == sorted(set(ids))
