"""Many songs into files: names before the work, blocks that make a whole, damaged songs told from sound ones."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from gmsdi import batch, level, song
from gmsdi.errors import UserError
from gmsdi.io.audio import Audio, Encoding, as_source, opened, read, resample, resampled, write
from gmsdi.level import levels_of
from gmsdi.sampling.solver import Solver
from tests.helpers.gaussians import GaussianDenoiser
from tests.helpers.pipes import pipe_of

RATE, WINDOW = 8000, 64
LABELS = ["Bass", "Drums", "Piano"]
WAV = Encoding("wav")


def noise(*shape, seed=0, scale=0.1):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def wav(path, seconds=0.1, channels=1, rate=RATE):
    return write(path, Audio(noise(channels, round(seconds * rate)), rate))


def pipe(**config):
    settings = {"sample_rate": RATE, "window": WINDOW, "labels": LABELS, **config}
    return pipe_of(GaussianDenoiser(scale=0.1), settings)


def plan(*paths, stems=LABELS, encoding=WAV, **options):
    return batch.plan([Path(path) for path in paths], stems, encoding=encoding, **options)


class Doubling(song.Separation):
    """A separation of which every stem but the first is the song; the first fails for a song that is called bad."""

    def __call__(self, source, progress=None):
        for k, block in enumerate(source.blocks()):
            if progress is not None:
                progress(k, 3)
            if "bad" in source.name:
                raise UserError("the sampling diverged")
            yield np.stack([0 * block, *[block] * (len(self.labels) - 1)])


# Names


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_called_by_the_template_and_folders_keep_their_shape():
    wav("music/one.wav"), wav("music/deep/two.wav"), wav("three.flac"), wav("music/._one.wav")
    jobs = plan("music", "three.flac", "music/one.wav", out=Path("out"), residual="no_Bass", stems=["Bass"])
    assert [[str(file) for file in job.files.values()] for job in jobs] == [
        ["out/deep/two/bass.wav", "out/deep/two/no_bass.wav"],
        ["out/one/bass.wav", "out/one/no_bass.wav"],
        ["out/three/bass.wav", "out/three/no_bass.wav"],
    ]
    (job,) = plan("three.flac", out=Path("out"), stems=["Bass"], name="{model}/{track} ({stem}).{ext}", model="mini")
    assert [str(file) for file in job.files.values()] == ["out/mini/three (bass).wav"]


def test_links_and_what_is_no_song_in_a_folder_are_told():
    wav("music/one.wav"), wav("elsewhere/two.wav")
    os.symlink("../elsewhere", "music/link")
    os.symlink("nowhere", "music/dead.wav")
    os.symlink("..", "music/loop")
    told = []
    with pytest.warns(UserWarning, match="music/l.*: a link to a folder, which is not followed") as warned:
        (job,) = plan("music", out=Path("out"), unusable=lambda path, error: told.append(str(error)))
    assert (len(warned), job.track, told) == (2, "one", ["music/dead.wav: no such audio file"])
    wav("a/caf\u00e9.wav"), wav("b/cafe\u0301.wav")  # one name, where a file system normalises them
    with pytest.raises(UserError, match="would both be written to"):
        plan("a", "b", out=Path("out"))


def test_a_song_that_changes_after_it_was_checked_is_refused():
    """It would be separated at the rate, or written at the length, of what it was."""
    for change, says in (
        (lambda: wav("song.wav", rate=2 * RATE), "was changed in the meantime"),
        (lambda: wav("song.wav", seconds=0.099), "was changed in the meantime"),  # less than what is let pass of an MP3
        (lambda: os.unlink("song.wav"), "No such file or directory, though it was there before"),
    ):
        source = opened(wav("song.wav"))
        during = source.blocks()
        next(during)
        change()
        for reading in (source.blocks(), during):
            with pytest.raises(UserError, match=f"song.wav: {says}"):
                list(reading)


def test_no_file_is_lost_under_anothers_name():
    wav("bass.wav"), wav("a/song.wav"), wav("b/song.wav"), wav("song.flac"), wav("noext.wav").rename("noext")
    Path("file").write_text("")
    Path("text.wav").write_text("no music")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    wav("nine.wav", channels=9), wav("quick.wav", rate=768000)
    for says, paths, options in (
        ("overwritten by a stem of bass.wav", ["bass.wav"], {"name": "{stem}.{ext}"}),
        ("both be written to song/bass.wav; separate them one at a time", ["a/song.wav", "b/song.wav"], {}),
        ("add {track} to --name", ["a/song.wav", "b/song.wav", "bass.wav"], {"name": "{stem}/x.{ext}"}),
        ("would both be written to bass", ["song.flac"], {"stems": ["Bass!", "bass?"]}),
        ("would both be written to residual", ["song.flac"], {"stems": ["Residual"], "residual": "residual"}),
        ("no letter or digit", ["song.flac"], {"stems": ["???"]}),
        ("is a file, but", ["noext"], {}),  # its own default folder
        ("is a file, but", ["song.flac"], {"out": Path("file/deep")}),
        ("is a folder; choose", ["song.flac"], {"name": "folder", "stems": ["Bass"]}),
        ("230 bytes", ["song.flac"], {"stems": ["x" * 240]}),
        ("a pipe", ["-"], {}),
        ("no such audio file", ["none.wav"], {}),
        ("without audio files", ["folder"], {}),
        ("File name too long", ["x" * 300 + ".wav"], {}),
        ("a device", ["/dev/zero"], {}),
        ("a pipe", ["pipe"], {}),
        ("but wav is written", ["song.flac"], {"name": "{track}/{stem}.mp3"}),
        ("has {foo}; known are {track}, {stem}", ["song.flac"], {"name": "{foo}.wav"}),
        ("is to be formatted; write {stem} alone", ["song.flac"], {"name": "{stem!r:>9}.wav"}),
        ("an empty file", ["file"], {}),
        ("not a readable audio file", ["text.wav"], {}),
        ("flac cannot hold 9 channels", ["nine.wav"], {"encoding": Encoding("flac")}),
        ("flac cannot hold 1 channels at 768000 Hz", ["quick.wav"], {"encoding": Encoding("flac")}),
        ("mp3 cannot hold 9 channels", ["nine.wav"], {"encoding": Encoding("mp3")}),
    ):
        with pytest.raises(UserError, match=says) as caught:
            plan(*paths, **{"out": Path(), **options})
        assert "\n" not in str(caught.value)


def done(*songs, out, **options):
    """The files of an earlier run."""
    made = Doubling(**vars(song.separation(pipe().session, ["Bass", "Drums"], rest="Piano")))
    encoding = options.get("encoding", WAV)
    outcomes = batch.run(plan(*songs, out=Path(out), stems=["Bass", "Drums"], **options), made, encoding)
    assert {outcome.status for outcome in outcomes} == {"done"}


@pytest.mark.parametrize("encoding", [WAV, Encoding("flac"), Encoding("mp3")], ids=lambda encoding: encoding.format)
def test_only_what_an_earlier_run_has_written_is_no_song(encoding):
    long = "a song whose name is longer than what an old tag holds.wav"
    wav("music/song.wav", seconds=0.5), wav(f"music/{long}", seconds=0.5)
    for name in ("{track}/{stem}.{ext}", "{stem}/{track}.{ext}"):
        options = {"encoding": encoding, "name": name, "stems": ["Bass", "Drums"]}
        done("music", out="music", encoding=encoding, name=name)
        assert [job.source.name for job in plan("music", out=Path("music"), **options)] == [
            f"music/{long}",
            "music/song.wav",
        ]
        fewer = plan("music", out=Path("music"), **options | {"stems": ["Bass"]})
        assert len(fewer) == 2
        for made in [file for file in Path("music").rglob("*") if file.parent != Path("music")]:
            if made.is_file():
                made.unlink()


@pytest.mark.parametrize(
    ("songs", "name"),
    [
        (["song.wav", "song/bass.wav"], batch.NAME),
        (["song.wav", "song/bass.wav", "song/drums.wav"], batch.NAME),
        (["bass.wav", "other.wav"], "{stem}.{ext}"),
        (["bass.wav"], "{stem}.{ext}"),
    ],
)
def test_a_song_in_the_place_of_a_stem_is_not_lost(songs, name):
    before = {path: wav(f"music/{path}", seconds=0.2).read_bytes() for path in songs}
    with pytest.raises(UserError, match=r"this song would be overwritten.*--out"):
        plan("music", out=Path("music"), stems=["Bass", "Drums"], name=name)
    # Nor if it is a stem of another song, or of another name.
    done("music/song.wav" if "song.wav" in songs else "music/bass.wav", out="elsewhere")
    shutil.copy(next(Path("elsewhere").rglob("bass.wav")), "music/other.wav")
    assert "music/other.wav" in [job.source.name for job in plan("music", out=Path("new"))]
    assert {path: Path("music", path).read_bytes() for path in songs if path != "other.wav"} == {
        path: data for path, data in before.items() if path != "other.wav"
    }


def test_the_same_samples_are_the_same_bytes(monkeypatch):
    """Also a second later: libsndfile notes the time in a WAV of floats."""
    for name in ("song.wav", "song.flac"):
        data = [wav(name).read_bytes(), time.sleep(1.1), wav(name).read_bytes()]
        assert data[0] == data[2]


def test_a_bad_song_of_a_folder_is_told_and_the_others_are_made():
    wav("music/good.wav"), wav("music/nine.wav", channels=9)
    Path("music/bad.wav").write_bytes(b"RIFF")
    told = []
    jobs = plan("music", out=Path("out"), encoding=Encoding("flac"), unusable=lambda *found: told.append(str(found[0])))
    assert ([job.track for job in jobs], told) == (["good"], ["music/bad.wav", "music/nine.wav"])
    with pytest.raises(UserError, match="bad"):  # who names it himself, means it
        plan("music/good.wav", "music/bad.wav", out=Path("out"), unusable=lambda *_: None)


def test_a_full_or_closed_disk_is_found_before_the_work(monkeypatch):
    wav("song.wav")
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as full:
        needed = 3 * (4 * 800 + 4096)
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
        with pytest.raises(UserError, match=r"21\.9 kB are free, and separating 1 song needs 21\.9 kB"):
            plan("song.wav", out=Path("out"))
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + needed // 10))
        assert plan("song.wav", out=Path("out"))  # what fits is not refused

    def refuse(**_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match="cannot be written to"):
        plan("song.wav", out=Path("out"))


# Work


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_song_gets_its_files_or_a_line(at_once):
    made = Doubling(**vars(song.separation(pipe().session, ["Bass", "Drums"], rest="Piano")))
    for name in ("a", "bad", "c"):
        wav(f"music/{name}.wav", channels=2, seconds=0.2)
    jobs = plan("music", out=Path("out"), stems=["Bass", "Drums"], residual="residual")
    outcomes = {Path(x.song).stem: x for x in batch.run(jobs, made, WAV, at_once=at_once)}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {"a": "done", "bad": "failed", "c": "done"}
    assert outcomes["bad"].error == "the sampling diverged"
    assert not Path("out/bad").exists()
    for name in ("a", "c"):
        heard = read(f"music/{name}.wav").samples
        np.testing.assert_array_equal(read(f"out/{name}/drums.wav").samples, heard)
        assert not read(f"out/{name}/residual.wav").samples.any()


def test_an_interruption_leaves_what_is_done():
    made = Doubling(**vars(song.separation(pipe().session, ["Bass", "Drums"], rest="Piano")))
    for name in "abc":
        wav(f"music/{name}.wav")

    def watch(job):
        def progress(step, steps):
            if job.track == "b":
                raise KeyboardInterrupt

        return progress

    jobs = plan("music", out=Path("out"), stems=["Bass", "Drums"])
    assert [x.status for x in batch.run(jobs, made, WAV, watch=watch)] == ["done", "left", "left"]
    assert sorted(file.name for file in Path("out").rglob("*") if file.is_file()) == ["bass.wav", "drums.wav"]


# Blocks


def test_a_long_song_in_blocks_is_the_sum_of_its_stems_and_begins_like_a_short_one():
    solver = Solver("euler", steps=6, sigma_max=0.5, sigma_min=0.05, last="estimate")
    x, options = noise(2, 1000, seed=3), {"solver": solver, "block": 0.02}  # 160 samples: windows of 64, every 48
    made = song.separation(pipe().session, ["Bass", "Drums", "Piano"], **options)
    calls = []
    parts = list(made(as_source(x, 11025), lambda *at: calls.append(at)))
    stems = np.concatenate(parts, axis=-1)
    assert stems.shape == (3, 2, 1000)
    heard = resample(resample(x, 11025, RATE), RATE, 11025)[:, :1000]
    np.testing.assert_allclose(stems.sum(axis=0)[:, :-40], heard[:, :-40], atol=2e-6)
    length = len(resample(x, 11025, RATE)[0])
    blocks = -(-(length - 16) // (160 - 16))
    assert calls == [(k + 1, 6 * blocks) for k in range(6 * blocks)]
    first = np.concatenate(list(made(as_source(x[:, :180], 11025))), axis=-1)
    # One block; the level of the piece is another, but this model knows none.
    np.testing.assert_allclose(stems[..., :120], first[..., :120], atol=2e-3)


def test_blocks_are_resampled_and_measured_like_the_whole():
    x = noise(3, 20000)
    x[:, 5000:9000] = 0
    cuts = [0, 1, 700, 701, 9000, 15000, 20000]
    blocks = [x[:, a:b] for a, b in pairwise(cuts)]
    for source, target in ((RATE, 44100), (44100, RATE), (RATE, RATE)):
        found = np.concatenate(list(resampled(blocks, source, target, 3)), axis=1)
        np.testing.assert_array_equal(found, resample(x, source, target))
    meter = level.Meter(RATE)
    for block in blocks:
        meter.add(torch.from_numpy(block))
    assert meter.length == 20000
    assert meter.level() == pytest.approx(levels_of(torch.from_numpy(x)[None], RATE)[0], abs=1e-9)


# Songs that are not what they seem


CONTAINERS = {
    "song.wav": ("WAV", "PCM_16"),
    "large.wav": ("RF64", "PCM_16"),
    "song.w64": ("W64", "PCM_24"),
    "song.aiff": ("AIFF", "PCM_16"),
    "song.au": ("AU", "FLOAT"),
    "song.flac": ("FLAC", "PCM_16"),
    "song.mp3": ("MP3", "MPEG_LAYER_III"),
    "song.ogg": ("OGG", "VORBIS"),
    "song.opus": ("OGG", "OPUS"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_song_that_was_cut_off_is_refused_before_it_is_separated(here, name):
    container, subtype = CONTAINERS[name]
    with soundfile.SoundFile(name, "w", 48000, 2, format=container, subtype=subtype) as file:
        for second in range(5):
            file.write(noise(48000, 2, seed=second))
    data = Path(name).read_bytes()
    assert opened(name).seconds == pytest.approx(5, abs=0.1)
    list(opened(name).blocks())
    for share in (0.5, 0.9):
        Path(f"cut-{name}").write_bytes(data[: round(share * len(data))])
        with pytest.raises(UserError, match=f"cut-{name}.*cut off"):
            opened(f"cut-{name}")
    if container in ("FLAC", "OGG"):  # which have checksums
        place = len(data) // 3
        Path(f"bad-{name}").write_bytes(data[:place] + bytes(50) + data[place + 50 :])
        with pytest.raises(UserError, match=f"bad-{name}.*damaged"):
            list(opened(f"bad-{name}").blocks())
    if container == "OGG":
        Path(f"tagged-{name}").write_bytes(data + b"TAG" + bytes(125))
        assert opened(f"tagged-{name}").seconds == pytest.approx(5, abs=0.1)


def test_a_length_that_was_not_known_is_none(here):
    tone = 0.3 * np.sin(np.arange(5 * 44100, dtype=np.float32) / 10)
    write(here / "song.wav", Audio(np.stack([tone, tone]), 44100))
    streamed = bytearray(Path("song.wav").read_bytes())
    place = streamed.index(b"data") + 4
    streamed[4:8] = streamed[place : place + 4] = b"\xff\xff\xff\xff"  # as a program writes that cannot go back
    Path("streamed.wav").write_bytes(streamed)
    assert read("streamed.wav").samples.shape == (2, 5 * 44100)


def test_other_containers_are_read_by_ffmpeg(here, monkeypatch):
    """A program in its place that answers to what we ask of it."""
    heard = noise(2, 4000)
    Path("song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", str(here / "nowhere"))
    with pytest.raises(UserError, match="ffmpeg"):
        opened("song.m4a")
    write(here / "inside.wav", Audio(heard, 44100))
    program = here / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nassert sys.argv[-1] == '-' and 'file:song.m4a' in sys.argv\n"
        "data = open('inside.wav', 'rb').read()\nsys.stdout.buffer.write(data)\n"
        "sys.exit('moov atom not found' if b'x' in open('song.m4a', 'rb').read() else 0)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    source = opened("song.m4a")
    assert (source.sample_rate, source.channels, source.frames) == (44100, 2, 4000)
    for _ in range(2):  # as often as it is asked
        np.testing.assert_array_equal(source.whole().samples, heard)
    Path("song.m4a").write_bytes(b"\0\0\0\x20ftypM4A x")
    with pytest.raises(UserError, match="moov atom not found"):
        opened("song.m4a")


@pytest.mark.skipif(
    shutil.which("ffmpeg") is None and os.environ.get("GMSDI_FFMPEG") != "required", reason="ffmpeg is not installed"
)
@pytest.mark.parametrize("name", ["song.m4a", "song.mka", "song.webm"])
def test_ffmpeg_itself(here, name):
    """What it declares and what it decodes; damage in the middle; a picture is no video."""
    wav("song.wav", seconds=6, rate=48000)
    subprocess.run(["ffmpeg", "-v", "error", "-i", "song.wav", name], check=True)
    assert opened(name).seconds == pytest.approx(6, abs=0.1)
    data = Path(name).read_bytes()
    middle = len(data) // 2
    rubbish = np.random.default_rng(0).bytes(len(data) // 5)
    for what, broken in (
        ("cut", data[:middle]),
        ("damaged", data[:middle] + rubbish + data[middle + len(rubbish) :]),
    ):
        Path(f"{what}-{name}").write_bytes(broken)
        with pytest.raises(UserError, match=f"{what}-{name}"):
            opened(f"{what}-{name}")
    if name == "song.m4a":
        picture = ["-f", "lavfi", "-i", "color=red:size=32x32:duration=1", "-frames:v", "1", "-c:v", "png"]
        picture += ["-disposition:v", "attached_pic", "-c:a", "copy", "-map", "0", "-map", "1"]
        subprocess.run(["ffmpeg", "-v", "error", "-i", name, *picture, "with.m4a"], check=True)
        assert opened("with.m4a").seconds == pytest.approx(6, abs=0.1)


def test_an_accompaniment_in_float_is_not_clipped():
    given = noise(1, 400, scale=0.01)
    loud = replace(song.GENERATION, steps=6, sigma_max=40.0, sigma_min=10.0)

    class Loud(GaussianDenoiser):
        def __call__(self, x, sigma, cond):
            return 0 * x + 3

    settings = {"sample_rate": RATE, "window": WINDOW, "labels": LABELS}
    result = pipe_of(Loud(), settings).accompany({"Bass": Audio(given, RATE)}, ["Piano"], solver=loud)
    assert result.parts["Piano"].max() > 1.5
    np.testing.assert_array_equal(result.parts["Piano"] * 32768, np.rint(result.parts["Piano"] * 32768))
