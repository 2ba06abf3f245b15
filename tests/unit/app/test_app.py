"""What the page does without a browser and without gradio. As a visitor sees it: tests/browser."""

import html
import json
import re
import socket
import sys
import threading
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

import gmsdi
from gmsdi import song
from gmsdi.app import examples, results, server, settings
from gmsdi.app.jobs import Jobs, without_folder
from gmsdi.cli import main
from gmsdi.errors import UserError
from gmsdi.io.audio import Audio, Encoding, write
from gmsdi.io.audio.writing import FORMATS
from gmsdi.presets import presets_of
from gmsdi.sampling.session import Batch
from gmsdi.types import Stems

MODEL = SimpleNamespace(sample_rate=8000, labels=("Bass", "Drums", "Piano"), sigma_range=(0.0, float("inf")))
SAMPLING = {"seed": 3, "batch": 4, "block": 20, "interval": "0.1, inf", "negatives": "bass: Drums, Piano\n"}
GENERATION = settings.sampling(song.GENERATION, song.GENERATION_GUIDANCE) | SAMPLING | {"gamma_x": "2*sigma"}


def test_presets_come_back_from_the_controls():
    own = {"mine": {"method": "separator", "constrained": "piano", "runs": 3, "inverted": True, "guidance": {"w": 4}}}
    model = SimpleNamespace(**vars(MODEL), presets=own, sigma_data=0.2)
    known = presets_of(model)
    assert known.keys() == settings.presets(model).keys() > {"best", "fast", "paper-separator", "mine"}
    for name, values in settings.presets(model).items():
        made = settings.separation(SAMPLING | values, model)
        preset = replace(known[name], name="of the page")
        if name == "mine":
            preset = replace(preset, constrained="Piano")
        assert made == {"preset": preset, "block": 20, "seed": 3, "batch": Batch(4), "negatives": {}}
    made = settings.separation(settings.presets(model)["best"] | SAMPLING, model)
    assert made["negatives"] == {"Bass": "Drums, Piano"}
    assert made["preset"].guidance.interval == (0.1, float("inf"))


def test_other_tasks_have_their_own_arguments():
    own = {"method": "total", "noise": "coupled", "groups": "bass, drums\n\nPiano", "seconds": 2, "gamma_y": " "}
    made = settings.generation(GENERATION | own, MODEL)
    assert made["groups"] == [["Bass", "Drums"], ["Piano"]]
    assert (made["gamma_x"](3.0), made["solver"], made["seconds"]) == (6.0, song.GENERATION, 2)
    assert "gamma_y" not in made
    assert made["noise"] is None  # the default, which goes with every method
    assert settings.generation(GENERATION | {**own, "noise": "independent"}, MODEL)["noise"] == "independent"
    own = {"given_noise": "fixed", "share": 0, "alpha": 0.5, "beta": 2, "gamma_y": "inf"}
    made = settings.accompaniment(GENERATION | own, MODEL)
    assert (made["share"], made["alpha"], made["gamma_y"]) == (None, 0.5, float("inf"))
    assert made["given_noise"] == "fixed"
    left = {"given_noise": "coupled", "share": 0.4, "alpha": 1, "beta": 1, "gamma_y": ""}
    assert settings.accompaniment(GENERATION | left, MODEL)["given_noise"] is None  # the default goes with share


def test_files_have_every_format_and_none_that_cannot_hold_the_stems(tmp_path):
    made = [settings.encoding({"files": name}) for name in settings.FILES]
    assert made[0].subtype == Encoding().subtype
    assert sorted((how.format, how.bits or "") for how in made) == sorted(
        (x, bits) for x in FORMATS for bits in FORMATS[x]
    )
    model = gmsdi.load("mini")
    file = write(tmp_path / "song.wav", Audio(np.zeros((1, 960), np.float32), 96_000))
    values = GENERATION | settings.presets(model)["fast"] | {"files": "MP3"}
    values |= {"given_noise": "fixed", "share": 0, "alpha": 1, "beta": 1, "gamma_y": ""}

    def progress(step, steps):
        raise AssertionError("it has begun to sample")

    for run in (
        lambda: settings.separate(model, str(file), ["Bass"], ["Drums"], values, progress),
        lambda: settings.accompany(model, {"Bass": str(file)}, ["Drums"], values, progress),
    ):
        with pytest.raises(UserError, match=r"song\.wav: mp3 cannot hold 1 channels at 96000 Hz; write wav"):
            run()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"steps": None}, "steps is empty; give a number"),
        ({"w": None}, "w is empty; give a number"),
        ({"interval": "all"}, "guidance between 'all': write two noise levels, such as \"0.1, inf\""),
        (
            {"negatives": "Bass=Drums"},
            "negative prompt 'Bass=Drums': write one per line, such as \"Bass: Drums, Guitar\"",
        ),
        (
            {"gamma_x": "wide"},
            'gamma_x \'wide\': write a positive number, "inf", or "2*sigma" (also "2*sigma above 0.1 below 1")',
        ),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(said, line):
    own = {"given_noise": "fixed", "share": 0, "alpha": 1, "beta": 1, "gamma_y": ""}
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        settings.accompaniment(GENERATION | own | said, MODEL)


