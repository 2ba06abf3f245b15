"""Tables as they are read: every format shows what the cells hold, whatever it is."""

import html
import re
from html.parser import HTMLParser

import markdown_it
import pandas as pd
import pytest

from gmsdi.study.sheets import Cell, Sheet, frame_html, latex, markdown, sheet_html
from gmsdi.study.tables.table1 import table1_sheets
from tests import REPO

DOCS = REPO / "docs"
HARD = [
    "Extractor [mine",
    "[2pt] first",
    "**x",
    "**x** y",
    "a_b_c and _d_",
    "`code`",
    r"\\ and \\textbf{x} {y}",
    "$5 & 10% #1",
    "~/x ~~y~~",
    "x^2 | y",
    "<b>z</b> &amp; <https://a>",
    "D(z*) + w (D(z) - D(z*))",
    "(paper",
    "[a](https://b) ![c](d)",
]


class Texts(HTMLParser):
    """The text of the cells, and all elements."""

    def __init__(self):
        super().__init__()
        self.cells, self.tags, self.open = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.open = True

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th", "tr")

    def handle_data(self, data):
        if self.open:
            self.cells[-1] += data


def read(page):
    parser = Texts()
    parser.feed(page)
    return [cell.strip() for cell in parser.cells], parser.tags


def tex(text):
    """What LaTeX shows of such text; whatever it does not know here stays."""
    commands = {
        "textbackslash": "\\",
        "textasciitilde": "~",
        "textasciicircum": "^",
        "textbar": "|",
        "textless": "<",
        "textgreater": ">",
    }
    special = r"\\(" + "|".join(commands) + r")\{\}|\$\^\*\$|\\([${}&%#_])"
    assert not re.search(r"[\\${}&%#_~^<>|]", re.sub(special, "", text.removeprefix("{}"))), text
    return re.sub(special, lambda x: commands.get(x[1]) or x[2] or "*", text.removeprefix("{}"))


def test_every_format_shows_what_is_written():
    rows = [[text, f"{text}!"] for text in HARD]
    sheet = Sheet("A & B", ["Model", "$w$ | _x_"], rows, ["Note: **x, D(z*)"])
    cells = [*sheet.header, *(cell for row in rows for cell in row)]
    assert read(sheet_html(sheet))[0] == cells
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown, tags = read(parser.render(markdown([sheet])))
    assert shown == cells
    assert set(tags) == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags.count("strong") == 1  # the title's
    body = latex([sheet]).split("\\midrule\n")[1].split("\\bottomrule")[0]
    lines = body.strip().split(" \\\\\n")
    found = [[tex(cell) for cell in re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))] for line in lines]
    assert found == rows
    assert not any(line.startswith("[") for line in lines)
    frame = pd.DataFrame({"model": HARD, "fad_low": 1.0})
    assert read(frame_html(frame))[0] == ["model", "fad low", *(x for text in HARD for x in (text, "1.00"))]


def test_cells_have_parts():
    cells = [Cell("1.00", ("0.50", "1.50"), "paper 2.00", bold=True), Cell("1.00", aside="paper 2.00"), Cell("3")]
    sheet = Sheet("T", ["a", "b", "c", "d"], [["x", *cells]])
    assert "| x | **1.00 [0.50, 1.50]** (paper 2.00) | 1.00 (paper 2.00) | 3 |" in markdown([sheet])
    assert r"x & \textbf{1.00 [0.50, 1.50]} (paper 2.00) & 1.00 (paper 2.00) & 3 \\" in latex([sheet])
    assert (
        '<td data-name="b"><b>1.00 <small>[0.50, 1.50]</small></b> <small>(paper 2.00)</small>'
        '<td data-name="c">1.00 <small>(paper 2.00)</small><td data-name="d">3</tr>'
    ) in sheet_html(sheet)
    assert sheet_html(Sheet("1 < 2", ["a"], [], ["n & m"])).count("&lt;") == 1


@pytest.mark.parametrize("run", ["mini_full", "mini_clap"])
def test_published_tables_are_still_written_like_this(run):
    """From the published CSV files, the rows of the published Markdown."""
    table = pd.read_csv(DOCS / run / "table1_grid.csv").fillna({"constrained": ""})
    table = table if "tracks" in table else table.assign(tracks=10)  # older pages do not have it
    text = markdown(table1_sheets(table, convention="paper", steps={"extractor": 1, "separator": 1}))
    published = (DOCS / run / "table1_grid.md").read_text()

    def rows(page):
        return [line for line in page.splitlines() if line.startswith(("|", "**"))]

    assert len(rows(text)) > 10
    assert rows(text) == rows(published)


def test_latex_is_balanced():
    text = latex([Sheet("T{", ["a", "b"], [["}", Cell("1", bold=True)]], ["{{"])] * 2)
    assert text.count("\\begin{") == text.count("\\end{") == 4
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert html.unescape(text) == text
