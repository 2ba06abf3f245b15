"""Windows against a brute-force decode of the dataset, and the defects that only decoding shows."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import symusic
import yaml

from gmsdi.data import slakh
from gmsdi.data.mini import MiniConfig, compose_dataset
from gmsdi.data.slakh import read_track
from gmsdi.data.windows import WindowSet, build_windows
from gmsdi.errors import UserError
from gmsdi.io import files as files_module

CLASSES = {"Bass": ["Bass"], "Drums": ["Drums"], "Guitar": ["Guitar"], "Piano": ["Piano"]}
WINDOW = 32768


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mini")
    config = MiniConfig(tracks={"train": 0, "validation": 0, "test": 3}, sections=(3, 4))
    compose_dataset(root, config, seed=5)
    return root


@pytest.fixture(scope="module")
def windows(mini, tmp_path_factory) -> WindowSet:
    out = tmp_path_factory.mktemp("windows") / "test"
    build_windows(mini, "test", out, sample_rate=8000, window=WINDOW, classes=CLASSES, stems=True)
    return WindowSet(out)


@pytest.fixture(scope="module")
def mixtures_only(mini, tmp_path_factory) -> WindowSet:
    out = tmp_path_factory.mktemp("windows") / "train"
    build_windows(mini, "test", out, sample_rate=8000, window=WINDOW, classes=CLASSES)
    return WindowSet(out)


def _write_slakh(root: Path, audio: dict[str, tuple[str, np.ndarray]], rate: int, suffix: str = "flac") -> Path:
    """One track at `root`/train/Track00001; `audio` maps Sxx to its class and its samples. Notes fill every stem."""
    track = root / "train" / "Track00001"
    (track / "stems").mkdir(parents=True)
    (track / "MIDI").mkdir()
    subtype = "PCM_16" if suffix == "flac" else "FLOAT"
    length = len(next(iter(audio.values()))[1])
    soundfile.write(track / f"mix.{suffix}", np.zeros(length), rate, subtype=subtype)
    for stem, (_, samples) in audio.items():
        soundfile.write(track / "stems" / f"{stem}.{suffix}", samples, rate, subtype=subtype)
        score = symusic.Score(480)
        part = symusic.Track("stem", 0, False)
        part.notes.append(symusic.Note(0, int(960 * length / rate), 60, 90))
        score.tracks.append(part)
        score.dump_midi(track / "MIDI" / f"{stem}.mid")
    entries = {stem: {"inst_class": name} for stem, (name, _) in audio.items()}
    (track / "metadata.yaml").write_text(yaml.safe_dump({"stems": entries}))
    return track


def _build(root: Path, out: Path, **options) -> WindowSet:
    build_windows(
        root, "train", out, **({"sample_rate": 8000, "window": 4096, "classes": CLASSES, "stems": True} | options)
    )
    return WindowSet(out)


def test_windows_of_mini_equal_the_decoded_files(mini, windows, mixtures_only):
    assert windows.labels == list(CLASSES)
    assert (windows.sample_rate, windows.window) == (8000, WINDOW)
    expected = []
    for path in sorted((mini / "test").iterdir()):
        mix = soundfile.read(path / "mix.flac", dtype="float32")[0]
        stems = np.stack([soundfile.read(path / "stems" / f"S0{k}.flac", dtype="float32")[0] for k in range(4)])
        for offset in range(0, len(mix) - WINDOW + 1, WINDOW):
            cut = slice(offset, offset + WINDOW)
            expected.append((path.name, offset, mix[cut], stems[:, cut]))
    table = windows.table
    assert list(zip(table["track"], table["offset"], strict=True)) == [row[:2] for row in expected]
    assert list(table.index) == list(range(len(expected)))
    ids = [len(expected) - 1, 0, 2]
    np.testing.assert_array_equal(windows.stems(ids)[:, :, 0], [expected[i][3] for i in ids])
    assert windows.stems(ids).dtype == windows.mixture(ids).dtype == np.float32
    assert windows.mixture(ids).shape == (3, 1, WINDOW)
    np.testing.assert_allclose(windows.mixture(ids)[:, 0], [expected[i][2] for i in ids], atol=1e-7)
    np.testing.assert_array_equal(mixtures_only.mixture(ids)[:, 0], [expected[i][2] for i in ids])
    with pytest.raises(UserError, match="without stems"):
        mixtures_only.stems(ids)


def test_active_labels_are_those_that_play_for_half_a_second(mini, windows):
    """Counted on a grid of milliseconds."""
    labels = {}
    for path in sorted((mini / "test").iterdir()):
        track = read_track(path, CLASSES)
        grid = np.arange(0, track.frames / track.sample_rate, 1e-3)
        for label, spans in track.activity.items():
            labels[path.name, label] = np.any([(grid >= on) & (grid < off) for on, off in spans], axis=0)
    doubtful = 0
    for row in windows.table.itertuples():
        first, last = (round(1000 * sample / 8000) for sample in (row.offset, row.offset + WINDOW))
        seconds = {label: labels[row.track, label][first:last].sum() / 1000 for label in CLASSES}
        if any(abs(value - 0.5) < 0.005 for value in seconds.values()):
            doubtful += 1
            continue
        assert row.active == ", ".join(label for label in CLASSES if seconds[label] >= 0.5)
    assert doubtful < len(windows.table) / 4
    assert windows.table["active"].nunique() > 2


def test_random_crops_are_pieces_of_tracks_with_their_labels(mini, mixtures_only):
    audio, labels = mixtures_only.random_crops(np.random.default_rng(0), 40)
    again, same_labels = mixtures_only.random_crops(np.random.default_rng(0), 40)
    np.testing.assert_array_equal(audio, again)
    assert labels == same_labels
    assert audio.shape == (40, 1, WINDOW)
    assert audio.dtype == np.float32
    tracks = {path: soundfile.read(path / "mix.flac", dtype="float32")[0] for path in sorted((mini / "test").iterdir())}
    seen = set()
    for crop, active in zip(audio[:, 0], labels, strict=True):
        found = [
            (path, offset)
            for path, mix in tracks.items()
            for offset in np.flatnonzero(mix[: len(mix) - WINDOW + 1] == crop[0])
            if np.array_equal(mix[offset : offset + WINDOW], crop)
        ]
        assert len(found) == 1
        path, offset = found[0]
        seen.add(path)
        expected = []
        for label, spans in read_track(path, CLASSES).activity.items():
            onset = offset / 8000
            overlap = sum(max(0.0, min(off, onset + WINDOW / 8000) - max(on, onset)) for on, off in spans)
            if abs(overlap - 0.5) > 1e-3:
                expected.append((label, overlap >= 0.5))
        assert all((label in active) == present for label, present in expected)
        assert active
        assert list(active) == [label for label in CLASSES if label in active]
    assert len(seen) == 3


def test_random_stem_crops_are_the_stems_of_the_random_crops(windows, mixtures_only):
    mixtures, labels = mixtures_only.random_crops(np.random.default_rng(0), 40)
    stems, same_labels = windows.random_stem_crops(np.random.default_rng(0), 40)
    assert stems.shape == (40, 4, 1, WINDOW)
    np.testing.assert_allclose(stems.sum(axis=1), mixtures, atol=1e-7)
    assert labels == same_labels
    rare = min(windows.labels, key=lambda label: sum(label in active for active in labels))
    assert any(rare not in active for active in labels)
    sounding, all_with_it = windows.random_stem_crops(np.random.default_rng(0), 40, rare)
    assert all(rare in active for active in all_with_it)
    assert (np.abs(sounding[:, windows.labels.index(rare)]).max(axis=(1, 2)) > 0).all()
    with pytest.raises(UserError, match="without stems; rebuild the windows with stems=True"):
        mixtures_only.random_stem_crops(np.random.default_rng(0), 1)
    with pytest.raises(UserError, match="Flute hardly ever sounds"):
        windows.random_stem_crops(np.random.default_rng(0), 1, "Flute")


def test_a_copy_in_another_process_reopens_the_folder(windows):
    data = pickle.dumps(windows)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).mixture([1]), windows.mixture([1]))


def test_stems_are_resampled_once_and_those_of_a_class_summed(tmp_path):
    rng = np.random.default_rng(0)
    rate, length = 22050, 30001
    a, b, c, d = (0.1 * rng.standard_normal(length).clip(-3, 3) for _ in range(4))
    audio = {"S00": ("Piano", a), "S01": ("Bass", b), "S02": ("Piano", c), "S03": ("Strings", d)}
    _write_slakh(tmp_path / "slakh", audio, rate, "wav")
    windows = _build(tmp_path / "slakh", tmp_path / "out", window=2048)
    expected = np.zeros((4, round(length * 8000 / rate)))
    for row, mono in ((0, b), (3, a + c)):  # the strings belong to no class and to no mixture
        resampled = soxr.resample(mono, rate, 8000)
        expected[row, : len(resampled)] = resampled[: expected.shape[1]]
    count = expected.shape[1] // 2048
    assert len(windows.table) == count == 5
    cut = expected[:, : count * 2048].reshape(4, count, 2048).transpose(1, 0, 2)
    np.testing.assert_allclose(windows.stems(range(count))[:, :, 0], cut, atol=1.5 / 32768)
    np.testing.assert_allclose(windows.mixture(range(count))[:, 0], cut.sum(axis=1), atol=3 / 32768)
    assert set(windows.table["active"]) == {""}  # a window of a quarter of a second is never active for half of one
    with pytest.raises(UserError, match="hardly ever sound"):
        windows.random_crops(np.random.default_rng(0), 2)


def test_loud_sums_are_clipped_and_do_not_wrap(tmp_path):
    loud = 0.9 * np.ones(40000)
    _write_slakh(tmp_path / "slakh", {"S00": ("Piano", loud), "S01": ("Piano", loud), "S02": ("Bass", loud)}, 8000)
    windows = _build(tmp_path / "slakh", tmp_path / "out")
    assert np.load(tmp_path / "out" / "mix.npy").min() == 32767
    assert windows.stems([0])[0, 3].min() == np.float32(32767 / 32768)


def _overwrite(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]), "corrupt"),
        (_overwrite, "corrupt"),
    ],
    ids=["truncated", "overwritten"],
)
def test_a_corrupt_flac_ends_in_one_clear_line_and_no_folder(tmp_path, spoil, message):
    noise = 0.1 * np.random.default_rng(0).standard_normal(40000)
    track = _write_slakh(tmp_path / "slakh", {"S00": ("Bass", noise)}, 8000)
    good = (track / "stems" / "S00.flac").read_bytes()
    spoil(track / "stems" / "S00.flac")
    with pytest.raises(UserError, match=message) as error:
        _build(tmp_path / "slakh", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert "S00.flac" in str(error.value)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["slakh"]
    (track / "stems" / "S00.flac").write_bytes(good)
    np.testing.assert_allclose(
        _build(tmp_path / "slakh", tmp_path / "out").stems([0])[0, 0, 0], noise[:4096], atol=2e-5
    )


def test_audio_that_is_not_finite_is_refused(tmp_path):
    audio = np.zeros(40000)
    audio[123] = np.nan
    _write_slakh(tmp_path / "slakh", {"S00": ("Bass", audio)}, 8000, "wav")
    with pytest.raises(UserError, match=r"S00\.wav: holds samples that are not finite"):
        _build(tmp_path / "slakh", tmp_path / "out")


def test_tracks_shorter_than_a_window_are_refused(tmp_path):
    _write_slakh(tmp_path / "slakh", {"S00": ("Bass", np.zeros(4000))}, 8000)
    with pytest.raises(UserError, match="no track is as long as a window"):
        _build(tmp_path / "slakh", tmp_path / "out")


def test_an_incomplete_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a complete windows folder"):
        WindowSet(tmp_path)


def test_the_tables_say_where_everything_is(windows):
    tracks = pd.read_csv(windows.folder / "tracks.csv")
    assert list(tracks.columns) == ["track", "start", "length"]
    assert tracks["start"].tolist() == np.concatenate([[0], tracks["length"].cumsum()[:-1]]).tolist()
    assert np.load(windows.folder / "mix.npy", mmap_mode="r").shape == (tracks["length"].sum(),)
    assert np.load(windows.folder / "stems.npy", mmap_mode="r").shape == (4, tracks["length"].sum())
    assert list(pd.read_csv(windows.folder / "activity.csv").columns) == ["track", "label", "onset", "offset"]
    assert list(windows.table.columns) == ["track", "split", "offset", "active"]


def _write_many(root: Path, tracks: int, seconds: float, rate: int = 44100) -> None:
    """Tracks of several stems; the first has none of a class."""
    for number in range(tracks):
        rng = np.random.default_rng(number)
        length = round((seconds + 0.1 * number) * rate)
        classes = ["Bass", "Guitar", "Guitar", "Drums"][: 1 + number % 4] if number else ["Strings"]
        audio = {f"S{k:02d}": (name, 0.1 * rng.standard_normal(length)) for k, name in enumerate(classes)}
        _write_slakh(root, audio, rate).rename(root / "train" / f"Track{number + 1:05d}.new")
    for path in list((root / "train").iterdir()):
        path.rename(path.with_suffix(""))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SLOW = """
