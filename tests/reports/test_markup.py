"""The parts of a page: text is escaped, pictures are inside."""

import base64

import cv2
import numpy as np

from dcrl_jax.reports import markup
from dcrl_jax.reports.tables import Table


def decoded(uri):
    head, _, data = uri.partition(",")
    return head, cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_text_and_attributes_are_escaped():
    assert markup.element("p", 'a <b> & "c"', class_="x") == '<p class="x">a &lt;b&gt; &amp; &quot;c&quot;</p>'
    assert markup.element("a", "t", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;">t</a>'
    figure = markup.figure("data:,", '"><script>', "<i>", "crop")
    assert "<script>" not in figure
    assert "&lt;i&gt;</figcaption>" in figure


def test_table_has_its_numbers_as_the_text_has_them():
    found = markup.table(Table([["rate, %", 1.005, None], ["  <part>", 3, float("nan")]], ["", "all", "day"], 1))
    assert '<th scope="row">rate, %</th><td>1.0</td><td>-</td>' in found
    assert '<th scope="row" class="part">&lt;part&gt;</th><td>3</td><td>-</td>' in found
    assert found.count("<tr>") == 3


def test_document_is_ascii_and_allows_nothing_from_elsewhere():
    page = markup.document("a <title> é", [markup.element("p", "µ")])
    assert page.isascii()
    assert "<title>a &lt;title&gt; &#233;</title>" in page
    assert "<p>&#181;</p>" in page
    assert "default-src 'none'; img-src data:;" in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_pictures_are_inside_as_they_are_or_as_photos(tmp_path):
    y, x = np.mgrid[:40, :60]
    image = np.stack([4 * x, 6 * y, np.full_like(x, 40)], axis=-1).astype(np.uint8)
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), image[..., ::-1])
    head, same = decoded(markup.file_uri(path))
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(same, image)
    for uri in (markup.image_uri(image), markup.file_uri(path, photo=True)):
        head, near = decoded(uri)
        assert head == "data:image/jpeg;base64"
        assert np.abs(near.astype(int) - image).mean() < 3


def test_key_shows_its_colour():
    assert 'style="border-color:rgb(1,2,3)"></span>a &amp; b</span>' in markup.color_key((1, 2, 3), "a & b")
