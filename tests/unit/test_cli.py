"""The command line: files in, files out, one clear line when something is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gmsdi.cli import main, spread
from gmsdi.io.audio import Audio, read, write
from tests.unit import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny.write(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def song(tmp_path):
    samples = np.random.default_rng(0).normal(scale=0.05, size=(2, 700)).astype(np.float32)
    return str(write(tmp_path / "song.wav", Audio(samples, 8000)))


@pytest.mark.parametrize("task", ["separate", "separate --projected --samples 2", "extract --consistent"])
def test_separated_stems_sum_to_the_song(model, song, tmp_path, capsys, task):
    out = tmp_path / "out"
    command = [*task.split(), song, "--stems", "bass", "drums", "Piano", "--out", str(out), "--format", "wav"]
    assert main([*command, "--model", model, "--steps", "12", "--seed", "1", "--precision", "float32"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["bass.wav", "drums.wav", "piano.wav"]
    stems = [read(path).samples for path in sorted(out.iterdir())]
    np.testing.assert_allclose(sum(stems), read(song).samples, atol=1e-5)
    assert "12/12" in capsys.readouterr().err  # the progress bar


def test_extract_generate_and_accompany(model, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--model", model, "--steps", "12", "--w", "0.5"]
    assert main(["extract", song, "--stems", "Bass, Drums", *common, "--negative", "bass=Drums"]) == 0
    assert read("song/bass.flac").samples.shape == (2, 700)
    generate = ["generate", "--stems", "bass", "--stems", "piano", "--seconds", "0.05"]
    assert main([*generate, "--format", "wav", *common]) == 0  # float: an untrained model is loud enough to clip
    stems = [read(f"generated/{name}.wav").samples for name in ("bass", "piano")]
    mixture = read("generated/mixture.wav")
    assert (mixture.samples.shape, mixture.sample_rate) == ((1, 400), 8000)
    np.testing.assert_allclose(sum(stems), mixture.samples, atol=1e-5)
    assert main(["generate", "--groups", "bass, piano", "drums", "--noise", "coupled", "--out", "groups", *common]) == 0
    assert sorted(os.listdir("groups")) == ["bass_piano.flac", "drums.flac", "mixture.flac"]
    for method in ("sequential", "extracted"):
        words = ["generate", "--method", method, "--out", method, "--stems", "bass", "piano", "--format", "wav"]
        assert main([*words, *common]) == 0
        bass, mixture, piano = (read(f"{method}/{name}.wav").samples for name in ("bass", "mixture", "piano"))
        np.testing.assert_allclose(bass + piano, mixture, atol=1e-5)
    gammas = ["--gamma-x", "2*sigma", "--gamma-y", "inf"]
    assert main(["accompany", "--given", f"bass={song}", "--stems", "drums", *gammas, *common]) == 0
    assert sorted(os.listdir("accompaniment")) == ["drums.flac", "mixture.flac"]
    beyond = ["--share", "0.4", "--out", "beyond"]
    assert main(["accompany", "--given", f"bass={song}", "--stems", "drums, piano", *beyond, *common]) == 0
    assert sorted(os.listdir("beyond")) == ["drums.flac", "mixture.flac", "piano.flac"]


def test_same_seed_same_bytes(model, song, tmp_path):
    def run(name, seed):
        out = tmp_path / name
        assert main(["extract", song, "--out", str(out), "--model", model, "--steps", "12", "--seed", seed]) == 0
        return (out / "bass.flac").read_bytes()

    assert run("a", "1") == run("b", "1") != run("c", "2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["separate", "none.wav"], "none.wav"),
        (["separate", "SONG", "--model", "nowhere"], "nowhere"),
        (["separate", "SONG", "--format", "mp3"], "mp3"),
        (["separate", "SONG", "--stems", "bass", "--constrained", "piano"], "stems"),
        (["extract", "SONG", "--negative", "bass"], "LABEL=VALUE"),
        (["generate", "--gamma-x", "many"], "--gamma-x"),
        (["generate", "--gamma-x", "2*sigma above"], "--gamma-x"),
        (["generate", "--gamma-x", "0.5*sigma"], "unstable"),
        (["generate", "--method", "magic"], "magic"),
        (["generate", "--groups", "bass, drums", "drums, piano"], "once"),
        (["accompany", "--given", "SONG"], "LABEL=VALUE"),
        (["extract", "SONG", "--stems", "bass", "???"], "'???'"),
        (["extract", "SONG", "--stems", "a b", "a/b"], "a_b"),
        (["extract", "SONG", "--device", "abacus"], "abacus"),
    ],
)
def test_mistakes_end_in_one_line(model, song, words, says, capsys):
    words = [song if word == "SONG" else word for word in words]
    if "--model" not in words:
        words += ["--model", model]
    assert main(words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gmsdi: ")]
    assert len(lines) == 1
    assert says in lines[0]


def test_usage(capsys):
    assert main(["separate"]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


def test_spread():
    assert spread(["separate", "a.wav", "--stems", "x", "y", "--w", "3"]) == [
        *("separate", "a.wav", "--stems", "x", "--stems", "y", "--w", "3")
    ]
    assert spread(["--given", "a=1", "--given", "b=2"]) == ["--given", "a=1", "--given", "b=2"]


def test_help_needs_no_torch():
    code = "import sys; from gmsdi.cli import main; main(['separate', '--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
