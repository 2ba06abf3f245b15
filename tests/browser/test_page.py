"""The page, as a visitor uses it: in Chromium, against the real server, with the model that comes with the package.

GMSDI_FIGURE=path.png also takes its picture, with a separation of the best preset.
"""

from __future__ import annotations

import os
import re
import zipfile

import numpy as np
import soundfile
import torch

from gmsdi.models.checkpoint import build_model, save_model
from tests.helpers.tiny import CONFIG

STEMS = ["Bass", "Drums", "Guitar", "Piano"]
LEVELS = "Object.fromEntries(mixer.lanes.map(lane => [lane.label, mixer.level(lane)]))"


def choose_example(visitor, index: int = 0) -> None:
    visitor.page.locator(".gmsdi-examples button:visible").nth(index).click()
    wait_for_song(visitor)


def wait_for_song(visitor) -> None:
    visitor.page.locator("[data-testid^=waveform-]:visible #duration", has_not_text="0:00").wait_for()


def audible(visitor, mixer) -> set[str]:
    """The lanes that are heard: what is said of them, and what their meters measure while they play."""
    said = {label for label in mixer.labels if mixer.lane(label).get_attribute("data-audible") == "true"}
    mixer.element.evaluate("mixer => { mixer.setLoop(true); mixer.play(); }")
    for _ in range(100):
        visitor.page.wait_for_timeout(100)
        levels = mixer.ask(LEVELS)
        if {label for label, level in levels.items() if level > 1e-4} == said:
            return said
    raise AssertionError(f"said to be audible: {said}; heard: {levels}")


