"""MIDI songs as multi-tracks: what is played against the SoundFont specification; splits, versions and failures."""

import json
import os
import time
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import yaml

from gmsdi.data.midi import Unplayable, read_song
from gmsdi.data.midi_dataset import MidiConfig, Variety, _apart, list_songs, render_split, vary
from gmsdi.data.synthesizer import find_soundfont, play, render_rate
from gmsdi.data.windows import WindowSet, build_windows
from gmsdi.errors import UserError
from tests.helpers.midi_files import control, midi, note, program, song
from tests.helpers.soundfonts import FREQUENCY, KEY, write_soundfont

if find_library("fluidsynth") is None and os.environ.get("GMSDI_FLUIDSYNTH") != "required":
    pytest.skip("the library of FluidSynth is not installed", allow_module_level=True)

CLASSES = {"Bass": ["32-39"], "Drums": ["drums"], "Piano": ["0-7"]}
FONT = "TimGM6mb"
RATE = 24_000
ORGAN = 19  # a steady tone


def config(**changes):
    return replace(MidiConfig(classes=CLASSES, soundfonts=[FONT]), **changes)


def heard(*events):
    """What the only part of a file sounds like, float64 [2, T]."""
    found = read_song(midi([event for group in events for event in (group if isinstance(group, list) else [group])]))
    return play(found.parts[0], find_soundfont(FONT), found.seconds + 1, RATE).astype(np.float64)


def level(audio, start, end):
    """Root mean square in dB between two seconds."""
    return 10 * np.log10(np.mean(audio[..., round(start * RATE) : round(end * RATE)] ** 2) + 1e-12)


@pytest.mark.parametrize("kind", ["velocity", "volume", "expression"])
def test_loudness_follows_velocity_and_controllers_by_40_db_a_decade(kind):
    # SoundFont Technical Specification 2.04, sections 8.4.1, 8.4.5 and 8.4.6: concave, 20 log10((127/value)^2).
    values, events = [30, 60, 90, 127], [program(0 if kind == "velocity" else ORGAN)]
    for place, value in enumerate(values):
        velocity = value if kind == "velocity" else 100
        if kind != "velocity":
            events.append(control(960 * place, {"volume": 7, "expression": 11}[kind], value))
        events += note(960 * place, 960 * place + 480, 60, velocity=velocity)
    audio = heard(events)
    levels = [level(audio, place + 0.1, place + 0.4) for place in range(4)]
    np.testing.assert_allclose(np.array(levels) - levels[-1], 40 * np.log10(np.array(values) / 127), atol=0.4)


def test_the_pedal_holds_a_note_and_lets_it_go():
    audio = heard(program(ORGAN), control(0, 64, 127), note(0, 240, 60), control(1440, 64, 0), note(3800, 3840, 60))
    assert level(audio, 1.0, 1.4) > -40
    assert level(audio, 2.2, 3.5) < -80


def test_pan_moves_a_note_from_left_to_right():
    audio = heard(program(ORGAN), control(0, 10, 0), note(0, 480, 60), control(960, 10, 127), note(960, 1440, 60))
    assert level(audio[0], 0.1, 0.4) > level(audio[1], 0.1, 0.4) + 25
    assert level(audio[1], 1.1, 1.4) > level(audio[0], 1.1, 1.4) + 25


def test_a_bend_by_the_range_that_the_file_sets_changes_the_pitch():
    bend = (960, mido.Message("pitchwheel", pitch=8191))
    octave = [control(0, 101, 0), control(0, 100, 0), control(0, 6, 12)]  # the range: 12 semitones
    audio = heard(program(ORGAN), octave, note(0, 1920, 69), bend)

    def pitch(start, end):
        part = audio.sum(axis=0)[round(start * RATE) : round(end * RATE)]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**18))
        return np.argmax(spectrum) * RATE / 2**18

    assert pitch(1.1, 1.9) / pitch(0.1, 0.9) == pytest.approx(2, rel=1e-2)


