"""The parts of a self-contained HTML page: tables, figures and crops as text, with every picture inside."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dcrl_jax.reports.tables import Table, format_value

JPEG_QUALITY = 85

# System fonts and no script: the page needs nothing but itself. Pictures have a white ground in the dark too.
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --ground: #fff; --note: #fff6d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #3a424c; --ground: #14181d; --note: #3d3413; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 75rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 50rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .8rem 0; font-size: .9rem; }
a { color: inherit; }
.warning { background: var(--note); border-left: 4px solid #d99a00; padding: .5rem .8rem; max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 1rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; padding-left: 0; font-weight: normal; }
thead th { font-weight: 600; }
th.part { padding-left: 1.2rem; color: var(--soft); }
figure { margin: 0 0 1rem; }
figure img { display: block; height: auto; border-radius: 4px; background: #fff; }
figcaption { margin-top: .3rem; }
.plot img { width: 46rem; }
.wide img { width: 100%; min-width: 56rem; }
.crop img, .plot img { max-width: 100%; }
.crops { display: flex; flex-wrap: wrap; gap: 1rem; }
.crops figure { margin: 0; }
.crops figcaption { line-height: 1.3; }
.key { display: inline-block; margin-right: 1em; }
.key span { display: inline-block; width: .9em; height: .9em; border: 2px solid; vertical-align: -.1em;
  margin-right: .4em; }
@media print {
  body { max-width: none; padding: 0; font-size: .85rem; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .wide img { min-width: 0; }
  .crop img { height: 3.6cm; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page, ASCII; ``body`` is markup."""
    text = "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">",
            f"<title>{html.escape(title)}</title>",
            f"<style>{STYLE}</style></head>",
            "<body>",
            *body,
            "</body></html>",
        ]
    )
    return text.encode("ascii", "xmlcharrefreplace").decode() + "\n"


def element(name: str, text: str, **attributes: str) -> str:
    """One element around a text, both escaped; ``class_`` is the attribute ``class``."""
    shown = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<{name}{shown}>{html.escape(text)}</{name}>"


def table(found: Table) -> str:
    """A table whose first column names the rows; a name that is indented is a part of the one above."""
    head = "".join(element("th", name, scope="col") for name in found.columns)
    rows = []
    for name, *values in found.rows:
        part = {"class_": "part"} if str(name).startswith(" ") else {}
        cells = [element("th", str(name).strip(), scope="row", **part)]
        cells += [element("td", format_value(value, found.decimals)) for value in values]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def file_uri(path: Path, photo: bool = False) -> str:
    """A PNG file as a data URI; a photo again as JPEG, which takes a tenth of the room."""
    if photo:
        return image_uri(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def image_uri(image: np.ndarray) -> str:
    """An image, uint8 [H, W, 3] RGB, as a data URI: JPEG."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def figure(uri: str, alt: str, caption: str, kind: str) -> str:
    """A picture with its caption.

    Args:
        uri: of the picture.
        alt: says what it shows.
        caption: below it.
        kind: 'crop', as large as it is; 'plot', about as wide as text; 'wide', as wide as the page, or moved sideways
            where the screen is narrow.
    """
    image = f'<img src="{uri}" alt="{html.escape(alt)}">'
    return f'<figure class="{kind}"><div class="scroll">{image}</div>{element("figcaption", caption)}</figure>'


def color_key(color: Sequence[int], name: str) -> str:
    """A box of a colour, RGB, with what it stands for."""
    box = f'<span style="border-color:rgb({",".join(map(str, color))})"></span>'
    return f'<span class="key">{box}{html.escape(name)}</span>'
