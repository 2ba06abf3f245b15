"""The report page in Chromium: what its players play, and that no table is wider than the window."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gmsdi.io.audio import Audio, write
from gmsdi.io.tables import read_table
from gmsdi.study.report import DISTANCES
from gmsdi.study.sheets import frame_html, sheet_html
from gmsdi.study.tables.generation import coherence_sheet
from gmsdi.study.tables.table1 import table1_sheets
from tests import REPO
from tests.helpers.report_page import rendered

DOCS = REPO / "docs" / "mini_full"
RATE, SECONDS = 8000, 30.0
TONES = {"Bass": 500, "Drums": 1000, "True bass": 1500, "True drums": 2000}
"""What the clips consist of, in Hz."""
# What is played passes an analyser, and when each clip starts is written down.
LISTEN = """
window.starts = [];
const { connect } = AudioNode.prototype, { start } = AudioBufferSourceNode.prototype;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    window.ear ??= new AnalyserNode(this.context, { fftSize: 8192, smoothingTimeConstant: 0 });
    connect.call(this, window.ear);
  }
  return connect.call(this, target, ...rest);
};
AudioBufferSourceNode.prototype.start = function (...at) {
  window.starts.push(at);
  return start.apply(this, at);
};
"""
LEVEL = """hz => {
  if (!window.ear) return -200;
  const levels = new Float32Array(window.ear.frequencyBinCount);
  window.ear.getFloatFrequencyData(levels);
  const bin = Math.round(hz * window.ear.fftSize / window.ear.context.sampleRate);
  return Math.max(...levels.slice(bin - 2, bin + 3));
}"""


@pytest.fixture
def shown(browser, tmp_path):
    """The page, its clips by what they play, and what is heard of them."""
    rows = []
    for label, tone in TONES.items():
        sine = 0.1 * np.sin(2 * np.pi * tone * np.arange(int(SECONDS * RATE)) / RATE)
        write(tmp_path / f"{tone}.flac", Audio(sine.astype(np.float32)[None], RATE))
        (tmp_path / f"{tone}.png").touch()
        together = "true stems" if label.startswith("True") else "stems"
        files = {"audio": f"{tone}.flac", "image": f"{tone}.png"}
        rows.append({"label": label, "role": "of the test", "together": together, **files})
    table1 = read_table(DOCS / "table1_grid.csv").fillna({"constrained": ""}).assign(tracks=10)
    distances = pd.DataFrame(
        [dict.fromkeys(DISTANCES, 1234.56) | {"bar": "Bass, Drums, Guitar", "series": "with, w = 1"}]
    )
    tables = {
        "table1": [
            sheet_html(sheet)
            for sheet in table1_sheets(table1, convention="paper", steps={"extractor": 1, "separator": 1})
        ],
        "coherence": sheet_html(coherence_sheet(read_table(DOCS / "coherence.csv"))),
        "codecs": [frame_html(distances)],
    }
    (tmp_path / "report.html").write_text(rendered(tmp_path, rows, **tables), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1360, "height": 990})
    page.add_init_script(LISTEN)
    page.goto((tmp_path / "report.html").as_uri())

    def hears(*labels: str) -> bool:
        """Whether these come to be heard, and no others."""
        for _ in range(100):
            page.wait_for_timeout(50)
            heard = {label for label, tone in TONES.items() if page.evaluate(LEVEL, tone) > -60}
            if heard == set(labels):
                return True
        raise AssertionError(f"heard: {heard}")

    clips = {label: page.locator(".clip").nth(k) for k, label in enumerate(TONES)}
    yield SimpleNamespace(page=page, clips=clips, hears=hears)
    page.close()


def test_one_clip_plays_at_a_time_or_stems_in_sync(shown):
    page, clips, hears = shown.page, shown.clips, shown.hears
    assert page.locator("audio:visible").count() == 0
    clips["Bass"].locator(".play").click()
    assert hears("Bass")
    clips["True drums"].locator(".play").click()
    assert hears("True drums")
    assert [clip.locator(".play").inner_text() for clip in clips.values()] == ["▶", "▶", "▶", "■"]
    clips["True drums"].locator(".play").click()
    assert hears()

    together = page.get_by_role("button", name="▶ all stems in sync")
    together.click()
    assert hears("Bass", "Drums")
    first, second = page.evaluate("starts.slice(-2)")
    assert first == second
    view = clips["Bass"].locator(".view")
    view.click()
    assert hears("Drums")
    view.click()
    assert hears("Bass", "Drums")
    page.get_by_role("button", name="▶ all true stems in sync").click()
    assert hears("True bass", "True drums")
    assert "on" not in (together.get_attribute("class") or "")

    view.click(position={"x": 0.75 * view.bounding_box()["width"], "y": 10})
    assert hears("Bass")
    assert page.evaluate("starts.at(-1)[1]") == pytest.approx(0.75 * SECONDS, rel=0.02)
    assert 74 < float(view.locator("i").get_attribute("style").removeprefix("left: ").removesuffix("%;")) < 99
    view.click(position={"x": view.bounding_box()["width"] - 1, "y": 10})  # which is soon over
    assert hears()
    assert page.locator(".clip.on").count() == 0


def test_nothing_scrolls_sideways(shown):
    shown.page.evaluate("document.querySelectorAll('details').forEach(entry => { entry.open = true; })")
    for width in (1360, 1060, 1050, 800, 400, 320):
        shown.page.set_viewport_size({"width": width, "height": 900})
        wide = shown.page.evaluate(
            """[document.documentElement, ...document.querySelectorAll("section, figure, .clip, .clip p")]
              .filter(element => element.scrollWidth > element.clientWidth)
              .map(element => `${element.tagName}.${element.className}: ${element.scrollWidth}`)"""
        )
        assert (width, wide) == (width, [])
