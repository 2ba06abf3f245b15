"""What the site has besides the files of docs/: pages from elsewhere in the repository, the reference, and MathML.

mkdocs calls these functions. Nothing of the package is imported but its command line, for its help.
"""

from __future__ import annotations

import html
import posixpath
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
COPIED = {
    "config/README.md": "reference/configuration.md",
    "results/README.md": "reference/results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
WORKFLOW = "workflow/README.md"
"""Its sections are pages; what comes before the third heading is one, too."""
REPORTS = ["mini_full", "mini"]
"""Runs whose page of results is shown, if it is there: the first of them."""

_origins: dict[str, str] = {}  # page to the file that it comes from
_pages: dict[str, str] = {}  # file, or file#heading, to its page


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    for source, uri in COPIED.items():
        _add(files, config, uri, (ROOT / source).read_text(encoding="utf-8"), source)
    _add_workflow(files, config)
    _add_reference(files, config)
    _pages.update({"README.md": "index.md", "docs/README.md": "index.md"})
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links to files of the repository lead to their pages; where there is none, leave their text."""
    uri = page.file.src_uri
    origin = _origins.get(uri, f"docs/{uri}")
    if uri == "gallery.md" and (report := _report()):
        markdown += f"\n[Open the page of the run `{report.parent.name}`](players.html){{ .md-button }}\n"

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target in ("players.html",):
            return found[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        to = _pages.get(f"{wanted}#{anchor}") or _pages.get(wanted)
        if to is None and wanted.startswith("docs/") and files.get_file_from_path(wanted.removeprefix("docs/")):
            to = wanted.removeprefix("docs/")
        if to is None:
            return text if (ROOT / wanted).exists() and not mark else found[0]
        own = f"{wanted}#{anchor}" in _pages
        place = posixpath.relpath(to, posixpath.dirname(uri) or ".")
        return f"{mark}[{text}]({place}{'#' + anchor if anchor and not own else ''})"

    # Not in code.
    parts = re.split(r"(^```.*?^```|`[^`\n]+`(?!\]))", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if number % 2 else re.sub(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", link, part)
        for number, part in enumerate(parts)
    )


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Turn equations into MathML, which browsers show without scripts and fonts of their own."""

    def math(found: re.Match[str]) -> str:
        shown = found[1] == "div"
        tex = html.unescape(found[2]).strip().removeprefix("\\[").removesuffix("\\]")
        tex = tex.removeprefix("\\(").removesuffix("\\)").strip()
        return convert(tex, display="block" if shown else "inline")

    return re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', math, content, flags=re.DOTALL)


def on_post_build(config: Any) -> None:
    """Add the page of a run with its players, and check that no page loads anything from elsewhere."""
    site = Path(config.site_dir)
    if report := _report():
        shutil.copy(report, site / "players.html")
    loaded = (
        r'<(?:script|img|iframe|source|audio)\b[^>]*\bsrc="(?:https?:)?//'
        r'|<link\b[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(?:https?:)?//'
    )
    for file in site.rglob("*.html"):
        if found := re.search(loaded, file.read_text(encoding="utf-8")):
            raise PluginError(f"{file}: loads something from elsewhere: {found[0]}")


def _add(files: Any, config: Any, uri: str, text: str, source: str | None = None) -> None:
    files.append(File.generated(config, uri, content=text))
    if source:
        _origins[uri], _pages[source] = source, uri


def _add_workflow(files: Any, config: Any) -> None:
    first, *sections = re.split(r"^## ", (ROOT / WORKFLOW).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for _ in range(2):
        first += f"## {sections.pop(0)}"
    _add(files, config, "howto/the-workflow.md", first, WORKFLOW)
    for section in sections:
        slug = re.sub(r"[^\w-]", "", section.splitlines()[0].lower().replace(" ", "-"))
        _add(files, config, f"howto/{slug}.md", re.sub("^###", "##", f"# {section}", flags=re.MULTILINE))
        _origins[f"howto/{slug}.md"], _pages[f"{WORKFLOW}#{slug}"] = WORKFLOW, f"howto/{slug}.md"


def _add_reference(files: Any, config: Any) -> None:
    """A page for each folder of the package, and one for the modules at its top."""
    package = ROOT / "gmsdi"
    rooms = {path.name: sorted(path.rglob("*.py")) for path in package.iterdir() if (path / "__init__.py").is_file()}
    del rooms["cli"]  # which has a page of its own
    rooms["library"] = sorted(package.glob("*.py"))
    for room, paths in rooms.items():
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
        title = "Library" if room == "library" else f"gmsdi.{room}"
        lines = [
            f"# {title}",
            *(f"## {name}\n\n::: {name}\n    options: {{show_root_heading: false}}" for name in names),
        ]
        _add(files, config, f"reference/{room}.md", "\n\n".join(lines) + "\n")
    _add(files, config, "reference/cli.md", _command_line())


def _command_line() -> str:
    """The help of every command."""
    environment = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100"}
    sys.path.insert(0, str(ROOT))
    from typer.main import get_command
    from typer.testing import CliRunner

    from gmsdi.cli import app

    def pages(command: Any, words: list[str]) -> list[str]:
        inner = getattr(command, "commands", {})
        said = CliRunner().invoke(app, [*words, "--help"], env=environment, prog_name="gmsdi").output
        text = f"## gmsdi {' '.join(words)}".rstrip() + f"\n\n```text\n{said.strip()}\n```"
        return [text, *(part for name in inner for part in pages(inner[name], [*words, name]))]

    return "# Command line\n\n" + "\n\n".join(pages(get_command(app), [])) + "\n"


def _report() -> Path | None:
    pages = [ROOT / "results" / run / "report.html" for run in REPORTS]
    return next((page for page in pages if page.is_file()), None)