import sys, time
from gmsdi.data import slakh, windows
decode = slakh.decode
slakh.decode = lambda *arguments: (time.sleep(0.05), decode(*arguments))[1]
classes = {"Bass": ["Bass"], "Drums": ["Drums"], "Guitar": ["Guitar"], "Piano": ["Piano"]}
options = {"sample_rate": 22050, "window": 8192, "classes": classes, "stems": True, "workers": int(sys.argv[3])}
windows.build_windows(sys.argv[1], "train", sys.argv[2], **options)
"""


def test_a_killed_build_goes_on_with_what_is_missing_to_the_same_bytes(tmp_path, monkeypatch):
    root, whole, out = tmp_path / "slakh", tmp_path / "whole", tmp_path / "out"
    _write_many(root, 20, 1.5)
    options = {"sample_rate": 22050, "window": 8192}
    _build(root, whole, **options)
    assert "Track00001" not in (whole / "tracks.csv").read_text()  # no stem of a class

    notes = tmp_path / ".out.building" / "done.txt"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out), "3"])
    while process.poll() is None and not (notes.exists() and notes.read_text().count("\n") >= 6):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    with notes.open("a") as file:
        file.write("Track00019 0123")  # a line that was cut off
    lines = [line.split()[0] for line in notes.read_text().splitlines()[:-1]]
    assert 6 <= len(lines) < 19
    touched = root / "train" / lines[0] / "stems" / "S00.flac"
    os.utime(touched, ns=(1, 1))  # as another file would have

    decode, seen = slakh.decode, []
    monkeypatch.setattr(slakh, "decode", lambda track, *rest: (seen.append(track.path.name), decode(track, *rest))[1])
    _build(root, out, workers=4, **options)
    assert sorted(seen) == sorted({f"Track{number:05d}" for number in range(2, 21)} - set(lines[1:]))
    assert _contents(out) == _contents(whole)
    assert not notes.parent.exists()


def test_other_settings_do_not_go_on_from_a_killed_build(tmp_path):
    root, out = tmp_path / "slakh", tmp_path / "out"
    _write_many(root, 3, 1)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _build(root, out, progress=stop)
    assert (tmp_path / ".out.building" / "done.txt").read_text().startswith("Track00002 ")
    _build(root, tmp_path / "expected", sample_rate=16000, stems=False)
    _build(root, out, sample_rate=16000, stems=False)
    assert _contents(out) == _contents(tmp_path / "expected")


def test_memory_does_not_grow_with_the_number_of_tracks(tmp_path):
    """The peak is that of the longest track at the rate of its files: 14 bytes a sample for each worker."""
    peaks = {}
    for tracks in (4, 16):
        root = tmp_path / f"{tracks}"
        _write_many(root, tracks, 10)
        for workers in (1, 4):
            tracemalloc.start()
            _build(root, tmp_path / f"{tracks}-{workers}", sample_rate=22050, workers=workers)
            peaks[tracks, workers] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    per_worker = 14 * 11.5 * 44100
    assert peaks[16, 1] < 1.3 * per_worker
    assert peaks[16, 4] < 1.3 * 4 * per_worker
    assert peaks[16, 1] < 1.3 * peaks[4, 1]


def test_a_disk_that_is_too_small_is_named_at_once(tmp_path, monkeypatch):
    _write_many(tmp_path / "slakh", 2, 1)
    monkeypatch.setattr(files_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"free, and cutting windows needs .*B here; free space, or cut fewer tracks"):
        _build(tmp_path / "slakh", tmp_path / "out")
