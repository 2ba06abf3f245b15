"""Folders of multi-tracks: against tones in closed form, and what is wrong with them in one line."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from gmsdi.data import multitracks
from gmsdi.data.multitracks import Activity, Splits, active_spans, list_tracks, split_tracks
from gmsdi.data.windows import WindowSet, build_multitrack_windows
from gmsdi.errors import UserError
from tests.helpers.multitracks import FREQUENCIES, MUSDB, tone, write, write_moisesdb, write_musdb

RATE, WINDOW = 8000, 8000
MOISES = {"Bass": ["bass/*"], "Drums": ["drums/*"], "Other": ["guitar/*", "other_keys/*"], "Vocals": ["vocals/*"]}
ALL = Splits(validation=0, test=0)


def build(root, out, split="train", **options):
    settings = {"sample_rate": RATE, "window": WINDOW, "classes": MUSDB, "stems": True, "splits": ALL} | options
    build_multitrack_windows(root, split, out, **settings)
    return WindowSet(out)


def info(windows):
    return json.loads((windows.folder / "info.json").read_text())


# --- Where a stem sounds ----------------------------------------------------------------------------------------------

BURSTS = [(1.0, 2.5), (4.03, 4.43), (7.0, 9.99)]


def noise(seconds, rate, level_db):
    return 10 ** (level_db / 20) * np.random.default_rng(0).standard_normal(round(seconds * rate))


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("gain", [1.0, 0.05])
@pytest.mark.parametrize("frequency", [55.0, 440.0, 3000.0])
def test_bursts_of_a_tone_are_found_within_a_frame(rate, gain, frequency):
    """Over noise at −70 dB and a constant offset as large as the tone."""
    audio = gain * tone(frequency, 12, rate, BURSTS) + noise(12, rate, -70) + 0.2
    found = active_spans(audio.astype(np.float32), rate)
    assert found.shape == (3, 2)
    assert np.abs(found - BURSTS).max() <= Activity.frame
    assert (found[:, 0] <= np.array(BURSTS)[:, 0] + 1e-9).all()  # a frame with a part of the tone sounds
    assert (found[:, 1] >= np.array(BURSTS)[:, 1] - Activity.frame).all()


def test_short_rests_do_not_interrupt_and_a_noise_floor_is_a_rest():
    audio = tone(440, 12, RATE, [(1, 2), (2.9, 4), (6, 7)], amplitude=0.5)
    joined = [[1, 4], [6, 7]]
    for floor in (-200, -70, -55, -46):  # the tone's level is −9 dB: 35 below it is −44
        np.testing.assert_allclose(active_spans(audio + noise(12, RATE, floor), RATE), joined, atol=0.05)
    assert len(active_spans(audio, RATE, Activity(gap=0.5))) == 3
    assert len(active_spans(noise(12, RATE, -61), RATE)) == 0
    np.testing.assert_allclose(active_spans(noise(12, RATE, -59), RATE), [[0, 12]], atol=0.05)
    np.testing.assert_allclose(active_spans(noise(12, RATE, -61), RATE, Activity(floor_db=-70)), [[0, 12]], atol=0.05)


def test_silence_and_next_to_nothing_are_not_active():
    for audio in (np.zeros(RATE), np.full(RATE, 0.5), np.zeros(0), np.zeros(3)):
        assert active_spans(audio.astype(np.float32), RATE).shape == (0, 2)


def test_one_click_does_not_hide_the_music():
    audio = tone(440, 60, RATE, [(10, 50)], amplitude=0.02)
    audio[RATE] = 1.0
    assert active_spans(audio, RATE)[-1] == pytest.approx([10, 50], abs=0.05)


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_rates_channels_and_lengths_of_a_track_may_differ(tmp_path):
    """Every sample against the tones' closed form: K rows, each the sum of its files."""
    root = tmp_path / "data"
    song = root / "Some Song"
    write(song / "Bass Main.WAV", tone(110, 3.0, 44100), 44100, 2)
    write(song / "bass sub.flac", tone(55, 4.0, 16000), 16000)
    write(song / "drums.wav", tone(523, 2.5, 48000), 48000, 2)
    write(song / "vocals" / "lead.ogg", tone(1400, 3.0, 22050), 22050)
    write(song / "vocals" / "dub.mp3", tone(700, 3.0, 44100), 44100, 2)
    write(song / "mix.wav", tone(3000, 9.0, 44100), 44100)
    write(root / "Another" / "drums.wav", tone(523, 2.0, RATE), RATE)
    classes = {"Bass": ["bass *"], "Drums": ["drums.wav"], "Vocals": ["vocals/*"]}
    windows = build(root, tmp_path / "out", classes=classes)
    tracks = pd.read_csv(windows.folder / "tracks.csv")
    assert tracks.values.tolist() == [["Another", 0, 2 * RATE], ["Some Song", 2 * RATE, 4 * RATE]]
    stored = np.load(windows.folder / "stems.npy")[:, 2 * RATE :] / 32768
    assert not np.load(windows.folder / "stems.npy")[[0, 2], : 2 * RATE].any()  # Another has drums alone

    def expected(*tones):
        return sum(tone(frequency, 4, RATE, [(0, end)]) for frequency, end in tones)

    # Apart from a tenth of a second around each end, where a filter rings; codecs with loss are less exact.
    time = np.arange(4 * RATE) / RATE
    for row, tones, tolerance in (
        (0, [(110, 3.0), (55, 4.0)], 2e-4),
        (1, [(523, 2.5)], 2e-4),
        (2, [(1400, 3.0), (700, 3.0)], 0.04),
    ):
        inside = np.all([np.abs(time - edge) > 0.1 for edge in (0, 4, *(end for _, end in tones))], axis=0)
        np.testing.assert_allclose(stored[row, inside], expected(*tones)[inside], atol=tolerance)
    np.testing.assert_allclose(np.load(windows.folder / "mix.npy")[2 * RATE :] / 32768, stored.sum(axis=0), atol=1e-6)
    assert windows.table["active"].tolist() == [*["Drums"] * 2, *["Bass, Drums, Vocals"] * 3, "Bass"]
    assert info(windows)["source"] == {"dataset": "data", "files_of_no_class": 1, "split": "train", "tracks": 2}