def test_a_part_sounds_the_same_whatever_was_played_before():
    found = read_song(song(1))
    once = [play(part, find_soundfont(FONT), 3, RATE) for part in found.parts]
    again = [play(part, find_soundfont(FONT), 3, RATE) for part in reversed(found.parts)][::-1]
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_folds_back_at_the_render_rate_lies_above_the_wanted_band():
    for sample_rate in (8000, 16_000, 22_050, 44_100):
        rate = render_rate(sample_rate)
        assert rate - min(20_000, 44_100 / 2) >= sample_rate / 2 or rate == 44_100


def test_a_compressed_soundfont_plays_as_the_plain_one(tmp_path):
    (part,) = read_song(midi([program(0), *note(0, 1920, KEY)])).parts
    fonts = [find_soundfont(write_soundfont(tmp_path / f"sine.{suffix}")) for suffix in ("sf2", "sf3")]
    plain, compressed = (play(part, font, 2, RATE).astype(np.float64) for font in fonts)
    spectrum = np.abs(np.fft.rfft(plain[0, : 2 * RATE] * np.hanning(2 * RATE)))
    assert np.argmax(spectrum) / 2 == FREQUENCY
    assert level(compressed - plain, 0, 2) < level(plain, 0, 2) - 30  # what Vorbis leaves out