def test_a_song_is_separated_heard_and_downloaded(visitor, tmp_path):
    figure = os.environ.get("GMSDI_FIGURE")
    choose_example(visitor)
    if not figure:
        visitor.page.get_by_label("Fast", exact=True).click()
    mixer = visitor.finish("separate")
    assert mixer.labels == [*STEMS, "Original"]  # at the model's rate the stems leave nothing of the song
    if figure:
        mixer.element.evaluate("mixer => mixer.seek(0.37 * mixer.duration)")
        visitor.page.mouse.move(0, 0)
        visitor.page.screenshot(path=figure, animations="disabled")

    drawn = mixer.ask(
        """mixer.lanes.map(({canvas}) => {
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          const rows = [0.3, 0.8].map(y => Math.floor(y * canvas.height) * canvas.width * 4);
          return rows.map(at => new Set(pixels.slice(at, at + canvas.width * 4)).size);
        })"""
    )
    assert all(spectrogram > 30 and waveform > 2 for spectrogram, waveform in drawn), drawn

    assert audible(visitor, mixer) == set(STEMS)  # and not the song that they are the stems of
    mixer.lane("Bass").get_by_text("M", exact=True).click()
    assert audible(visitor, mixer) == {"Drums", "Guitar", "Piano"}
    for label in ("Drums", "Original"):
        mixer.lane(label).get_by_text("S", exact=True).click()
    assert audible(visitor, mixer) == {"Drums", "Original"}
    mixer.lane("Drums").get_by_text("S", exact=True).click()
    assert audible(visitor, mixer) == {"Original"}
    assert mixer.ask("new Set(mixer.lanes.map(lane => lane.source.loop)).size") == 1
    mixer.element.locator(".play").click()
    canvas = mixer.lane("Piano").locator("canvas")
    canvas.click(position={"x": canvas.bounding_box()["width"] / 2, "y": 20})
    assert abs(mixer.ask("mixer.now() / mixer.duration") - 0.5) < 0.01

    with visitor.page.expect_download() as download:
        mixer.element.locator(".zip").click()
    download.value.save_as(tmp_path / "stems.zip")
    with zipfile.ZipFile(tmp_path / "stems.zip") as archive:
        archive.extractall(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert re.fullmatch(r"example-1-\w+-\w+-mixture-stems", folder.name)
    sounds = {path.stem: soundfile.read(path)[0] for path in folder.iterdir()}
    assert sounds.keys() == {"bass", "drums", "guitar", "piano", "mixture", "residual"}
    mixture = sounds.pop("mixture")
    np.testing.assert_allclose(sum(sounds.values()), mixture, atol=1e-6)
    assert np.abs(sounds["residual"]).max() < 1e-4 < 0.1 < np.abs(mixture).max()

    report = visitor.page.get_by_role("link", name="Report of the study").get_attribute("href")
    assert "What came of it" in visitor.page.request.get(f"{visitor.address}/{report}").text()


def test_runs_are_cancelled_by_the_button_and_by_leaving(visitor):
    page = visitor.page
    choose_example(visitor)
    visitor.fill("Steps", 10_000)
    page.locator("#separate-go").click()
    page.locator("#separate-status .running").wait_for()
    assert re.match(r"Step \d+ of 10000, about \d+ s left", page.locator("#separate-status").inner_text())
    page.locator("#separate-stop").click()
    page.locator("#separate-status .cancelled").wait_for()
    page.wait_for_timeout(500)  # Gradio loses what is queued within the milliseconds in which another event ends
    page.locator("#separate-go").click()
    page.locator("#separate-status .running").wait_for()
    page.goto("about:blank")
    page.goto(visitor.address)  # whose run would have to wait for the one before it
    page.wait_for_selector("#separate-go")
    visitor.tab("Generate")
    visitor.fill("number input for Seconds", 1)
    visitor.fill("Steps", 8)
    assert visitor.finish("generate").labels == [*STEMS, "Mixture"]


def test_one_stem_of_a_recording_and_an_accompaniment(visitor):
    page = visitor.page
    visitor.tab("Extract")
    page.locator("button[aria-label='Record audio']:visible").click()
    page.locator("button:visible", has_text="Record").click()
    page.wait_for_timeout(1500)  # Chromium's microphone of the tests beeps every second
    page.locator("button:visible", has_text="Stop").click()
    wait_for_song(visitor)
    page.get_by_label("Fast", exact=True).locator("visible=true").click()
    visitor.fill("Files", "MP3")
    page.keyboard.press("Enter")
    mixer = visitor.finish("extract")
    assert mixer.labels == ["Bass", "Everything else", "Original"]
    assert mixer.ask("mixer.lanes.every(lane => lane.audio.endsWith('.mp3'))")
    assert mixer.ask("mixer.lanes.at(-1).peak") > 0.01
    visitor.tab("Accompany")
    choose_example(visitor, 1)
    visitor.fill("Steps", 6)
    assert visitor.finish("accompany").labels == ["Bass", "Guitar", "Piano", "Drums (given)", "Together"]


def test_what_is_no_audio_is_said_in_one_line(visitor, tmp_path):
    (tmp_path / "song.wav").write_text("la la la\n")
    visitor.page.locator("input[type=file]").first.set_input_files(tmp_path / "song.wav")
    visitor.page.locator("button[aria-label=Clear]").first.wait_for()
    visitor.page.locator("#separate-go").click()
    alert = visitor.page.locator("#separate-status [role=alert]")
    alert.wait_for()
    assert re.fullmatch(r"song\.wav: not a readable audio file \(.*\); is it damaged\?", alert.inner_text())


def test_a_model_of_free_text_is_opened_and_asked(visitor, tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "free", build_model({**CONFIG, "labels": []}))
    page = visitor.page
    where = page.get_by_label("Model", exact=True)
    where.fill(str(tmp_path / "nothing"))
    where.press("Enter")
    page.get_by_text("nothing: no model folder of that name").wait_for()
    where.fill(str(tmp_path / "free"))
    where.press("Enter")
    page.get_by_text("takes any description").wait_for()
    visitor.tab("Generate")
    stems = page.get_by_label("Stems", exact=True).locator("visible=true")
    for text in ("<b>flute</b>", "hand drums"):
        stems.fill(text)
        stems.press("Enter")
    visitor.fill("number input for Seconds", 1)
    assert visitor.finish("generate").labels == ["<b>flute</b>", "hand drums", "Mixture"]


def test_the_page_may_not_load_from_elsewhere(visitor):
    said = visitor.page.evaluate(
        """() => new Promise(resolve => {
          document.addEventListener("securitypolicyviolation", event => resolve(event.blockedURI));
          fetch("http://192.0.2.1/").catch(() => {});
        })"""
    )
    assert said.startswith("http://192.0.2.1")
    visitor.requested[:] = [url for url in visitor.requested if "192.0.2.1" not in url]