def test_the_layout_of_moisesdb(tmp_path):
    root = write_moisesdb(tmp_path / "moisesdb", tracks=3)
    track = root / "moisesdb_v0.1" / "00000001-9c1e-4f4e-8a53"
    for file in (track / "vocals").iterdir():
        file.unlink()
    write(track / "bass" / "f.wav", tone(330, 6.3, 48000), 48000)
    windows = build(root / "moisesdb_v0.1", tmp_path / "out", classes=MOISES)
    assert build(root, tmp_path / "above", classes=MOISES).table["active"].equals(windows.table["active"])
    assert [name[:8] for name in windows.table["track"].unique()] == ["00000000", "00000001", "00000002"]
    rows = windows.table[windows.table["track"] == track.name]
    assert rows["active"].tolist() == [*["Bass, Drums, Other"] * 4, *["Bass"] * 2]
    other = windows.stems(rows.index[:1])[0, 2, 0] * 32768
    np.testing.assert_allclose(other / 32768, tone(880, 1, RATE, amplitude=0.2), atol=0.02)  # guitar and keys together
    whole = np.load(tmp_path / "out" / "stems.npy")
    assert whole.shape[1] == round((4 + 6.3 + 4) * RATE)


def test_labels_are_those_of_the_spans_of_the_audio(tmp_path):
    song = tmp_path / "data" / "a"
    write(song / "bass.wav", tone(110, 8, RATE, [(0, 3.4)]), RATE)
    write(song / "vocals.wav", tone(900, 8, RATE, [(3.42, 5), (5.5, 7.0)]) + noise(8, RATE, -70), RATE)
    windows = build(tmp_path / "data", tmp_path / "out", classes={"Bass": ["bass.*"], "Vocals": ["vocals.*"]})
    # Half a second of each window; the rest of the vocals' is shorter than a second.
    assert windows.table["active"].tolist() == [*["Bass"] * 3, *["Vocals"] * 4, ""]
    spans = pd.read_csv(windows.folder / "activity.csv")
    assert spans["label"].tolist() == ["Bass", "Vocals"]
    np.testing.assert_allclose(spans[["onset", "offset"]], [[0, 3.4], [3.42, 7.0]], atol=0.05)
    _, labels = windows.random_crops(np.random.default_rng(0), 20)
    assert set(labels) <= {("Bass",), ("Vocals",), ("Bass", "Vocals")}


