"""Labels of one image: which format a file has, what is read, what is a finding, and what is refused."""

import pytest

from dcrl_jax.annotations import label_files
from dcrl_jax.annotations.label_files import Labels
from dcrl_jax.annotations.types import NO_SIZE, OTHER_SIZE, OUTSIDE, REPEATED, Annotation, Finding
from dcrl_jax.annotations.voc import ONE_MODALITY
from dcrl_jax.annotations.yolo import BEYOND
from dcrl_jax.errors import InputError

PLACE = "Größe 1.txt"
PERSON = Annotation("person", (505, 212, 20, 50))
CORNERS = "<xmin>505</xmin><ymin>212</ymin><xmax>525</xmax><ymax>262</ymax>"
SIZE = "<x>505</x><y>212</y><w>20</w><h>50</h>"
BBGT = "person 505 212 20 50 0 0 0 0 0 0 0"
NAMES = ("person", "car")


def parse(text, size=(640, 512), class_names=NAMES):
    return label_files.parse(text, PLACE, size, class_names)


def obj(rest="", label="person", box=CORNERS):
    return f"<object><name>{label}</name>{rest}<bndbox>{box}</bndbox></object>"


def xml(*objects, root="annotation", start=""):
    return f"<{root}>{start}{''.join(objects)}</{root}>"


