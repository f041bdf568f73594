"""KAIST's annotation formats: what is read, what is left out with a finding, and what is refused."""

import pytest

from dcrl_jax.annotations.kaist import formats
from dcrl_jax.annotations.kaist.formats import LABELS, NO_SIZE, ONE_MODALITY, UNKNOWN_LABEL
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import REPEATED, Annotation, Finding
from dcrl_jax.errors import InputError

HEADER = "% bbGt version=3\n"
ROWS = "person 505 212 20 50 1 506 213 14 15 0 0\npeople -3.5 220.25 40 41 2 0 0 0 0 1 0\n"
PERSON = Annotation("person", (505, 212, 20, 50))
PARTIAL = PERSON._replace(occlusion=1)
READ_FROM_ROWS = [PARTIAL, Annotation("people", (-3.5, 220.25, 40, 41), 2, True)]
SIZE = "<x>505</x><y>212</y><w>20</w><h>50</h>"
CORNERS = "<xmin>505</xmin><ymin>212</ymin><xmax>525</xmax><ymax>262</ymax>"


def parse(text, keep_rows=False):
    return formats.parse(text, "I00019.txt", keep_rows)


def row(label="person", box="505 212 20 50", occlusion="0", ignore="0", rest="0 0 0 0"):
    return f"{label} {box} {occlusion} {rest} {ignore} 0"


def obj(label="person", box=SIZE, rest="<occlusion>1</occlusion>"):
    return f"<object><name>{label}</name><bndbox>{box}</bndbox>{rest}</object>"


def xml(*objects):
    return "\n".join(["<annotation>", "<size><width>640</width></size>", *objects, "</annotation>"])


VALID = {
    "bbGt": (HEADER + ROWS, READ_FROM_ROWS, "bbGt"),
    "bbGt without header": (ROWS, READ_FROM_ROWS, "bbGt"),
    "bbGt after blank lines": ("\n \n" + HEADER + "\n" + ROWS, READ_FROM_ROWS, "bbGt"),
    "header with spaces": ("%bbGt version = 3 \n" + ROWS, READ_FROM_ROWS, "bbGt"),
    "tabs and spaces": (row().replace(" ", " \t ") + " \n", [PERSON], "bbGt"),
    "box beyond the image": (row(box="-700 -600 30 40"), [Annotation("person", (-700, -600, 30, 40))], "bbGt"),
    "XML with x y w h": (xml(obj()), [PARTIAL], "XML"),
    "XML with corners": (xml(obj(box=CORNERS)), [PARTIAL], "XML"),
    "XML in another order": (
        "<annotation><object><occlusion>1</occlusion><pose>unknown</pose><bndbox><h>50</h><w>20</w><!-- <x>1</x> -->"
        "<y>212</y><x>505</x></bndbox><name>person</name></object></annotation>",
        *([PARTIAL], "XML"),
    ),
    "XML of both, in order": (
        *(xml(obj("cyclist", CORNERS), obj("people"), obj("person?", CORNERS)),),
        *([PARTIAL._replace(label=label) for label in ("cyclist", "people", "person?")], "XML"),
    ),
    "declaration, comments, spaces": (
        '\n\n<?xml version="1.0" encoding="latin-1"?><!-- by hand -->'
        + xml(obj(" person\n")).replace("505", " 5<!-- no -->05 "),
        *([PARTIAL], "XML"),
    ),
    "deeply nested XML": (
        "<annotation>" + "<a>" * 100_000 + "</a>" * 100_000 + obj(rest="") + "</annotation>",
        *([PERSON], "XML"),
    ),
    "corners": (
        "person 10 20.5 31 62\nignore 0 0 640 512\n",
        [Annotation("person", (10, 20.5, 21, 41.5)), Annotation("ignore", (0, 0, 640, 512), 0, True)],
        "corners",
    ),
    "empty": ("", [], ""),
    "blank": (" \r\n\n\t", [], ""),
    "header": (HEADER, [], ""),
    "empty XML": ("<annotation/>", [], "XML"),
    "placeholder": (row("unpaired", "0 0 0 0") + "\n" + row(), [PERSON], "bbGt"),
    **{label: (row(label), [PERSON._replace(label=label)], "bbGt") for label in LABELS},
    **{text: (row(text), [PERSON._replace(label="person?")], "bbGt") for text in ("person?a", "person??", "person?-b")},
    **{
        number: (row(box=f"{number} 2 3 4"), [Annotation("person", (value, 2, 3, 4))], "bbGt")
        for number, value in {"12": 12, "+12.50": 12.5, "1.2e1": 12, ".5": 0.5, "12.": 12}.items()
    },
}


