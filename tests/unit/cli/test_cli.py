"""The command line: files in, files out, one clear line when something is wrong."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import gmsdi
from gmsdi.cli import main, spread
from gmsdi.errors import UserError
from gmsdi.io.audio import Audio, read, reading, write
from gmsdi.io.files import sized
from gmsdi.models import registry
from gmsdi.models.adapters import pipelines
from tests import REPO
from tests.helpers import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny.write(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def song(tmp_path):
    samples = np.random.default_rng(0).normal(scale=0.05, size=(2, 700)).astype(np.float32)
    return str(write(tmp_path / "song.wav", Audio(samples, 8000)))


def test_the_parts_of_a_song_sum_to_it(model, song, tmp_path, capsys):
    """By default, with a residual, and as two stems; the report says what was done."""
    common = ["--model", model, "--steps", "6", "--precision", "float32", "--out", str(tmp_path)]
    assert main(["separate", song, "--stems", "bass", "drums", "Piano", *common]) == 0
    files = sorted((tmp_path / "song").iterdir())
    assert [file.name for file in files] == ["bass.wav", "drums.wav", "piano.wav"]
    np.testing.assert_allclose(sum(read(file).samples for file in files), read(song).samples, atol=1e-5)
    assert "6/6" in capsys.readouterr().err  # the progress bar

    named = ["--name", "{stem}-{model}.{ext}", "--bits", "24", "--samples", "2", "--preset", "projected"]
    assert main(["separate", song, "--two-stems", "bass", *named, *common, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["preset"], report["settings"]["runs"], report["settings"]["solver"]["steps"]) == ("projected", 2, 6)
    (done,) = report["songs"]
    assert (done["status"], done["seconds"]) == ("done", 0.087)
    assert [Path(file).name for file in done["files"].values()] == ["bass-tiny.wav", "no_bass-tiny.wav"]
    assert {soundfile.info(file).subtype for file in done["files"].values()} == {"PCM_24"}
    parts = [read(file).samples for file in done["files"].values()]
    np.testing.assert_allclose(sum(parts), read(song).samples, atol=2**-22)

    common[3], common[-1] = "5", str(tmp_path / "lossy")
    assert main(["separate", song, "--format", "mp3", *common]) == 0
    files = sorted((tmp_path / "lossy" / "song").iterdir())
    assert [file.name for file in files] == ["bass.mp3", "drums.mp3", "piano.mp3"]
    assert {soundfile.info(file).format for file in files} == {"MP3"}
    found, heard = sum(read(file).samples for file in files), read(song).samples
    assert np.square(found - heard).mean() < 0.3 * np.square(heard).mean()  # white noise suffers the most


def test_extract_generate_and_accompany(model, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--model", model, "--steps", "5", "--w", "0.5"]
    words = ["--rest", "drums", "--residual", "--format", "flac", "--negative", "bass=Drums"]
    assert main(["extract", song, "--stems", "Bass", *words, *common]) == 0
    bass, residual = (read(f"song/{name}.flac").samples for name in ("bass", "residual"))
    np.testing.assert_allclose(bass + residual, read(song).samples, atol=1e-4)
    common[3] = "12"
    generate = ["generate", "--stems", "bass", "--stems", "piano", "--seconds", "0.05"]
    assert main([*generate, *common]) == 0
    stems = [read(f"generated/{name}.wav").samples for name in ("bass", "piano")]
    mixture = read("generated/mixture.wav")
    assert (mixture.samples.shape, mixture.sample_rate) == ((1, 400), 8000)
    np.testing.assert_allclose(sum(stems), mixture.samples, atol=1e-5)
    assert main(["generate", "--groups", "bass, piano", "drums", "--noise", "coupled", "--out", "groups", *common]) == 0
    assert sorted(os.listdir("groups")) == ["bass_piano.wav", "drums.wav", "mixture.wav"]
    eq10 = {}
    for name, words in {"total": ["--method", "total"], "noise": ["--noise", "independent"]}.items():
        assert main(["generate", *words, "--stems", "bass", "piano", "--out", name, *common]) == 0
        eq10[name] = read(f"{name}/bass.wav").samples
    coupled = ["generate", "--noise", "coupled", "--stems", "bass", "piano", "--out", "coupled", *common]
    assert main(coupled) == 0
    np.testing.assert_array_equal(eq10["total"], read("coupled/bass.wav").samples)
    assert not np.allclose(eq10["total"], eq10["noise"], atol=1e-3)
    for method in ("sequential", "extracted"):
        assert main(["generate", "--method", method, "--out", method, "--stems", "bass", "piano", *common]) == 0
        bass, mixture, piano = (read(f"{method}/{name}.wav").samples for name in ("bass", "mixture", "piano"))
        np.testing.assert_allclose(bass + piano, mixture, atol=1e-5)
    assert main(["generate", "--out", "default", "--stems", "bass", "piano", *common]) == 0
    np.testing.assert_array_equal(read("default/bass.wav").samples, read("extracted/bass.wav").samples)
    gammas = ["--gamma-x", "2*sigma", "--gamma-y", "inf"]
    assert main(["accompany", "--given", f"bass={song}", "--stems", "drums", *gammas, *common]) == 0
    assert sorted(os.listdir("accompaniment")) == ["drums.wav", "mixture.wav"]
    beyond = ["--share", "0.4", "--out", "beyond"]
    assert main(["accompany", "--given", f"bass={song}", "--stems", "drums, piano", *beyond, *common]) == 0
    assert sorted(os.listdir("beyond")) == ["drums.wav", "mixture.wav", "piano.wav"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["separate", "song.wav", "gone.wav"], "gone.wav: no such audio file"),
        (["extract", "song.wav", "--stems", "drums", "--name", "../{stem}"], "not inside the folder of --out"),
        (["separate", "song.wav", "--negative", "bass"], "--negative 'bass': write LABEL=VALUE"),
        (["generate", "--stems", "drums", "--seconds", "nan"], "--seconds is nan"),
        (["separate", "song.wav", "--w", "nan"], "guidance w is nan"),
        (["extract", "song.wav", "--block", "nan"], "--block is nan"),
        (["generate", "--stems", "drums", "--gamma-x", "2*sigma*3"], "gamma"),
        (["accompany", "--given", "bass=gone.wav", "--stems", "drums"], "gone.wav: no such audio file"),
    ],
)
def test_nothing_is_downloaded_for_a_command_that_cannot_work(words, line, song, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("load", "fetch_configs"):
        owner = registry if name == "load" else pipelines
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("the model is loaded"))
    assert main([*words, "--model", "owner/name"]) == 1
    assert line in capsys.readouterr().err


def test_same_seed_same_bytes(model, song, tmp_path):
    def run(name, seed):
        words = ["--out", str(tmp_path / name), "--model", model, "--preset", "fast", "--seed", seed]
        assert main(["extract", song, "--stems", "bass", "--format", "flac", *words]) == 0
        return (tmp_path / name / "song" / "bass.flac").read_bytes()

    assert run("a", "1") == run("b", "1") != run("c", "2")


def test_a_folder_song_by_song_once(model, song, tmp_path, capsys):
    """What is there is left out, also a stem beside its song; a failed song does not hold up the others."""
    samples = read(song).samples
    for name in ("music/a.wav", "music/b/c.flac"):
        write(tmp_path / name, Audio(samples, 8000))
    folder = tmp_path / "music"
    words = [
        "extract",
        str(folder),
        "--stems",
        "bass",
        "--out",
        str(folder),
        "--model",
        model,
        "--steps",
        "5",
        "-j",
        "2",
    ]
    assert main([*words, "--json"]) == 0
    told = capsys.readouterr()
    first = json.loads(told.out)
    bars = re.findall(r"songs: +\d+%\|.*?\| (\d/\d)", told.err)
    assert bars[-1] == "2/2"
    assert {"0/2", "1/2"} & set(bars)
    assert [outcome["status"] for outcome in first["songs"]] == ["done", "done"]
    assert {str(file.relative_to(folder)) for file in folder.rglob("*.wav")} == {"a.wav", "a/bass.wav", "b/c/bass.wav"}
    before = (folder / "a" / "bass.wav").stat().st_mtime_ns
    (folder / "b" / "c" / "bass.wav").unlink()
    assert main([*words, "--skip-existing", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {Path(outcome["song"]).name: outcome["status"] for outcome in again["songs"]} == {
        "a.wav": "skipped",
        "c.flac": "done",
    }
    assert (folder / "a" / "bass.wav").stat().st_mtime_ns == before


def test_models_are_listed_with_their_presets(model, capsys):
    config = Path(model) / "config.json"
    plain = config.read_text()
    assert main(["models", model]) == 0
    assert "preset best: the Extractor, consistent, 12 steps of euler, w = 3" in capsys.readouterr().out
    try:
        config.write_text(json.dumps({**json.loads(plain), "presets": {"mine": {"guidance": {"w": 2}}}}))
        assert main(["models", model]) == 0
        assert "preset mine: the Extractor, consistent, 12 steps of euler, w = 2" in capsys.readouterr().out
        for wrong in ({}, {**json.loads(plain), "unet": None}):
            config.write_text(json.dumps(wrong))
            assert main(["models", model]) == 1
            assert "config.json: not the configuration of a model" in capsys.readouterr().err
        for wrong, says in {"text": "text is None", "presets": "negatives are 'x'"}.items():
            settings = None if wrong == "text" else {"best": {"negatives": "x"}}
            config.write_text(json.dumps({**json.loads(plain), wrong: settings}))
            assert main(["generate", "--model", model, "--seconds", "0.1"]) == 1
            assert says in capsys.readouterr().err
        config.write_text(json.dumps({**json.loads(plain), "sample_rate": math.nan}))
        assert main(["models", model]) == 1
        assert "sample_rate is nan" in capsys.readouterr().err
    finally:
        config.write_text(plain)
    assert main(["--list-models"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in told] == ["general", "mini"]
    assert all(": 8000 Hz" in line for line in told)


LONG = "x" * 300
COMMANDS = (["separate", "SONG"], ["extract", "SONG"], ["generate"], ["accompany", "--given", "bass=SONG"])
WRONG = (
    (["--device", "abacus"], "'abacus' cannot be used here; choose auto or "),
    (["--device", "meta"], "'meta' cannot be used here"),  # on which torch computes nothing
    (["--device", "hpu"], "'hpu' cannot be used here"),  # which torch has as a package of its own
    (["--precision", "float8"], "choose auto, bf16 or float32"),
)
"""What no command takes, and what is said."""
TONE = np.sin(np.arange(800)) / 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["separate", "none.wav"], "none.wav: no such audio file"),
        (["separate", "-"], "a pipe"),
        (["separate", "SONG", "--model", "nowhere"], "nowhere"),
        (["separate", "SONG", "--format", "ogg"], "ogg"),
        (["separate", "SONG", "--format", "flac", "--bits", "float"], "16 or 24"),
        (["separate", "SONG", "--preset", "magic"], "the model has best, fast"),
        (["separate", "SONG", "--stems", "bass", "--constrained", "piano"], "stems"),
        (["separate", "SONG", "--constrained", "drums", "--steps", "3"], "or more"),
        (["separate", "SONG", "--preset", "best", "--constrained", "drums"], "paper-separator"),
        (["separate", "SONG", "--two-stems", "bass", "--stems", "bass", "drums"], "name it once"),
        (["separate", "SONG", "--name", "all/{track}.{ext}"], "the same name"),
        (["separate", "SONG", "--name", "{artist}/{stem}"], "{artist}"),
        (["separate", "SONG", "--name", "../{stem}.{ext}"], "not inside the folder"),
        (["extract", "SONG", "--preset", "paper-separator"], "use separate"),
        (["extract", "SONG", "--negative", "bass"], "LABEL=VALUE"),
        (["extract", "SONG", "--stems", "bass", "--rest", "drums", "--negative", "piano=Bass"], "'Piano'"),
        (["extract", "SONG", "--negative", "bass=Drums", "--negative", "bass=Piano"], "twice"),
        (["extract", "SONG", "--stems", "Kazoo " * 8], "longer than 32 tokens"),
        (["extract", "SONG", "--stems", "Kazoo " * 8, "--model", "mini"], "longer than 28 tokens"),
        (["extract", "SONG", "--w", "1e30"], "diverged"),
        (["generate", "--gamma-x", "many"], "--gamma-x"),
        (["generate", "--gamma-x", "2*sigma above"], "--gamma-x"),
        (["generate", "--gamma-x", "2*sigma*3"], "--gamma-x"),
        (["generate", "--gamma-x", "0.5*sigma"], "unstable"),
        (["generate", "--method", "magic"], "magic"),
        (["generate", "--groups", "bass, drums", "drums, piano"], "once"),
        (["generate", "--seconds", "nan"], "seconds is nan"),
        (["generate", "--seconds", "inf"], "seconds is inf"),
        (["generate", "--seconds", "80000", "--format", "flac"], "GB of memory"),
        (["generate", "--seconds", "1e308"], "at most 86400"),
        (["separate", "SONG", "--block", "1e308"], "at most 86400"),
        (["separate", "SONG", "--steps", "1000000000"], "at most 10000"),
        (["generate", "--steps", "1000000000"], "at most 10000"),
        (["separate", "SONG", "--samples", "1000000000"], "at most 10000"),
        (["separate", ""], "an empty value after separate"),
        (["separate", "SONG", "--preset", ""], "an empty value after --preset"),
        (["separate", "SONG", "--preset="], "an empty value after --preset"),
        (["separate", "SONG", "--stems", "Bass", LONG], "230 bytes"),
        (["separate", "SONG", "--out", LONG], "230 bytes"),
        (["separate", "SONG", "--model", LONG], "no model folder"),
        (["separate", LONG], "File name too long"),
        (["accompany", "--given", f"bass={LONG}.wav"], "File name too long"),
        (["separate", "/dev/zero"], "a device"),
        (["separate", "SONG", "--stems", "Bass", "drums", "none.wav"], "none.wav: no such audio file"),
        (["separate", "--stems", "Bass", "drums", "none.flac"], "none.flac: no such audio file"),
        (["separate", "SONG", "--stems", "Bass"], "--two-stems 'Bass'"),
        (["separate", "SONG", "--two-stems", "Bass, Drums"], "one stem"),
        (["separate", "SONG", "--name", "{track}/{stem}.mp3"], "but wav is written"),
        (["separate", "SONG", "--negative", "Bass=Drums", "--negative", "bass=Piano"], "twice"),
        (["extract", "SONG", "--stems", "bass", "--rest", "drums", "Drums"], "once"),
        (["generate", "--gamma-x", "-1"], "--gamma-x '-1'"),
        (["generate", "--stems", "bass", "mixture"], "mixture"),
        (["generate", "--negative", "kazoo=Bass"], "'kazoo'"),
        (["accompany", "--given", "SONG"], "LABEL=VALUE"),
        (["accompany", "--given", "bass=.", "drums=SONG"], ".: a folder, where an audio file is expected"),
        (["accompany", "--given", "bass=SONG", "bass=SONG"], "twice"),
        (["accompany", "--given", "bass=SONG", "Bass=SONG"], "twice"),
        (["accompany", "--given", "bass=SONG", "--alpha", "nan"], "alpha is nan"),
        (["accompany", "--given", "bass=SONG", "--stems", "bass"], "both given"),
        (["extract", "SONG", "--stems", "bass", "???"], "'???'"),
        (["extract", "SONG", "--stems", "a b", "a/b"], "a_b"),
        *(([*words, *wrong], says) for words in COMMANDS for wrong, says in WRONG),
        (["extract", "SONG", "--preset", "magic"], "the model has best, fast"),
        (["separate", "SONG", "--stems", "--residual"], "--stems is followed by --residual"),
        (["separate", "SONG", "--preset", "--json"], "--preset is followed by --json"),
        (["accompany", "--given", "--out", "x"], "--given is followed by --out"),
        (["separate", "a\nb.wav"], r"a\nb.wav: no such audio file"),
        (["accompany", "--given", "bass=SONG", "drums=SONG", "piano=SONG"], "name those to generate"),
        (["generate", "--stems", "bass", "--method", "extracted"], "choose sequential"),
        (["generate", "--gamma-x", "1e-300"], "unstable"),
        (["generate", "--gamma-y", "1e-200*sigma"], "unstable"),
        (["generate", "--noise", "magic"], "choose independent or coupled"),
        (["generate", "--stems", "Kazoo " * 8], "longer than 32 tokens"),
        (["accompany", "--given", "bass=SONG", "--stems", "Kazoo " * 8], "longer than 32 tokens"),
        (["accompany", "--given", "bass=SONG", "--gamma-x", "0.1*sigma"], "unstable"),
        (["accompany", "--given", "bass=SONG", "--beta", "-1"], "beta must be positive"),
        (["accompany", "--given", "bass=SONG", "--share", "0.5", "--gamma-y", "inf"], "choose one"),
    ],
)
def test_mistakes_end_in_one_line(model, song, words, says, capsys, tmp_path, monkeypatch):
    if says != "diverged":  # which only the result shows
        monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    monkeypatch.chdir(tmp_path)
    words = [word.replace("SONG", song) for word in words]
    if "--model" not in words:
        words += ["--model", model]
    assert main(words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gmsdi: ")]
    assert len([line for line in lines if not line.startswith("gmsdi: warning")]) == 1
    assert says in lines[-1]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["song.wav"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, preset="magic"), "the model has best, fast"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, method="magic"), "method is 'magic'"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, seed=2**64), "seed is"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, seed=0.5), "seed is 0.5"),
        (lambda model: gmsdi.extract(model, TONE, "bass", sample_rate=8000, preset="paper-separator"), "use separate"),
        (lambda model: gmsdi.generate(model, method="magic"), "method is 'magic'"),
        (lambda model: gmsdi.generate(model, groups=[["bass"]]), "groups Bass do not have"),
        (lambda model: gmsdi.generate(model, gamma_x=-1.0), "gamma_x is -1.0"),
        (lambda model: gmsdi.accompany(model, {"bass": TONE}, sample_rate=8000, share=2), "share is 2"),
        (lambda model: gmsdi.accompany(model, {"bass": TONE}, sample_rate=8000, alpha="1"), "alpha is '1'"),
        (lambda model: gmsdi.accompany(model, [TONE], sample_rate=8000), "a mapping of labels"),
        (lambda model: gmsdi.accompany(model, {"bass": TONE}, sample_rate=8000, gamma_y="2*sigma"), "gamma_y is '2"),
        (lambda model: gmsdi.accompany(model, {"bass": np.full(9, np.nan)}, sample_rate=8000), "NaN"),
        (lambda model: gmsdi.separate(model, [[1.0], [1.0, 2.0]], sample_rate=8000), "a list that is no array"),
        (lambda model: gmsdi.separate(model, TONE, 5, sample_rate=8000), "stems are 5"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, negatives="Bass=Drums"), "negatives are"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, negatives={"Bass": 3}), "negatives are"),
        (lambda model: gmsdi.separate(model, TONE, sample_rate=8000, solver="euler"), "it must be a Solver"),
        (lambda model: gmsdi.separate(None, TONE, sample_rate=8000), "the model is None"),
        (lambda model: gmsdi.accompany(model, {"bass": TONE}, sample_rate=8000, given_noise="x"), "choose fixed"),
    ],
)
def test_a_model_that_is_named_is_not_loaded_for_what_cannot_be(model, call, says, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    with pytest.raises(UserError, match=says):
        call(model)


def test_nan_is_told_with_its_second_before_a_model_is_loaded(song, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    samples = np.full((280_000, 2), 0.1)  # of more than one block
    what = "NaN or infinite samples, first"
    paths = {name: str(tmp_path / name) for name in ("nan.wav", "inf.wav", "loud.wav")}
    says = {
        "nan.wav": (270_000, np.nan, f"{what} at 33.750 s"),
        "inf.wav": (0, -np.inf, f"{what} at 0.000 s"),
        "loud.wav": (1, 3e30, "a sample of 3e+30 (full scale is 1) at 0.000 s"),
    }
    for name, (place, value, _) in says.items():
        bad = samples[: place + 100].copy()
        bad[place, 1] = value
        soundfile.write(paths[name], bad, 8000, subtype="DOUBLE" if name == "nan.wav" else "FLOAT")
    for words in (
        *(["separate", path] for path in paths.values()),
        ["extract", paths["nan.wav"], "--stems", "bass"],
        ["accompany", "--given", f"bass={song}", f"drums={paths['nan.wav']}"],
    ):
        (name,) = [name for name in paths if any(paths[name] in word for word in words)]
        assert main(words) == 1
        line = f"{paths[name]}: holds {says[name][2]}; repair or exclude it"
        assert capsys.readouterr().err == f"gmsdi: {line}\n"
    with pytest.raises(UserError, match=r"nan\.wav: holds NaN"):
        gmsdi.separate("mini", paths["nan.wav"])
    monkeypatch.setattr(reading, "checked", lambda *_: pytest.fail("what can hold no such sample is decoded, too"))
    soundfile.write(tmp_path / "song.flac", samples[:700], 8000)
    assert reading.opened(tmp_path / "song.flac").frames == 700


def test_names_that_are_no_text_or_begin_like_an_option(model, song, tmp_path, capfdbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (b"caf\xe9.wav", b"-dash.wav"):
        shutil.copy(song, os.path.join(os.fsencode(tmp_path), name))
    words = ["--stems", "bass", "--model", model, "--steps", "6", "--precision", "float32", "--out", "out"]
    assert main(["extract", os.fsdecode(b"caf\xe9.wav"), *words]) == 0
    assert capfdbinary.readouterr().out == b"out/caf\xe9/bass.wav\n"
    assert main(["extract", "-dash.wav", *words]) == 1
    assert b"gmsdi: -dash.wav: a file whose name begins like an option; write ./-dash.wav\n" in (
        capfdbinary.readouterr().err
    )
    assert main(["extract", *words, "--", "-dash.wav"]) == 0
    assert main(["generate", "--stems", "bass", "--seconds", "0.1", *words[2:]]) == 0
    assert sorted(os.listdir("out")) == sorted(["-dash", os.fsdecode(b"caf\xe9"), "bass.wav", "mixture.wav"])


@pytest.mark.parametrize("words", [["separate"], ["generate", "--stems"], ["generate", "--seed", str(2**64)]])
def test_wrong_usage(words, capsys):
    assert main(words) == 2


def test_an_interruption_leaves_nothing_half_and_says_how_to_go_on(model, song, tmp_path, monkeypatch, capsys):
    from gmsdi.sampling.session import Session

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "sample", interrupted)
    monkeypatch.chdir(tmp_path)
    assert main(["separate", song, "--model", model]) == 130
    assert "--skip-existing" in capsys.readouterr().err
    assert main(["generate", "--model", model]) == 130
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["song.wav"]


def test_usage(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


def test_spread(tmp_path, monkeypatch):
    assert spread(["separate", "a.wav", "--stems", "x", "y", "--w", "3"]) == [
        *("separate", "a.wav", "--stems", "x", "--stems", "y", "--w", "3")
    ]
    assert spread(["extract", "--stems", "x", __file__]) == ["extract", "--stems", "x", __file__]
    assert spread(["--given", "a=1", "--given", "b=2"]) == ["--given", "a=1", "--given", "b=2"]
    # Songs, also one that is not there, and folders are no labels; a folder that is called like a label is one.
    monkeypatch.chdir(tmp_path)
    for folder in ("music", "drums"):
        Path(folder).mkdir()
    stems = ["--stems", "Bass", "--stems", "drums"]
    for song in ("music", "music/", "none.wav", "none.FLAC"):
        assert spread(["separate", "--stems", "Bass", "drums", song]) == ["separate", *stems, song]


def heard():
    """Let a process hear signals that nohup, or a shell for its jobs in the background, has it ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "status", "at_once"),
    [(signal.SIGINT, 130, "1"), (signal.SIGINT, 130, "2"), (signal.SIGTERM, 143, "1"), (signal.SIGHUP, 129, "2")],
)
def test_a_signal_in_the_work_leaves_nothing_half(model, song, tmp_path, number, status, at_once):
    folder = tmp_path / "music"
    folder.mkdir()
    for name in "abc":
        shutil.copy(song, folder / f"{name}.wav")
    words = [
        "separate",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--model",
        model,
        "-j",
        at_once,
        "--steps",
        "9999",
    ]
    words += ["--preset", "best", "--precision", "float32"]
    command = [sys.executable, "-m", "gmsdi.cli", *words]
    started = {"stderr": subprocess.PIPE, "text": True, "cwd": REPO}
    with subprocess.Popen(command, preexec_fn=heard, **started) as process:
        try:
            deadline = time.monotonic() + 120
            while not list((tmp_path / "out").rglob("*.partial.wav")) and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.1)
            time.sleep(0.5)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert "interrupted with 3 of 3 songs left; to continue, repeat the command with --skip-existing" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_is_told_in_one_line(model, song, tmp_path, monkeypatch, capsys):
    """A disk of 16 kB, whose size is not known beforehand."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        long = tmp_path / "long.wav"
        samples = np.random.default_rng(0).normal(scale=0.05, size=(1, 2000)).astype(np.float32)
        write(long, Audio(samples, 8000))
        for module in ("gmsdi.batch", "gmsdi.io.files"):
            monkeypatch.setattr(f"{module}.require_space", lambda *_, **__: None)
        words = ["--model", model, "--steps", "8", "--precision", "float32", "--out", str(disk)]
        assert main(["separate", str(long), *words]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gmsdi: ")]
        assert "free space" in line or "is the disk full" in line
        assert os.listdir(disk) == []
        assert main(["generate", "--seconds", "0.25", *words, "--steps", "12", "--w", "0.5"]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gmsdi: ")]
        assert "free space" in line or "is the disk full" in line
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_too_small_is_told_before_a_model_is_loaded(model, tmp_path, monkeypatch, capsys):
    """Three floating-point files of a tenth of a second, or of a stereo song's length; its stem has one channel."""
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "song.wav", Audio(np.full((2, 44100), 0.1, np.float32), 44100))
    usage = shutil.disk_usage(".")
    for words, needed in (
        (["generate", "--stems", "bass", "piano", "--seconds", "0.1"], 3 * (4 * 800 + 4096)),
        (["accompany", "--given", "bass=song.wav", "--stems", "piano"], (1 + 2) * 4 * 44100 + 2 * 4096),
    ):
        files = 3 if words[0] == "generate" else 2
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _, free=needed - 1: usage._replace(free=free))
            assert main([*words, "--model", model, "--out", "new/deep"]) == 1
        said = f"{sized(needed - 1)} are free, and writing {files} files needs {sized(needed)} here; free space, or"
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == f"gmsdi: {tmp_path}: {said} choose another folder with --out"
        assert not (tmp_path / "new").exists()
        with monkeypatch.context() as fits:
            fits.setattr(shutil, "disk_usage", lambda _, free=needed + needed // 10: usage._replace(free=free))
            with pytest.raises(pytest.fail.Exception, match="the model is loaded"):
                main([*words, "--model", model])


def test_an_unknown_label_is_warned_of_on_a_line_of_its_own(model, song, tmp_path, capsys):
    words = ["--model", model, "--steps", "6", "--precision", "float32", "--out", str(tmp_path)]
    assert main(["separate", song, "--stems", "Bass", "Flute", *words]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("gmsdi: warning: the model was not trained with 'Flute'") for line in lines)


def test_a_song_of_a_higher_rate_has_more_than_its_stems(model, tmp_path, capsys):
    """White noise at twice the model's rate: half of its power is above what the model hears, and the user is told."""
    noise = np.random.default_rng(0).normal(scale=0.05, size=(1, 2000)).astype(np.float32)
    song = str(write(tmp_path / "song.wav", Audio(noise, 16000)))
    words = ["--model", model, "--steps", "6", "--precision", "float32", "--out", str(tmp_path)]
    note = "works at 8 kHz, so the stems have nothing above 4 kHz; --residual writes what they leave of the song"
    assert main(["separate", song, *words]) == 0
    assert note in capsys.readouterr().err
    stems = sum(read(file).samples for file in (tmp_path / "song").iterdir())
    assert np.square(noise - stems).sum() == pytest.approx(np.square(noise).sum() / 2, rel=0.1)
    assert main(["separate", song, "--residual", *words]) == 0
    assert note not in capsys.readouterr().err
    np.testing.assert_allclose(stems + read(tmp_path / "song" / "residual.wav").samples, noise, atol=1e-5)


def test_a_bad_song_of_a_folder_does_not_hold_up_the_others(model, song, tmp_path, capsys):
    folder = tmp_path / "music"
    folder.mkdir()
    shutil.copy(song, folder / "good.wav")
    (folder / "cut.wav").write_bytes(Path(song).read_bytes()[:40])
    words = ["--model", model, "--steps", "6", "--precision", "float32", "--out", str(tmp_path / "out")]
    assert main(["separate", str(folder), *words]) == 1
    assert "cut.wav" in [line for line in capsys.readouterr().err.splitlines() if line.startswith("gmsdi: ")][-1]
    assert sorted(os.listdir(tmp_path / "out")) == ["good"]
    assert (
        main(["separate", str(folder / "good.wav"), str(folder / "cut.wav"), *words[:-1], str(tmp_path / "new")]) == 1
    )
    assert not (tmp_path / "new").exists()


def test_a_report_is_json_whatever_happens_and_a_full_or_closed_output_is_one_line(capsys, monkeypatch):
    assert main(["separate", "gone.wav", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) | {"gmsdi": ""} == {
        "gmsdi": "", "model": "mini", "songs": [], "error": "gone.wav: no such audio file",
    }  # fmt: skip
    assert told.err == "gmsdi: gone.wav: no such audio file\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert main(["separate", "gone.wav"]) == 1
    if not os.path.exists("/dev/full"):
        return
    with io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True) as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["models"]) == 1
    assert capsys.readouterr().err == "gmsdi: standard output: cannot be written (No space left on device)\n"


def test_a_song_of_less_than_a_sample_at_the_models_rate_is_silent(model, song, tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    shutil.copy(song, folder / "good.wav")
    soundfile.write(folder / "click.wav", np.full(2, 0.1), 44100)
    words = ["--model", model, "--steps", "6", "--precision", "float32", "--out", str(tmp_path / "out")]
    assert main(["separate", str(folder), *words]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["click", "good"]
    clicks = [soundfile.read(file)[0] for file in sorted((tmp_path / "out" / "click").iterdir())]
    assert all(len(found) == 2 and not found.any() for found in clicks)


def test_help_needs_no_torch():
    code = "import sys; from gmsdi.cli import main; main(['separate', '--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPO)