def test_stems_that_exceed_full_scale_are_told_and_a_gain_avoids_it(tmp_path, caplog):
    song = tmp_path / "data" / "a"
    for name, frequency in FREQUENCIES.items():
        write(song / f"{name}.wav", tone(frequency, 2, RATE, amplitude=0.7), RATE)
    loud = build(tmp_path / "data", tmp_path / "loud")
    assert "the stems of 1 tracks exceed full scale" in caplog.text
    total = sum(tone(frequency, 2, RATE, amplitude=0.7) for frequency in FREQUENCIES.values())
    assert info(loud)["source"]["clipped"]["a"] == pytest.approx((np.abs(total) > 1).sum(), abs=3)
    soft = build(tmp_path / "data", tmp_path / "soft", gain_db=-9.0)
    assert "clipped" not in info(soft)["source"]
    np.testing.assert_allclose(soft.stems([0]), loud.stems([0]) * 10 ** (-9 / 20), atol=2e-5)
    assert soft.table.equals(loud.table)


@pytest.mark.parametrize("name", ["001", "NA", 'Hand, "Foot"', "Á propos [live]", "曲　名"])
def test_a_track_may_have_any_name(tmp_path, name):
    write(tmp_path / "data" / name / "bass.wav", tone(110, 2, RATE), RATE)
    write(tmp_path / "data" / name / "drums.wav", tone(523, 2, RATE), RATE)
    classes = {label: MUSDB[label] for label in ("Bass", "Drums")}
    windows = build(tmp_path / "data", tmp_path / "out", classes=classes)
    assert windows.table["track"].tolist() == [name, name]
    assert windows.random_crops(np.random.default_rng(0), 1)[1] == [("Bass", "Drums")]


# --- What cannot be read ----------------------------------------------------------------------------------------------


