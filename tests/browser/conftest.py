"""The page as it is served, and Chromium. Without gradio, playwright or Chromium its tests are skipped, unless the
environment says GMSDI_BROWSER=required."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
SECONDS = 300  # that a run may take on a busy machine


def missing() -> str | None:
    """Why no browser can look at the page here."""
    packages = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
    if packages:
        return f"no {', '.join(packages)}; make test_browser installs them"
    return None if shutil.which("chromium") else "no chromium; apt-get install --no-install-recommends chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    reason = missing()
    if not here or not reason:
        return
    if os.environ.get("GMSDI_BROWSER") == "required":
        raise pytest.UsageError(reason)
    for item in here:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `gmsdi app` serves the page, in a folder that has a report."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "results" / "mini").mkdir(parents=True)
    (folder / "results" / "mini" / "report.html").write_text("<h1>What came of it</h1>")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "gmsdi.cli", "app", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium. Playwright's event loop runs until its end, and Snakemake starts none beside another."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def visitor(browser, address) -> Iterator[SimpleNamespace]:
    """A visitor's page, and what a test does on it. At the end: what it asked for, it asked this machine for."""
    context = browser.new_context(viewport={"width": 1360, "height": 990}, color_scheme="dark")
    context.set_default_timeout(1000 * SECONDS)
    requested: list[str] = []
    context.on("request", lambda request: requested.append(request.url))
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#separate-go")

    def tab(title: str) -> None:
        page.get_by_role("tab", name=title).click()
        page.wait_for_selector(f"#{title.lower()}-go")

    def fill(label: str, value: object) -> None:
        if not page.get_by_label(label, exact=True).locator("visible=true").count():
            page.locator("button:visible", has_text="All settings").click()
        page.get_by_label(label, exact=True).locator("visible=true").fill(str(value))

    def finish(name: str) -> SimpleNamespace:
        """Run the tab's task to its end; the mixer with the result."""
        page.locator(f"#{name}-go").click()
        page.wait_for_selector(f"#{name}-status :is(.done, .warned, .failed)")
        said = page.locator(f"#{name}-status").inner_text()
        assert not page.locator(f"#{name}-status .failed").count(), said
        mixer = page.locator(f"#{name}-result gmsdi-mixer")
        mixer.locator(".lane[data-drawn]").last.wait_for()
        return SimpleNamespace(
            element=mixer,
            labels=mixer.locator(".label").all_inner_texts(),
            lane=lambda label: mixer.locator(".lane", has=page.get_by_text(label, exact=True)),
            ask=lambda expression: mixer.evaluate(f"mixer => {expression}"),
        )

    yield SimpleNamespace(page=page, address=address, requested=requested, tab=tab, fill=fill, finish=finish)
    context.close()
    own = ("data:", "blob:", f"{address}/")
    assert [url for url in requested if not url.startswith(own)] == []
    assert any("mixer.js" in url for url in requested)