def test_soundfonts_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match="no such SoundFont"):
        find_soundfont(tmp_path / "missing.sf2")
    (tmp_path / "text.sf2").write_text("text")
    with pytest.raises(UserError, match="not a SoundFont"):
        find_soundfont(tmp_path / "text.sf2")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"Bass": ["32-39"], "Guitar": ["39"]}, "39 belongs to both"),
        ({"Bass": ["bass"]}, "'bass' is not a General MIDI"),
    ],
)
def test_classes_that_make_no_sense_are_named(classes, said):
    with pytest.raises(UserError, match=said):
        config(classes=classes).programs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten songs, a copy in another key, a copy as it is, and five files that cannot be used."""
    root = tmp_path_factory.mktemp("songs")
    for seed in range(10):
        (root / f"song{seed}.mid").write_bytes(song(seed))
    (root / "song3_higher.mid").write_bytes(song(3, transpose=2))
    (root / "song4_again.mid").write_bytes(song(4))
    (root / "broken.mid").write_bytes(song(1)[:100])
    (root / "empty.mid").write_bytes(b"")
    (root / "endless.mid").write_bytes(midi(note(0, 2**27, 60)))
    (root / "drumless.mid").write_bytes(song(20, classes=["Bass", "Piano"]))
    (root / "strings.mid").write_bytes(midi([program(48), *note(0, 480, 60)]))
    return root


@pytest.fixture(scope="module")
def listed(folder):
    return list_songs([folder], config(required=["Drums"], split_shares=SHARES), seed=1)


SHARES = {"train": 0.4, "validation": 0.3, "test": 0.3}


def test_songs_that_cannot_be_used_are_named_with_the_reason(listed):
    skipped = {Path(row.path).name: row.skipped for row in listed.itertuples() if row.skipped}
    assert skipped == {
        "broken.mid": "malformed MIDI file (EOFError)",
        "empty.mid": "empty file",
        "endless.mid": "longer than 1200 s",
        "drumless.mid": "has no Drums",
        "strings.mid": "has no instrument of any class",
        "song4_again.mid": "has the same notes as song4.mid",
    }


def test_splits_are_by_song_and_do_not_depend_on_the_file_names(folder, listed, tmp_path):
    usable = listed[listed["skipped"] == ""]
    counted = usable.drop_duplicates("group").groupby("split").size()
    assert counted.to_dict() == {"train": 4, "validation": 3, "test": 3}
    by_name = {Path(row.path).name: row.split for row in usable.itertuples()}
    assert by_name["song3.mid"] == by_name["song3_higher.mid"]
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        (tmp_path / f"{number:02d}.mid").write_bytes(path.read_bytes())
    renamed = list_songs([tmp_path], config(required=["Drums"], split_shares=SHARES), seed=1, workers=2)
    assert dict(zip(renamed["digest"], renamed["split"], strict=True)) == dict(
        zip(listed["digest"], listed["split"], strict=True)
    )


def test_folders_of_splits_keep_them(folder, tmp_path):
    for name, split in (("song0.mid", "train"), ("song1.mid", "test"), ("song2.mid", "test")):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / name).write_bytes((folder / name).read_bytes())
    found = list_songs([tmp_path], config(), seed=1)
    assert [(Path(row.path).name, row.split) for row in found.itertuples()] == [
        ("song0.mid", "train"),
        ("song1.mid", "test"),
        ("song2.mid", "test"),
    ]


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_tracks_that_cannot_be_rendered_are_counted_each_by_itself(folder, tmp_path, monkeypatch, caplog):
    """Two songs of one name in different folders, each in two versions: four tracks, none of which hides another."""
    for number in range(2):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "song.mid").write_bytes((folder / f"song{number}.mid").read_bytes())
    settings = config(split_shares={"test": 1}, versions={"test": 2}, time_limit=15.0)
    found = list_songs([tmp_path], settings, seed=1)
    monkeypatch.setattr("gmsdi.data.midi_dataset._apart", lambda jobs, *_: [Unplayable("is slow")] * len(jobs))
    with pytest.raises(UserError, match=r"none of the 4 tracks of test can be rendered.*song\.mid: is slow"):
        render_split(found, "test", tmp_path / "none", settings, seed=3)
    assert not (tmp_path / "none").exists()

    def but_the_second(jobs, *_):
        for position, (work, arguments) in enumerate(jobs):
            yield work(*arguments) if position == 1 else Unplayable("is slow")

    monkeypatch.setattr("gmsdi.data.midi_dataset._apart", but_the_second)
    render_split(found, "test", tmp_path / "one", settings, seed=3)
    left_out = json.loads((tmp_path / "one" / "skipped.json").read_text())
    assert list(left_out) == ["Track00001", "Track00003", "Track00004"]
    assert sorted({entry["path"] for entry in left_out.values()}) == sorted(found["path"])
    assert [entry["version"] for entry in left_out.values()] == [0, 1, 1]
    assert [path.name for path in (tmp_path / "one" / "test").iterdir()] == ["Track00002"]
    assert "1 of 4 tracks of test are rendered" in caplog.text


def test_tracks_are_the_same_bytes_in_any_number_of_processes(listed, tmp_path):
    variety = Variety(swap=0.5, transpose=3, tempo=(0.9, 1.1), level_db=6, sections=(2, 4))
    settings = config(variety=variety, versions={"train": 2}, channels=2)
    for name, workers in (("one", 1), ("two", 2)):
        render_split(listed, "train", tmp_path / name, settings, seed=3, workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    tracks = sorted((tmp_path / "one" / "train").iterdir())
    assert len(tracks) == 2 * len(listed[(listed["split"] == "train") & (listed["skipped"] == "")])
    mixes = {(track / "mix.flac").read_bytes() for track in tracks}
    assert len(mixes) == len(tracks)  # versions differ
    with pytest.raises(UserError, match="already exists"):
        render_split(listed, "train", tmp_path / "one", settings, seed=3)


def test_an_interrupted_run_goes_on_with_the_tracks_that_are_missing(listed, tmp_path):
    def stop(done, _):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_split(listed, "test", tmp_path / "one", config(), seed=3, progress=stop)
    assert not (tmp_path / "one").exists()
    kept = [path for path in tmp_path.rglob("mix.flac") if not path.parent.name.startswith(".")]  # whole tracks
    assert kept
    seen = []
    render_split(listed, "test", tmp_path / "one", config(), seed=3, progress=lambda done, total: seen.append(done))
    assert seen[0] == len(kept)
    render_split(listed, "test", tmp_path / "two", config(), seed=3)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    # Tracks of other settings are not mixed in.
    with pytest.raises(KeyboardInterrupt):
        render_split(listed, "test", tmp_path / "three", config(), seed=3, progress=stop)
    render_split(listed, "test", tmp_path / "three", config(), seed=4)
    render_split(listed, "test", tmp_path / "four", config(), seed=4)
    assert files(tmp_path / "three") == files(tmp_path / "four")


def test_a_mix_is_the_sum_of_its_stems_at_the_level_that_is_asked_for(listed, tmp_path):
    root = tmp_path / "tracks"
    render_split(listed, "test", root, config(rms_db=-25.0), seed=3)
    for track in sorted((root / "test").iterdir()):
        mix, rate = soundfile.read(track / "mix.flac", dtype="int16")
        assert rate == 8000
        stems = [soundfile.read(file, dtype="int16")[0].astype(int) for file in sorted((track / "stems").iterdir())]
        np.testing.assert_array_equal(mix, np.sum(stems, axis=0))
        frames = (mix[: len(mix) // 400 * 400].reshape(-1, 400) / 32768) ** 2
        power = frames.mean(axis=1)
        assert 10 * np.log10(power[power > 1e-4 * power.max()].mean()) == pytest.approx(-25, abs=0.2)
        metadata = yaml.safe_load((track / "metadata.yaml").read_text())
        assert {stem["inst_class"] for stem in metadata["stems"].values()} == {"Bass", "Drums", "Piano"}
    out = tmp_path / "windows"
    build_windows(
        root, "test", out, sample_rate=8000, window=16384, classes={name: [name] for name in CLASSES}, stems=True
    )
    windows = WindowSet(out)
    assert set(windows.table["active"]) == {"Bass, Drums, Piano"}
    assert np.abs(windows.stems(range(len(windows)))).max(axis=(0, 2, 3)).min() > 0.01


def test_in_sections_some_classes_rest():
    found = read_song(song(1, bars=32))
    settings = config(variety=Variety(sections=(4, 6), section_sizes={1: 0.5, 3: 0.5}))
    counts = []
    for seed in range(20):
        parts = vary(found, settings, np.random.default_rng(seed), varied=True)
        for second in np.arange(2.0, 60.0, 1.0):
            playing = {
                label
                for label, part, _, _ in parts
                if ((part.notes[:, 0] <= second) & (part.notes[:, 1] > second)).any()
            }
            counts.append(len(playing))
    # The piano and the bass sound most of the time when they play, the drums' notes are short.
    assert 0.3 < np.mean(np.array(counts) <= 1) < 0.75
    assert np.mean(np.array(counts) >= 2) > 0.2


def test_without_variety_a_song_is_played_as_it_is():
    found = read_song(song(2))
    parts = vary(found, config(), np.random.default_rng(0), varied=False)
    for (label, part, font, gain), original in zip(parts, found.parts, strict=True):
        assert (label, font, gain) == (config().label_of(original), FONT, 1.0)
        np.testing.assert_allclose(part.notes - original.notes, np.tile([0.25, 0.25, 0, 0], (len(part.notes), 1)))


def test_programs_are_swapped_within_their_class_and_keys_stay_in_range():
    found = read_song(midi([program(33), *note(0, 480, 126)], [program(0, channel=1), *note(0, 480, 1, channel=1)]))
    settings = config(variety=Variety(swap=1.0, transpose=12))
    drawn = [vary(found, settings, np.random.default_rng(seed), varied=True) for seed in range(60)]
    assert {parts[0][1].program for parts in drawn} == set(range(32, 40))
    assert {parts[1][1].program for parts in drawn} == set(range(8))
    pitches = np.concatenate([part.notes[:, 2] for parts in drawn for _, part, _, _ in parts])
    assert pitches.min() >= 0
    assert pitches.max() <= 127


def test_songs_that_hang_or_end_their_process_are_named_and_the_others_go_on():
    jobs = [(time.sleep, (600,)), (abs, (-1,)), (os._exit, (3,)), *((abs, (-number,)) for number in range(2, 20))]
    slept, one, ended, *others = _apart(jobs, config(time_limit=15.0), 2)
    assert (one, others) == (1, list(range(2, 20)))
    assert str(slept) == "took longer than 15 s"
    assert str(ended) == "crashed the process that played it"


def test_skipped_songs_are_told_and_a_split_without_songs_is_refused(listed, tmp_path):
    render_split(listed, "test", tmp_path / "one", config(), seed=1, first=1)
    assert json.loads((tmp_path / "one" / "skipped.json").read_text()) == {}
    assert len(list((tmp_path / "one" / "test").iterdir())) == 1
    with pytest.raises(UserError, match="the split train has no songs"):
        render_split(listed[listed["split"] == "test"], "train", tmp_path / "none", config(), seed=1)
