"""KAIST readers on damaged files: every object is read or reported, or the file is refused."""

import math
import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from dcrl_jax.annotations.kaist import formats
from dcrl_jax.annotations.types import REPEATED
from dcrl_jax.errors import InputError

# Pieces of all formats, and similar ones.
WORDS = """0 1 2 3 -1 0.5 -0.0 640 +7 1e3 .5 1e-320 1e6 1000001 1e400 -1e400 nan -nan inf Infinity True None
1_0 0x10 1,5 1e --1 \u0661\u0662 \uff11 \u00bd person people person? person?a cyclist ignore unpaired car Person \u4eba
a&b % <!-- --> <![CDATA[1]]> &e; &amp; &lt; &#49; &#x661; &#0; < > &"""
TAGS = "annotation object name bndbox occlusion label x y w h xmin ymin xmax ymax b"
PIECES = (
    *(*WORDS.split(), "", "9" * 400, "1" + "0" * 5000, "0." + "0" * 400 + "1"),
    *("\n", "\r\n", "\r", " ", "\t", "\x00", "\x1c", "\u00a0", "\u2028", "\ufeff", "\ud800"),
    *("% bbGt version=3\n", "%bbGt version=2\n", "person 1 2 3 4\n", "person 1 2 3 4 0 0 0 0 0 0 0\n"),
    *(mark.format(tag) for tag in TAGS.split() for mark in ("<{}>", "</{}>", "<{}/>")),
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


def attempt(*arguments):
    """Return the parsed file and None, or None and the message."""
    try:
        return formats.parse(*arguments), None
    except InputError as error:
        return None, str(error)


def check(text):
    """Check that each object is read or in the findings, or the file refused."""
    parsed, message = attempt(text, "place")
    kept, message_of_kept = attempt(text, "place", True)
    assert message == message_of_kept
    if parsed is None:
        assert message
        return
    # Count the objects without the reader.
    if parsed.format == "XML":
        objects = list(ElementTree.fromstring(text.strip()).iter("object"))
        assert all(len(one.findall(name)) <= 1 for one in objects for name in ("name", "bndbox", "occlusion"))
    else:
        assert parsed.format in ("bbGt", "corners", "")
        objects = [line for line in text.split("\n") if line.strip() and not line.startswith("%")]
    kinds = [one.kind for one in parsed.findings]
    assert len(kept.annotations) + kinds.count(formats.ONE_MODALITY) == len(objects)
    assert set(kinds) <= {formats.UNKNOWN_LABEL, formats.NO_SIZE, formats.ONE_MODALITY, REPEATED}
    assert kinds.count(formats.UNKNOWN_LABEL) >= sum(one.label not in formats.LABELS for one in parsed.annotations)
    assert kept.findings == [one for one in parsed.findings if one.kind != REPEATED]
    with_size = [one for one in kept.annotations if min(one.box[2:]) > 0]
    assert list(dict.fromkeys(one for one in with_size if one in parsed.annotations)) == parsed.annotations
    assert kinds.count(REPEATED) == sum(with_size.count(one) > 1 for one in parsed.annotations)
    assert all(one.ignore for one in kept.annotations if min(one.box[2:]) <= 0)
    for one in kept.annotations:
        assert one.label
        assert all(type(value) is float and math.isfinite(value) for value in one.box)
        assert (type(one.occlusion), type(one.ignore)) == (int, bool)
        assert one.occlusion in (0, 1, 2)


# Characters, tokens, lines, elements.
PARTS = (r"(?s).", r"<[^>]*>|\s+|[^<\s]+", r"[^\n]*\n?", r"(?s)<object>.*?</object>|<\w+>[^<]*</\w+>|.")


@settings(max_examples=400, derandomize=True, deadline=None, database=None)  # the same inputs in every run
@given(st.data())
def test_mutated_valid_files(data):
    """Drop, replace, insert or double a few characters, tokens, lines or elements."""
    parts = re.findall(data.draw(st.sampled_from(PARTS)), data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = (data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
        new = data.draw(st.one_of(st.sampled_from(PIECES), st.characters()))
        parts[first] = data.draw(st.sampled_from(("", new, parts[second], new + parts[first], parts[first] * 2)))
    check("".join(parts))
