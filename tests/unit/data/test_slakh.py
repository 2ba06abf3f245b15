"""The reader of the Slakh layout, on small folders written here."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import symusic
import yaml

from gmsdi.data.slakh import GAP, list_tracks, merge_spans, read_track
from gmsdi.data.versions import VERSIONS, numbers_of
from gmsdi.errors import UserError

CLASSES = {"Bass": ["Bass"], "Drums": ["Drums"], "Guitar": ["Guitar"], "Keys": ["Piano", "Organ"]}
RATE, FRAMES = 16000, 40000


def write_midi(path: Path, notes: list[tuple[int, int]], tempi: tuple[tuple[int, float], ...] = ((0, 120.0),)) -> None:
    score = symusic.Score(480)
    score.tempos.extend([symusic.Tempo(tick, qpm) for tick, qpm in tempi])
    track = symusic.Track("stem", 0, False)
    track.notes.extend([symusic.Note(start, length, 60, 90) for start, length in notes])
    score.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.dump_midi(path)


def write_track(path: Path, stems: dict[str, str], *, suffix: str = "flac") -> Path:
    """A track with noise in every stem; `stems` maps Sxx to its class."""
    (path / "stems").mkdir(parents=True)
    rng = np.random.default_rng(len(stems))
    audio = {stem: rng.integers(-3000, 3000, FRAMES).astype(np.int16) for stem in stems}
    for stem, samples in audio.items():
        soundfile.write(path / "stems" / f"{stem}.{suffix}", samples, RATE, subtype="PCM_16")
        write_midi(path / "MIDI" / f"{stem}.mid", [(0, 480), (960, 480)])
    soundfile.write(path / f"mix.{suffix}", sum(audio.values()), RATE, subtype="PCM_16")
    entries = {stem: {"inst_class": name, "audio_rendered": True} for stem, name in stems.items()}
    (path / "metadata.yaml").write_text(yaml.safe_dump({"stems": entries, "overall_gain": 0.5}))
    return path


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_stems_are_grouped_by_class_and_listed_stems_without_audio_skipped(tmp_path, suffix):
    stems = {"S00": "Piano", "S01": "Bass", "S02": "Strings (continued)", "S03": "Organ", "S04": "Guitar"}
    path = write_track(tmp_path / "Track00001", stems, suffix=suffix)
    (path / "stems" / f"S04.{suffix}").unlink()
    track = read_track(path, CLASSES)
    assert (track.sample_rate, track.frames, track.mix.name) == (RATE, FRAMES, f"mix.{suffix}")
    assert {label: [file.stem for file in files] for label, files in track.stems.items()} == {
        "Bass": ["S01"],
        "Keys": ["S00", "S03"],
    }
    assert list(track.activity) == list(track.stems)


def test_lengths_that_differ_a_little_are_cut_to_what_all_files_have(tmp_path):
    path = write_track(tmp_path / "Track00001", {"S00": "Piano", "S01": "Bass", "S02": "Guitar"})
    _rewrite(path / "stems" / "S00.flac", FRAMES - 1600, RATE)
    _rewrite(path / "stems" / "S01.flac", FRAMES + 1600, RATE)
    assert read_track(path, CLASSES).frames == FRAMES - 1600


def test_activity_joins_the_notes_of_all_stems_of_a_class(tmp_path):
    path = write_track(tmp_path / "Track00001", {"S00": "Piano", "S01": "Organ"})
    # 120 beats a minute, 480 ticks a beat: 960 ticks are a second.
    write_midi(path / "MIDI" / "S00.mid", [(0, 480), (1440, 240), (9600, 96)])
    write_midi(path / "MIDI" / "S01.mid", [(1200, 1920), (4800, 960)])
    expected = [[0, 3.25], [5, 6], [10, 10.1]]  # the rests of 0.75 s are bridged, those of 1.75 s and 4 s are not
    np.testing.assert_allclose(read_track(path, CLASSES).activity["Keys"], expected, atol=1e-6)


def test_times_follow_tempo_changes_as_pretty_midi_reads_them(tmp_path):
    import pretty_midi

    path = write_track(tmp_path / "Track00001", {"S00": "Bass"})
    rng = np.random.default_rng(0)
    notes = [(1000 * k, int(rng.integers(30, 900))) for k in range(40)]
    file = path / "MIDI" / "S00.mid"
    write_midi(file, notes, ((0, 90.0), (5000, 140.0), (20000, 60.0)))
    reference = np.array([(n.start, n.end) for n in pretty_midi.PrettyMIDI(str(file)).instruments[0].notes])
    expected = merge_spans(reference, GAP)
    assert len(expected) > 5
    np.testing.assert_allclose(read_track(path, CLASSES).activity["Bass"], expected, atol=2e-3)


def test_merged_spans_cover_what_a_fine_grid_covers():
    rng = np.random.default_rng(1)
    for _ in range(20):
        onsets = rng.integers(0, 400, 12)
        spans = np.stack([onsets, onsets + rng.integers(1, 30, 12)], axis=1).astype(float)
        covered = np.zeros(450, bool)
        for onset, offset in spans.astype(int):
            covered[onset:offset] = True
        gap = 10
        edges = np.flatnonzero(np.diff(np.concatenate([[0], covered, [0]]))).reshape(-1, 2)
        expected = [edges[0].tolist()]
        for onset, offset in edges[1:].tolist():
            if onset - expected[-1][1] < gap:
                expected[-1][1] = offset
            else:
                expected.append([onset, offset])
        assert merge_spans(spans, gap).tolist() == expected
    assert merge_spans(np.zeros((0, 2)), 1.0).shape == (0, 2)


def _rewrite(file: Path, frames: int, rate: int) -> None:
    soundfile.write(file, np.zeros(frames, np.int16), rate)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: (t / "metadata.yaml").unlink(), r"metadata\.yaml: cannot be read"),
        (lambda t: (t / "metadata.yaml").write_text("stems: [1, 2"), r"metadata\.yaml: malformed"),
        (lambda t: (t / "metadata.yaml").write_text("tempo: 3"), r"metadata\.yaml: malformed"),
        (lambda t: (t / "metadata.yaml").write_text("stems: {S00: {inst_class: Reed}}"), "has no stem of the classes"),
        (lambda t: (t / "stems/S00.flac").unlink(), "has no stem of the classes Bass"),
        (lambda t: (t / "mix.flac").unlink(), r"has no mix\.flac"),
        (lambda t: _rewrite(t / "stems/S00.flac", 38399, RATE), r"S00\.flac: has 38399 samples, but its mix has 40000"),
        (lambda t: _rewrite(t / "stems/S00.flac", FRAMES, 8000), r"S00\.flac: has a sample rate of 8000 Hz, but"),
        (lambda t: (t / "stems/S00.flac").write_bytes(b"not audio"), r"S00\.flac: not a readable audio file"),
        (lambda t: (t / "MIDI/S00.mid").write_bytes(b"MThd\0\0\0"), r"S00\.mid: malformed MIDI"),
        (lambda t: (t / "MIDI/S00.mid").unlink(), r"S00\.mid: no such file"),
    ],
)  # fmt: skip
def test_defects_end_in_one_clear_line(tmp_path, spoil, message):
    track = write_track(tmp_path / "Track00001", {"S00": "Bass"})
    spoil(track)
    with pytest.raises(UserError, match=message) as error:
        read_track(track, CLASSES)
    assert "\n" not in str(error.value)
    assert "Track00001" in str(error.value)


def test_tracks_are_listed_in_order_and_unfinished_ones_left_out(tmp_path):
    for name in ("Track00010", "Track00002", ".Track00003.17.partial"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "test").mkdir()
    assert [path.name for path in list_tracks(tmp_path, "train")] == ["Track00002", "Track00010"]
    with pytest.raises(UserError, match="validation: no such folder"):
        list_tracks(tmp_path, "validation")
    with pytest.raises(UserError, match="test: holds no Track"):
        list_tracks(tmp_path, "test")


SPREAD = {"train": [1, 3, 1499], "validation": [1501, 1700], "test": [1876, 2100], "omitted": [2, 1500, 1875, 1877]}


def test_redux_goes_by_folder_and_the_original_split_by_number(tmp_path):
    """The original's tracks are those of redux and the omitted ones, and every track has one split."""
    root = tmp_path / "slakh2100_flac_redux"
    for folder, numbers in SPREAD.items():
        for number in numbers:
            (root / folder / f"Track{number:05d}").mkdir(parents=True)

    def numbers(split, above=tmp_path, **options):
        return [int(path.name[5:]) for path in list_tracks(above, split, **options)]

    for split in VERSIONS["slakh2100"].numbers:
        assert numbers(split) == numbers(split, root) == SPREAD[split]
    original = {split: numbers(split, version="slakh2100") for split in VERSIONS["slakh2100"].numbers}
    assert original == {
        "train": [1, 2, 3, 1499, 1500],
        "validation": [1501, 1700, 1875],
        "test": [1876, 1877, 2100],
    }
    assert numbers("test", first=2) == [1876]
    assert numbers("test", version="slakh2100", first=2) == [1876, 1877]
    (root / "train" / "Track00002").mkdir()
    with pytest.raises(UserError, match=r"the same track as .*; remove one"):
        numbers("train", version="slakh2100")


def test_versions_have_the_published_numbers_of_tracks():
    assert [len(numbers_of("slakh2100", split)) for split in VERSIONS["slakh2100"].numbers] == [1500, 375, 225]
    assert sum(VERSIONS["slakh2100_redux"].tracks.values()) == 1710
    for version in VERSIONS.values():
        every = [number for numbers in version.numbers.values() for number in numbers]
        assert every == list(range(1, len(every) + 1))


def test_babyslakh_has_its_tracks_at_the_top(tmp_path):
    for number in range(1, 21):
        (tmp_path / "babyslakh_16k" / f"Track{number:05d}").mkdir(parents=True)
    found = [list_tracks(tmp_path, split, version="babyslakh") for split in ("train", "validation", "test")]
    assert [len(paths) for paths in found] == [16, 2, 2]