@pytest.mark.parametrize(("text", "annotations", "kind"), VALID.values(), ids=VALID)
def test_valid_file_is_read_without_findings(text, annotations, kind):
    assert parse(text) == (annotations, [], kind)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_mark_line_ends_and_suffix_do_not_matter(tmp_path, mark, ends):
    texts = {"bbGt": HEADER + row() + "\n", "corners": "person 505 212 525 262\n"}
    texts["XML"] = '<?xml version="1.0"?>\n' + xml(obj(rest="\n"))
    for kind, text in texts.items():
        path = tmp_path / f"{kind}.xml"
        path.write_bytes((mark + text.replace("\n", ends)).encode())
        assert parse(read_text(path)) == ([PERSON], [], kind)


@pytest.mark.parametrize("label", ["persona", "people?", "aperson?", "car", "\u4eba"])
def test_unknown_label_is_kept_with_a_finding(label):
    for text in (f"{row()}\n{row(label)}", xml(obj(), obj(label))):
        annotations, findings, _ = parse(text)
        assert [one.label for one in annotations] == ["person", label]
        assert findings == [Finding(UNKNOWN_LABEL, f"I00019.txt: {label!r}")]


def test_label_may_have_capitals_and_equal_objects_count_once():
    repeated = Finding(REPEATED, "I00019.txt: person 505 212 20 50, 2 times")
    for text in (f"{row()}\n{row('Person')}", xml(obj(rest=""), obj("PERSON", rest=""))):
        assert parse(text)[:2] == ([PERSON], [repeated])
        # Rows of paired files stay, so that they still correspond.
        assert parse(text, keep_rows=True)[:2] == ([PERSON, PERSON], [])


@pytest.mark.parametrize(
    ("text", "box"),
    [
        *((row(box=box), box) for box in ("5 6 0 50", "5 6 20 -0.5", "5 6 -0 -0")),
        ("person 5 6 5 26", "5 6 0 20"),
        ("person 30 6 5 26", "30 6 -25 20"),
        (xml(obj(box="<x>5</x><y>6</y><w>20</w><h>0</h>")), "5 6 20 0"),
        (xml(obj(box="<xmin>5</xmin><ymin>6</ymin><xmax>25</xmax><ymax>5</ymax>")), "5 6 20 -1"),
    ],
)
def test_box_of_no_size_is_left_out_or_kept_as_an_ignored_row(text, box):
    finding = Finding(NO_SIZE, f"I00019.txt: person {box}")
    assert parse(text)[:2] == ([], [finding])
    (kept,), findings, _ = parse(text, keep_rows=True)
    assert (kept.label, kept.box, kept.ignore) == ("person", tuple(map(float, box.split())), True)
    assert findings == [finding]


def test_kept_rows_stay_in_their_places_and_a_placeholder_is_no_finding():
    text = "\n".join([row(), row("people", "0 0 0 0"), row("cyclist"), row("unpaired", "0 0 0 0")])
    assert [one.label for one in parse(text).annotations] == ["person", "cyclist"]
    annotations, findings, _ = parse(text, keep_rows=True)
    rows = [("person", False), ("people", True), ("cyclist", False), ("unpaired", True)]
    assert [(one.label, one.ignore) for one in annotations] == rows
    assert [one.kind for one in findings] == [NO_SIZE]


def test_object_of_one_modality_is_left_out_with_a_finding():
    text = xml(obj("people"), obj(rest="<label>visible</label>"), obj(box=CORNERS, rest="<label> lwir\n</label>"))
    note = "I00019.txt: object {}, person 505 212 20 50: annotated on the {} image only"
    findings = [Finding(ONE_MODALITY, note.format(*one)) for one in ((2, "visible"), (3, "lwir"))]
    assert parse(text) == ([Annotation("people", (505, 212, 20, 50), 1)], findings, "XML")