def test_runs_follow_each_other_and_can_be_cancelled():
    jobs, begun, go_on = Jobs(), threading.Event(), threading.Event()

    def long(progress):
        for step in range(1, 1000):
            progress(step, 1000)
            begun.set()
            go_on.wait(60)
            go_on.clear()

    first = jobs.run("a", long, interval=0.01)
    running = next(first)
    assert begun.wait(60)
    assert (running.state, running.step, running.steps) == ("running", 1, 1000)
    second, third = jobs.run("b", lambda progress: "made", interval=0.01), jobs.run("c", long, interval=0.01)
    waiting, never = next(second), next(third)
    assert (waiting.state, never.state) == ("waiting", "waiting")
    third.close()  # its visitor leaves
    jobs.cancel("a")
    assert [job.state for job in first][-1] == "cancelled"
    assert waiting.state == "waiting"  # the first is still at its step
    go_on.set()
    assert [job.state for job in second][-1] == "done"
    assert waiting.result == "made"
    after = [*jobs.run("d", lambda progress: 1 / 0)][-1]
    assert (after.state, after.error) == ("failed", "ZeroDivisionError: division by zero")
    assert never.cancelled.is_set()
    jobs.close()


def test_messages_name_files_as_the_visitor_does():
    assert without_folder("/tmp/x/song.wav: damaged", "/tmp/x/song.wav", None) == "song.wav: damaged"


def test_a_result_is_files_a_zip_and_lanes(tmp_path):
    rate, label = 8000, '<b>"A"</b>'
    time = np.arange(rate) / rate
    tone = (0.25 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)[None]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(1, rate)).astype(np.float32)
    stems = Stems({label: tone, "Drums": noise}, tone + noise + 0.01, rate)
    shown = results.publish(tmp_path, "song", stems, rest="Rest", known=("Guitar", "Drums"))
    assert "<b>" not in shown
    data = json.loads(html.unescape(re.fullmatch(r'<gmsdi-mixer data="(.*)"></gmsdi-mixer>', shown)[1]))
    lanes = {lane["label"]: lane for lane in data["lanes"]}
    assert list(lanes) == [label, "Drums", "Rest", "Mixture"]
    assert lanes["Drums"]["color"] == results.COLORS[1]  # the model's second label, whatever else there is
    (folder,) = tmp_path.iterdir()
    with zipfile.ZipFile(folder / "song.zip") as archive:
        archive.extractall(tmp_path / "out")
    parts = {path.stem: soundfile.read(path)[0] for path in (tmp_path / "out" / "song").iterdir()}
    np.testing.assert_allclose(parts["b_a_b"] + parts["drums"] + parts["residual"], parts["mixture"], atol=1e-6)

    def file(url):
        return tmp_path / url.removeprefix(f"{results.URL}/")

    picture = np.asarray(Image.open(file(lanes[label]["image"])).convert("L")).astype(float)
    frequencies = np.geomspace(40, rate / 2, len(picture))[::-1]  # from the top downwards
    brightest = frequencies[picture.mean(axis=1).argmax()]
    assert abs(brightest - 1000) < 50
    quiet = Stems({"A": tone}, tone + 1e-5, rate)
    assert '"Rest"' not in html.unescape(results.publish(tmp_path, "song", quiet, rest="Rest"))
    for _ in range(results.KEPT):
        results.publish(tmp_path, "song", quiet)
    assert len(list(tmp_path.iterdir())) == results.KEPT
    with pytest.raises(UserError, match="both be written to mixture"):
        results.require_names(["Bass", "mixture"])


def test_examples_are_stems_and_their_mixture(tmp_path):
    assert len(set(examples.titles())) == examples.COUNT
    files = examples.example(0, 8000, tmp_path)
    sounds = {label: soundfile.read(path)[0] for label, path in files.items()}
    mixture = sounds.pop("mixture")
    assert sounds.keys() == {"Bass", "Drums", "Guitar", "Piano"}
    np.testing.assert_allclose(sum(sounds.values()), mixture, atol=1e-6)
    assert all(np.abs(sound).max() > 0.02 for sound in sounds.values())
    assert np.abs(mixture).max() <= 1
    stamp = files["Bass"].stat().st_mtime_ns
    assert examples.example(0, 8000, tmp_path)["Bass"].stat().st_mtime_ns == stamp


def test_what_is_missing_or_taken_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", "--port", "0"]) == 1
    assert re.fullmatch(r"gmsdi: the page needs gradio \(.*\); run: pip install .*\n", capsys.readouterr().err)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1 port {port}: cannot listen there \(.*\); choose another"):
            server._listening("127.0.0.1", port)
    assert server.newest_report(tmp_path) is None
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "report.html").touch()
    assert server.newest_report(tmp_path) == tmp_path / "mini" / "report.html"