def spoil(root):
    """Damage five of six tracks, each in its own way; the reasons by track."""
    paths = [root / "train" / name for name in ("B", "C", "D", "E", "F")]
    write_musdb(root, tracks={"train": ["A", *(path.name for path in paths)]}, seconds=2)
    (paths[0] / "bass.wav").write_text("not audio")
    write(paths[1] / "drums.wav", np.zeros(0), RATE)
    import soundfile

    soundfile.write(paths[2] / "other.wav", np.full(2 * RATE, np.nan), RATE, subtype="FLOAT")
    (paths[3] / "vocals.wav").unlink()
    good = write(paths[3] / "vocals.flac", noise(2, RATE, -20), RATE).read_bytes()
    (paths[3] / "vocals.flac").write_bytes(good[: len(good) // 2])
    for stem in MUSDB:
        write(paths[4] / f"{stem.lower()}.wav", tone(110, 0.5, RATE), RATE)
    return {
        "train/B": "bass.wav: not a readable audio file",
        "train/C": "drums.wav: holds no samples",
        "train/D": "other.wav: holds samples that are not finite",
        "train/E": "vocals.flac: ",
        "train/F": "shorter than a window",
    }


def test_broken_tracks_are_left_out_named_and_counted(tmp_path, caplog):
    reasons = spoil(tmp_path / "data")
    windows = build(tmp_path / "data", tmp_path / "out", workers=2)
    source = info(windows)["source"]
    assert (source["tracks"], list(source["skipped"])) == (1, list(reasons))
    assert all(source["skipped"][name].startswith(reason) for name, reason in reasons.items())
    assert set(windows.table["track"]) == {"train/A"}
    assert "5 of 6 tracks are left out; the first is train/B: bass.wav" in caplog.text
    (tmp_path / "data" / "train" / "A" / "bass.wav").write_text("")
    with pytest.raises(UserError, match=r"no track can be decoded; the first is train/A: bass\.wav") as error:
        build(tmp_path / "data", tmp_path / "none")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "none").exists()


def test_an_interrupted_build_goes_on_and_hears_the_same(tmp_path, monkeypatch):
    root = write_musdb(tmp_path / "data", tracks={"train": ["A", "B", "C"]}, seconds=2)
    whole = build(root, tmp_path / "whole", stems=False)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(root, tmp_path / "out", stems=False, progress=stop)
    notes = (tmp_path / ".out.building" / "done.txt").read_text().splitlines()
    seen, decode = [], multitracks.decode
    monkeypatch.setattr(
        multitracks, "decode", lambda track, *a, **k: (seen.append(track.name), decode(track, *a, **k))[1]
    )
    out = build(root, tmp_path / "out", stems=False)
    assert len(seen) == 3 - len(notes) < 3
    assert {p.name: p.read_bytes() for p in out.folder.iterdir()} == {
        p.name: p.read_bytes() for p in whole.folder.iterdir()
    }


# --- Listing ----------------------------------------------------------------------------------------------------------


def test_hidden_files_and_links_in_circles_are_passed_over(tmp_path):
    root = write_musdb(tmp_path / "data", tracks={"train": ["A"]}, seconds=0.1)
    (root / "train" / "A" / "._bass.wav").write_bytes(b"finder")
    (root / "__MACOSX" / "A").mkdir(parents=True)
    (root / "__MACOSX" / "A" / "bass.wav").write_bytes(b"finder")
    (root / "train" / "A" / "bass.wav.asd").write_bytes(b"a program's")
    os.symlink(root, root / "train" / "again")
    os.symlink(write_musdb(tmp_path / "elsewhere", tracks={"x": ["B"]}, seconds=0.1) / "x" / "B", root / "train" / "B")
    tracks = list_tracks(root, MUSDB)
    assert [(track.name, track.unmatched, len(track.stems)) for track in tracks] == [
        ("train/A", 1, 4),
        ("train/B", 1, 4),
    ]


def move(root, before, after):
    (root / after).parent.mkdir(parents=True, exist_ok=True)
    (root / before).rename(root / after)


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        (lambda r: None, {"Low": ["b*"], "Bass": ["bass.wav"]}, "A/bass.wav: matches the patterns of Low and of Bass"),
        (
            lambda r: None,
            {**MUSDB, "Guitar": ["guitar.*"]},
            r"data.classes.Guitar: no file below .* matches guitar\.\*",
        ),
        (lambda r: None, {"Bass": ["Bas.wav"]}, "no file matches .*; one audio file is train/A/bass.wav"),
        (lambda r: None, {"Bass": ["**/bass.wav"]}, "is not a pattern of files below a track's folder"),
        (lambda r: None, {"Bass": ["/bass.wav"]}, "is not a pattern of files below a track's folder"),
        (lambda r: None, {"Bass": ["../bass.wav"]}, "is not a pattern of files below a track's folder"),
        (
            lambda r: move(r, "train/B/bass.wav", "train/bass.wav"),
            MUSDB,
            "train/A: is a track because of .*, but is inside .*/train",
        ),
        (lambda r: move(r, "train", "../gone"), MUSDB, "no file matches .*; it holds no audio files"),
        (lambda r: move(r, ".", "../gone"), MUSDB, "no such folder; set data.root"),
        (lambda r: move(r, "train/A", "train/A\n"), MUSDB, "the track's name has a control or broken character"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, change, classes, message):
    root = write_musdb(tmp_path / "data", tracks={"train": ["A", "B"]}, seconds=0.1)
    change(root)
    with pytest.raises(UserError, match=message) as error:
        list_tracks(root, classes)
    assert "\n" not in str(error.value)


def test_a_pattern_without_a_folder_does_not_make_tracks_of_a_tracks_folders(tmp_path):
    song = tmp_path / "song"
    write(song / "vocals" / "vocals.wav", tone(440, 0.1, RATE), RATE)
    write(song / "drums.wav", tone(440, 0.1, RATE), RATE)
    (track,) = list_tracks(tmp_path, {"Vocals": ["vocals/*", "vocals.wav"], "Drums": ["DRUMS.wav"]})
    assert (track.name, {label: len(files) for label, files in track.stems.items()}) == (
        "song",
        {"Vocals": 1, "Drums": 1},
    )


# --- Splits -----------------------------------------------------------------------------------------------------------


def named(*names):
    return [multitracks.Track(None, name, {}, 0) for name in names]


def names(found):
    return {split: {track.name for track in tracks} for split, tracks in found.items()}


def test_shares_are_drawn_track_by_track():
    tracks = named(*(f"album {k % 40}/{k:04d}" for k in range(2000)))
    splits = Splits(validation=0.1, test=0.2)
    found = names(split_tracks(tracks, splits))
    assert sum(map(len, found.values())) == 2000
    for split, share in (("validation", 0.1), ("test", 0.2), ("train", 0.7)):
        assert abs(len(found[split]) - 2000 * share) < 4 * np.sqrt(2000 * share * (1 - share))
    fewer = names(split_tracks(tracks[::3], splits))
    assert all(fewer[split] == found[split] & {track.name for track in tracks[::3]} for split in found)
    assert names(split_tracks(tracks, Splits(validation=0.3, test=0.2)))["test"] == found["test"]
    other = names(split_tracks(tracks, Splits(seed=2)))
    assert 40 < len(other["test"] & found["test"]) < 120  # independent: 80 of 400


def test_lists_come_first_and_shares_from_what_they_leave():
    tracks = named("train/A - [x]", "train/B", "train/C", "test/D", "extra/E")
    found = names(split_tracks(tracks, Splits(train=["train"], validation=["Train/a - [X]"], test=["te*"])))
    assert found == {"train": {"train/B", "train/C"}, "validation": {"train/A - [x]"}, "test": {"test/D"}}
    rest = names(split_tracks(tracks, Splits(test=["test"], validation=0), needed=["train", "test"]))
    assert rest["train"] == {"train/A - [x]", "train/B", "train/C", "extra/E"}
    many = named(*(f"train/{k}" for k in range(300)), *(f"test/{k}" for k in range(100)))
    drawn = names(split_tracks(many, Splits(train=["train"], test=["test"], validation=0.1)))
    assert all(name.startswith("train/") for name in drawn["train"] | drawn["validation"])
    assert 10 < len(drawn["validation"]) < 50
    assert len(drawn["test"]) == 100


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (Splits(test=["test/Z"]), r"splits\.test: no track or folder 'test/Z'; a track is named 'train/A'"),
        (Splits(validation=["train/A"], test=["train"]), "train/A is in the lists of both validation and test"),
        (Splits(validation=[], test=["test"]), r"splits\.validation: no track of 3 is in .*: no list names one"),
        (Splits(validation=["train"], test=["test"]), "train: no track of 3 .*: validation and test take them all"),
        (Splits(validation=0.0001, test=["test"]), "its share is 0.0001, drawn among 2 tracks"),
    ],
)
def test_splits_that_are_wrong_are_named_in_one_line(splits, message):
    with pytest.raises(UserError, match=message) as error:
        split_tracks(named("train/A", "train/B", "test/C"), splits)
    assert "\n" not in str(error.value)
