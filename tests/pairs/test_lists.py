"""Lists of pairs: encodings and separators, and one message for each way of being malformed."""

import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.pairs.lists import Row, read_rows

SIDES = ("visible", "lwir")


def read(tmp_path, content):
    """Return the rows of a list and its problems."""
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    problems = []
    return list(read_rows(path, SIDES, ("split",), problems)), problems


@pytest.mark.parametrize(
    "content",
    [
        b"visible,lwir\na.png,b.png\n",
        b"visible,lwir\ra.png,b.png\r",
        b'\xef\xbb\xbf"lwir";"sensor";"rgb"\r\nb.png;x;"a.png"\r\n',
        "visible\tlwir\r\na.png\tb.png\r\n".encode("utf-16"),
        b"\n a.png , b.png ,\n",
    ],
    ids=["commas", "old line ends", "semicolons", "UTF-16", "no header"],
)
def test_lists_of_any_program_are_read(tmp_path, content):
    rows, problems = read(tmp_path, content)
    assert (rows, problems) == ([Row(2, {"visible": "a.png", "lwir": "b.png"})], [])


def test_names_need_not_be_utf_8(tmp_path):
    ((_, cells),), _ = read(tmp_path, b"a\xff.png,b.png\n")
    assert cells["visible"].encode("utf-8", "surrogateescape") == b"a\xff.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"visible,split\na.png,test\n", ":1: no column lwir."),
        (b"visible,rgb,lwir\na.png,c.png,b.png\n", ":1: 2 columns visible, visible and rgb."),
        (
            b"visible,lwir\na.png,b.png\nc.png,d.png\0\n",
            r":3: has the control character '\x00'; expected a list with the",
        ),
        (b'visible,lwir\na.png,"b.png\nc.png,d.png\n', ":2: unexpected end of data; expected a list with the columns"),
        (b'visible,lwir\na.png,"b.png\nc.png",d.png\n', ":2: a quote goes on in the next line; expected a list with"),
        (
            b'visible,lwir\n"a".png,b.png\n',
            ":2: ',' expected after '\"'; expected a list with the columns visible, lwir",
        ),
        (b"visible,lwir\na.png," + b"b" * 200_000, ":2: field larger than field limit (131072); expected a list with"),
    ],
)
def test_malformed_lists_are_refused(tmp_path, content, message):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path}/pairs.csv{message}")


def test_lines_with_too_few_or_too_many_cells_are_problems(tmp_path):
    rows, problems = read(tmp_path, b"visible,lwir\na.png\na.png,b.png,,\na,1.png,b.png\n")
    assert rows == [Row(3, {"visible": "a.png", "lwir": "b.png"})]
    assert problems == [
        f"{tmp_path}/pairs.csv:2: 'a.png'; expected paths in visible and lwir.",
        f"{tmp_path}/pairs.csv:4: 'a,1.png,b.png'; expected 2 cells.",
    ]


def test_an_absent_list_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read \(No such file"):
        list(read_rows(tmp_path / "absent.csv", SIDES, (), []))
