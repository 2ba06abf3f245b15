"""Tables for readers (sheets): their cells, and how they are written in Markdown, LaTeX and HTML.

Text may come from configurations; each format escapes it, so that it appears as written.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """A number, with what stands beside it.

    Attributes:
        text: the number.
        interval: lower and upper end of its interval, if it is shown.
        aside: text in brackets after it.
        bold: whether number and interval are bold.
    """

    text: str
    interval: tuple[str, str] | None = None
    aside: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table for readers: a title, a header, rows of cells or plain text, and notes below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    notes: Sequence[str] = ()


def markdown(sheets: Sequence[Sheet]) -> str:
    """Write sheets in GitHub-flavoured Markdown."""
    blocks = []
    for sheet in sheets:
        cells = [[_cell(cell, _markdown, "**{}**") for cell in row] for row in (sheet.header, *sheet.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "|" + "|".join([" --- ", *[" ---: "] * (len(sheet.header) - 1)]) + "|")
        blocks += [f"**{_markdown(sheet.title)}**", "\n".join(lines), *map(_markdown, sheet.notes)]
    return "\n\n".join(blocks) + "\n"


def latex(sheets: Sequence[Sheet]) -> str:
    """Write sheets as LaTeX tables; the document needs the package booktabs."""
    blocks = []
    for sheet in sheets:
        header, *rows = [
            " & ".join(_cell(cell, _latex, r"\textbf{{{}}}") for cell in row) for row in (sheet.header, *sheet.rows)
        ]
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(' '.join([f'{sheet.title}.', *sheet.notes]))}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}", r"\toprule", header + r" \\", r"\midrule"]
        # After a line break, LaTeX takes what is in brackets for its height.
        lines += ["{}" * row.startswith("[") + row + r" \\" for row in rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def sheet_html(sheet: Sheet) -> str:
    """Write a sheet as an HTML table with its notes."""
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in sheet.notes)
    table = _table_html(sheet.header, sheet.rows)
    return f"<figure class=sheet><figcaption>{html.escape(sheet.title)}</figcaption>{table}{notes}</figure>"


def frame_html(table: pd.DataFrame) -> str:
    """Write a table of numbers in HTML, without intervals and notes."""
    rows = [[f"{x:.2f}" if isinstance(x, float) else str(x) for x in row] for row in table.itertuples(index=False)]
    return _table_html([str(name).replace("_", " ") for name in table.columns], rows)


def _table_html(header: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> str:
    names = [html.escape(name) for name in header]
    head = "".join(f"<th scope=col>{name}" for name in names)
    cells = [[_cell(cell, html.escape, "<b>{}</b>", "<small>{}</small>") for cell in row] for row in rows]
    body = ""
    for row in cells:
        # On narrow screens, a row becomes a list of numbers, each beside its column's name.
        told = (f'<td data-name="{name}">{cell}' for name, cell in zip(names[1:], row[1:], strict=True))
        body += f"<tr><th scope=row>{row[0]}{''.join(told)}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: Cell | str, escape: Callable[[str], str], bold: str, small: str = "{}") -> str:
    """Write a cell, with `bold` and `small` as the format's patterns for bold and small text."""
    if isinstance(cell, str):
        return escape(cell)
    text = escape(cell.text)
    if cell.interval:
        text += " " + small.format(f"[{', '.join(map(escape, cell.interval))}]")
    if cell.bold:
        text = bold.format(text)
    return f"{text} {small.format(f'({escape(cell.aside)})')}" if cell.aside else text


def _markdown(text: str) -> str:
    text = re.sub(r"[\\`|\[\]<&]", r"\\\g<0>", " ".join(text.splitlines()))
    # Escape only marks that could begin an emphasis, so that D(z*) stays readable.
    return re.sub(r"(?<![^\W_])[*_~]+|[*~]+(?=\w)", lambda marks: "".join(rf"\{mark}" for mark in marks[0]), text)


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "*": r"$^*$",
        "\n": " ",
        **{character: rf"\{character}" for character in "${}&%#_"},
    }
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