# As LLVIP's tool labelImg writes it.
LLVIP = """\
<annotation>
\t<folder>train</folder>
\t<filename>000000.jpg</filename>
\t<path>C:\\Users\\user\\000000.jpg</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>640</width>
\t\t<height>512</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>person</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>505</xmin>
\t\t\t<ymin>212</ymin>
\t\t\t<xmax>525</xmax>
\t\t\t<ymax>262</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""
FLIR = xml(
    *(obj("<difficult>0</difficult>"), obj("<difficult>1</difficult>", "bicycle", CORNERS.replace("505", "0.5"))),
    root="Annotation",
    start="<folder>training</folder><filename>FLIR_00001.jpeg</filename>",
)
VALID = {
    "empty": ("", [], ""),
    "blank": (" \r\n\r\n", [], ""),
    "YOLO": ("1 0.5 0.5 0.25 0.5\n", [Annotation("car", (240, 128, 160, 256))], "YOLO"),
    "YOLO with Windows line ends": ("0 0.5 0.5 0.25 0.5\r\n\r\n", [Annotation("person", (240, 128, 160, 256))], "YOLO"),
    "YOLO polygon": ("0 0.25 0.5 0.5 0.25 0.75 0.75", [Annotation("person", (160, 128, 320, 256))], "YOLO"),
    "YOLO polygon of five points": ("0 0 0 1 0 1 1 0 1 0 0", [Annotation("person", (0, 0, 640, 512))], "YOLO"),
    "VOC of LLVIP": (LLVIP, [PERSON], "VOC"),
    "VOC of FLIR": (FLIR, [PERSON, Annotation("bicycle", (0.5, 212, 524.5, 50), ignore=True)], "VOC"),
    "VOC with another root": (xml(obj(label="People"), root="doc"), [PERSON._replace(label="People")], "VOC"),
    "VOC without objects": (xml(), [], "VOC"),
    "VOC with parts of the body": (
        xml(obj("<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>")),
        *([PERSON], "VOC"),
    ),
    "XML of KAIST": (
        xml(obj("<occlusion>2</occlusion>", "Person?a", SIZE)),
        [Annotation("person?", PERSON.box, 2)],
        "KAIST",
    ),
    "bbGt": (f"% bbGt version=3\n{BBGT}\n", [PERSON], "KAIST"),
    "bbGt without header": (BBGT.replace("person", "Person"), [PERSON], "KAIST"),
    "bbGt with a label of one's own": (BBGT.replace("person", "tram"), [PERSON._replace(label="tram")], "KAIST"),
    "bbGt without objects": ("% bbGt version=3\n", [], "KAIST"),
    "corners": (
        "person 505 212 525 262\nignore 0 0 9 9",
        *([PERSON, Annotation("ignore", (0, 0, 9, 9), ignore=True)], "KAIST"),
    ),
    "CVC-14": (
        "97 101 18 52 1 0 0 0 0 1 0\n121  105 15 46 0 0 0 0 0 2 0\n-3 20 10 30 1 0 0 0 0 3 0 \r\n",
        [
            Annotation("person", (88, 75, 18, 52)),
            Annotation("person", (113.5, 82, 15, 46), ignore=True),
            Annotation("person", (-8, 5, 10, 30)),
        ],
        "CVC-14",
    ),
}


@pytest.mark.parametrize(("text", "annotations", "kind"), VALID.values(), ids=VALID)
def test_valid_labels_are_read_without_findings(text, annotations, kind):
    assert parse(text) == Labels(annotations, [], kind)
    # Only YOLO needs the image's size and names.
    if kind != "YOLO":
        assert parse(text, None, None) == Labels(annotations, [], kind)


@pytest.mark.parametrize(
    ("fields", "occlusion", "ignore"),
    [
        ("<truncated>1</truncated><occluded>0</occluded>", 1, False),
        ("<truncated>0</truncated><occluded> 1 </occluded>", 1, False),
        ("<truncated>0.15</truncated>", 1, False),
        ("<occluded>True</occluded><difficult>false</difficult>", 1, False),
        ("<truncated>Unspecified</truncated><difficult>Unspecified</difficult><occluded/>", 0, False),
        ("<truncated>1</truncated><occlusion>0</occlusion>", 0, False),
        ("<occlusion>2</occlusion><difficult>1</difficult>", 2, True),
    ],
)
def test_flags_of_xml_tell_occlusion_and_what_is_ignored(fields, occlusion, ignore):
    assert parse(xml(obj(fields))).annotations == [PERSON._replace(occlusion=occlusion, ignore=ignore)]


SIZE_OF_ANOTHER = "<size><width>1280</width><height>1024.0</height></size>"
FINDINGS = {
    "YOLO": (
        "0 0.5 0.5 0 0.5\n0 0.5 0.5 0.25 0.5\n0 1.25 0.5 0.25 0.5\n0 0.5 -0.25 0.25 1\n0 0.5 0.5 0.25 0.5",
        [Annotation("person", (240, 128, 160, 256)), Annotation("person", (240, -384, 160, 512))],
        [
            Finding(NO_SIZE, f"{PLACE}:1: a box of no size, w = 0, h = 0.5"),
            Finding(OUTSIDE, f"{PLACE}:3: a box completely outside the image"),
            Finding(BEYOND, f"{PLACE}:4: y = -0.25 is not in 0..1"),
            Finding(REPEATED, f"{PLACE}: person 240 128 160 256, 2 times"),
        ],
    ),
    "VOC": (
        xml(obj(), obj(box=CORNERS.replace("525", "505")), obj(), start=SIZE_OF_ANOTHER),
        [PERSON],
        [
            Finding(OTHER_SIZE, f"{PLACE}: 1280x1024 pixels, but the image has 640x512"),
            Finding(NO_SIZE, f"{PLACE}: person 505 212 0 50"),
            Finding(REPEATED, f"{PLACE}: person 505 212 20 50, 2 times"),
        ],
    ),
    "VOC of no size, which tools write for unknown": (
        xml(obj(), start="<size><width>0</width><height>0</height></size>"),
        *([PERSON], []),
    ),
    "XML of KAIST": (
        xml(obj(box=SIZE), obj("<label>lwir</label>", box=SIZE), obj("<label>tall</label>", "people", SIZE)),
        [PERSON, PERSON._replace(label="people")],
        [Finding(ONE_MODALITY, f"{PLACE}: object 2, person 505 212 20 50: annotated on the lwir image only")],
    ),
    "bbGt": (
        f"{BBGT}\n{BBGT}\n{BBGT.replace(' 50 ', ' 0 ')}",
        [PERSON],
        [
            Finding(NO_SIZE, f"{PLACE}: person 505 212 20 0"),
            Finding(REPEATED, f"{PLACE}: person 505 212 20 50, 2 times"),
        ],
    ),
    "CVC-14": ("97 101 0 52 1 0 0 0 0 1 0", [], [Finding(NO_SIZE, f"{PLACE}: person 97 75 0 52")]),
}


@pytest.mark.parametrize(("text", "annotations", "findings"), FINDINGS.values(), ids=FINDINGS)
def test_what_is_left_out_or_doubtful_is_a_finding(text, annotations, findings):
    assert parse(text)[:2] == (annotations, findings)


UNKNOWN = ": the first line, {!r}, is in no known format"
REFUSED = {
    "words": ("A readme.\n0 0.5 0.5 0.1 0.1", UNKNOWN.format("A readme.")),
    "four numbers": ("0 0.5 0.5 0.1", UNKNOWN.format("0 0.5 0.5 0.1")),
    "commas": ("0,0.5,0.5,0.1,0.1", UNKNOWN.format("0,0.5,0.5,0.1,0.1")),
    "KITTI": ("Car 0.0 0 -1.5 7.1 1 8 3 1 1 3 -4 1 2 1", UNKNOWN.format("Car 0.0 0 -1.5 7.1 1 8 3 1 1 3 -4 1 2 1")),
    "corners of another label": ("car 1 2 30 40", UNKNOWN.format("car 1 2 30 40")),
    "JSON": ('{"shapes": []}', UNKNOWN.format('{"shapes": []}')),
    "YOLO in pixels": ("0 320 256 40 100", ":1: x = 320 is not relative to the image, in 0..1"),
    "YOLO with a name": ("person 0.5 0.5 0.1 0.1", ":1: not a whole number and 4 numbers: 'person 0.5 0.5 0.1 0.1'"),
    "YOLO with confidences": ("0 0.5 0.5 0.1 0.1 0.9\n" * 3, ":1: 6 fields instead of the five `class x y w h`"),
    "YOLO of another set": ("0 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1", ":2: unknown class 2; known are 0 person, 1 car"),
    "keypoints": ("0 0.5 0.5 0.1 0.1 0.4 0.4 2 0.5 0.5 2", ":1: x4 = 2 is not relative"),
    "a line of another format": (f"{BBGT}\n0 0.5 0.5 0.1 0.1", ": line 2: 5 fields instead of 12"),
    "CVC-14 of twelve numbers": ("97 101 18 52 1 0 0 0 0 1 0\n1 2 3", ": line 2: '1 2 3' is not CVC-14's eleven whole"),
    "CVC-14 of large numbers": (
        "9 9 9 9 1 0 0 0 0 1 0\n1 2 9999999 4 1 0 0 0 0 1 0",
        ": line 2: '1 2 9999999 4 1 0 0 0 0 1 0' is not",
    ),
    "CVC-14 with another flag": (
        "97 101 18 52 3 0 0 0 0 1 0",
        ": line 1: the fifth number, mandatory, is 3; expected 0 or",
    ),
    "cut off XML": (LLVIP[:-30], ": not well-formed XML: unclosed token: line 24, column 2"),
    "other XML": ("<annotations><image><box/></image></annotations>", ": XML of <annotations> without <object>"),
    "no name": (xml(obj(), obj(label=" ")), ": object 2: has no name"),
    "no box": (xml("<object><name>person</name><robndbox/></object>"), ": object 1: has no bndbox"),
    "two boxes": (xml(obj("<bndbox/>")), ": object 1: has 2 elements <bndbox>; expected one"),
    "box of other elements": (xml(obj(box="<left>1</left>")), ": object 1: bndbox has neither x y w h nor xmin ymin"),
    "box of both forms": (
        xml(obj(box=CORNERS + "<x>1</x><y>2</y><w>3</w><h>4</h>")),
        ": object 1: bndbox has both x y w h and xmin ymin xmax ymax; keep one of them",
    ),
    "misspelt object": (xml(obj(), obj().replace("object>", "objct>")), ": <objct> has a bndbox; expected one in each"),
    "name of two lines": (xml(obj(label="per\nson")), ": object 1: <name> has a line break or a control character"),
    "escaped character": (xml(obj(label="a&#133;b")), ": object 1: <name> has a line break or a control character"),
    "label twice": (xml(obj("<label>lwir</label><label>visible</label>")), ": object 1: has 2 elements <label>"),
    "size in words": (xml("<size><width>wide</width></size>"), ": width is 'wide'; expected a whole number of pixels"),
    "size twice": (xml("<size/><size/>"), ": has 2 elements <size>; expected one"),
    "no number": (xml(obj(box=CORNERS.replace("525", "5 25"))), ": object 1: xmax is '5 25'; expected a number"),
    "difficult 2": (xml(obj("<difficult>2</difficult>")), ": object 1: difficult is 2; expected 0 or 1"),
    "difficult in part": (xml(obj("<difficult>0.5</difficult>")), ": object 1: difficult is 0.5; expected 0 or 1"),
    "truncated in words": (
        xml(obj("<truncated>left</truncated>")),
        ": object 1: truncated is 'left'; expected a number",
    ),
    "occlusion 3": (xml(obj("<occlusion>3</occlusion>")), ": object 1: occlusion is 3; expected 0, 1 or 2"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_malformed_labels_are_refused_with_file_place_and_problem(text, problem):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith(PLACE + problem)


def test_messages_say_what_to_do():
    with pytest.raises(InputError, match="Give the names in their order with the option class_names, or put classes"):
        parse("0 0.5 0.5 0.1 0.1", class_names=None)
    with pytest.raises(InputError, match="relative to the image, whose size is not known"):
        parse("0 0.5 0.5 0.1 0.1", size=None)
    with pytest.raises(InputError, match=r"unknown class 7; known are 0 person, 1 car \(and 2 more malformed lines\)"):
        parse("7 0.5 0.5 0.1 0.1\n" * 3)
    with pytest.raises(InputError, match=r"(?s)no known format\.\nKnown formats .*YOLO text.*VOC XML.*KAIST.*CVC-14"):
        parse("hello")


ENCODED = {
    "UTF-8 with a mark": "\ufeff<annotation>".encode(),
    "UTF-16": "\ufeff<annotation>".encode("utf-16-le"),
    "Latin-1": b"<?xml version='1.0' encoding='ISO-8859-1'?>\r\n<annotation>",
    "UTF-8 that is declared as UTF-16": b'<?xml version="1.0" encoding="utf-16"?><annotation>',
}
CODECS = {"UTF-16": "utf-16-le", "Latin-1": "latin-1"}


@pytest.mark.parametrize(("name", "start"), ENCODED.items(), ids=ENCODED)
def test_encoding_and_suffix_do_not_matter(tmp_path, name, start):
    path = tmp_path / "Straße 1.TXT"
    path.write_bytes(start + (obj(label="Fußgänger") + "\r\n</annotation>\r\n").encode(CODECS.get(name, "utf-8")))
    assert label_files.read(path, (640, 512), None) == ([PERSON._replace(label="Fußgänger")], [], "VOC")


def test_an_empty_file_is_an_image_without_objects_but_not_as_xml(tmp_path):
    for name in ("1.txt", "1.XML"):
        (tmp_path / name).write_text("\n")
    assert label_files.read(tmp_path / "1.txt", None, None) == ([], [], "")
    with pytest.raises(InputError, match=r"1\.XML: an empty file; XML of an image without objects has an <annotation>"):
        label_files.read(tmp_path / "1.XML", None, None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r": cannot be read \(No such file or directory\)"),
        (b"\xff\xd8\xff\xe0", ":1: is not a text file; expected UTF-8"),
        (b"\xff\xfe\x00", ":1: is not a text file"),
        ("<annotation>\nStraße".encode("latin-1"), ":2: is not a text file"),
        (b"<?xml version='1.0' encoding='zip'?>\xff", ":1: is not a text file"),
        (b"0 0.5 0.5 0.1 0.2\r\n\0\0\0", r":2: has the control character '\\x00'; expected UTF-8"),
        (b"0\0 \x000\0.\x005\0", r":1: has the control character '\\x00'; expected UTF-8"),
        ("0 0.5 0.5 0.1 0.2\r\u2028".encode(), r":2: has the control character '\\u2028'"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, content, problem):
    path = tmp_path / "1.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"1\.txt{problem}"):
        label_files.read(path, None, None)