NOT_12 = "fields instead of 12, label x y w h occ vx vy vw vh ignore angle"
ONLY_01 = "expected 0, 1 or 2, and 0 or 1"
MALFORMED = {
    "another version": ("% bbGt version=2\n", "line 1: '% bbGt version=2' instead of '% bbGt version=3' on the first"),
    "another first line": ("% made by hand\n" + row(), "line 1: '% made by hand' instead of '% bbGt version=3'"),
    "first line further down": (row() + "\n" + HEADER, "line 2: '% bbGt version=3' instead of '% bbGt version=3' on"),
    "indented first line": (" " + HEADER, f"line 1: 3 {NOT_12}"),
    "eleven fields": (f"{HEADER}\n{row()}\n{row()[:-2]}", f"line 4: 11 {NOT_12}"),
    "corners below bbGt": (f"{row()}\nperson 1 2 3 4", f"line 2: 5 {NOT_12}"),
    "no number": (row(box="1 2 3 a"), "line 1: 'person 1 2 3 a 0 0 0 0 0 0 0' is not a label and eleven numbers"),
    "occlusion 3": (f"{HEADER}{row(occlusion='3')}", f"line 2: occlusion 3 and ignore 0; {ONLY_01}"),
    "occlusion 0.5": (row(occlusion="0.5"), f"line 1: occlusion 0.5 and ignore 0; {ONLY_01}"),
    "ignore 2": (row(ignore="2"), f"line 1: occlusion 0 and ignore 2; {ONLY_01}"),
    "four fields": ("person 1 2 3", "4 fields in the first line; expected bbGt text (12 fields), `person|ignore x1"),
    "bbGt below corners": (f"person 1 2 3 4\n\n{row()}", "line 3: 12 fields instead of 5, person|ignore x1 y1 x2 y2"),
    "YOLO": ("0 0.5 0.5 0.1 0.2", "line 1: label '0'; files of five fields a line have person and ignore"),
    "no number in corners": ("person 1 2 3 4\nignore 1 2 3 4,5", "line 2: 'ignore 1 2 3 4,5' is not a label and four"),
    "not closed": ("<annotation>\n<object>", "not well-formed XML: no element found: line 2, column 8"),
    "text behind it": ("<annotation/>\nperson", "not well-formed XML: junk after document element: line 2, column 0"),
    "another root": ("<html><body/></html>", "XML of <html> without <object> instead of <annotation>"),
    "empty name": (xml(obj(), obj("")), "object 2: has no name"),
    "no box": (xml("<object><name>person</name></object>"), "object 1: has no bndbox"),
    "empty box": (xml(obj(box="")), "object 1: bndbox has neither x y w h nor xmin ymin xmax ymax"),
    "side missing": (xml(obj(box=SIZE.removesuffix("<h>50</h>"))), "object 1: h is ''; expected a number"),
    "corner missing": (xml(obj(), obj(box=CORNERS[:-16])), "object 2: ymax is ''; expected a number"),
    "no number in XML": (xml(obj(box=SIZE.replace("20", "wide"))), "object 1: w is 'wide'; expected a number"),
    "occlusion 3 in XML": (xml(obj(rest="<occlusion>3</occlusion>")), "object 1: occlusion is 3; expected 0, 1 or 2"),
    "two boxes": (xml(obj(rest="<bndbox/>")), "object 1: has 2 elements <bndbox>; expected one"),
    "two names": (xml(obj(rest="<name>people</name>")), "object 1: has 2 elements <name>; expected one"),
    "two occlusions": (xml(obj(rest="<occlusion/>" * 2)), "object 1: has 2 elements <occlusion>; expected one"),
    "element in a number": (xml(obj(box=SIZE.replace("505", "5<b/>05"))), "object 1: <x> contains other elements"),
    "entity of nowhere": (xml(obj("&person;")), "not well-formed XML: undefined entity: line 3, column 14"),
}


@pytest.mark.parametrize(("text", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_file_is_refused_with_place_and_problem(text, problem):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith(problem)


NO_NUMBERS = "nan -inf infinity 1e400 -1e7 1_0 \u0661\u0662 \uff11 0x10 1,5 --1 1e"


@pytest.mark.parametrize("number", ["", *NO_NUMBERS.split(), "9" * 5000])
def test_texts_that_are_no_plain_decimal_are_refused_in_any_field(number):
    for index in range(4):
        fields = ["1", "2", "30", "40"]
        fields[index] = number
        tags = zip("xywh", fields, strict=True)
        texts = [xml(obj(box="".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)))]
        if number:
            texts += [row(box=" ".join(fields)), "person " + " ".join(fields)]
        for text in texts:
            with pytest.raises(InputError, match=r"is not a label and|expected a number"):
                parse(text)


def test_entities_that_expand_exponentially_or_name_a_file_are_refused(tmp_path):
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    with pytest.raises(InputError, match="not well-formed XML: limit on input amplification factor"):
        parse(f'<!DOCTYPE annotation [<!ENTITY e0 "aaaaaaaaaa">{entities}]><annotation>&e9;</annotation>')
    (tmp_path / "secret").write_text("person")
    with pytest.raises(InputError, match="undefined entity &e;"):
        parse(f'<!DOCTYPE annotation [<!ENTITY e SYSTEM "{(tmp_path / "secret").as_uri()}">]>' + xml(obj("&e;")))
