"""The composed dataset: determinism, layout, exact sums, labels that match the sound, splits that share nothing."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from gmsdi.data.instruments import BAR, BARS
from gmsdi.data.mini import SPLITS, MiniConfig, compose_dataset, compose_track, default_soundfont
from gmsdi.data.settings import INSTRUMENTS
from gmsdi.data.slakh import list_tracks, read_track
from gmsdi.data.soundfont import SoundFont
from gmsdi.errors import UserError

CLASSES = {name: [name] for name in INSTRUMENTS}
SMALL = MiniConfig(tracks={"train": 3, "validation": 1, "test": 1}, sections=(3, 4))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "mini"
    compose_dataset(root, SMALL, seed=3)
    return root


def _digests(root: Path) -> dict[str, str]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _pcm(file: Path) -> np.ndarray:
    return soundfile.read(file, dtype="int16")[0]


def test_same_seed_same_bytes_in_parallel_and_after_an_interruption(dataset, tmp_path):
    calls = []
    compose_dataset(
        tmp_path / "mini", SMALL, seed=3, workers=2, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(k, 5) for k in range(6)]
    assert _digests(tmp_path / "mini") == _digests(dataset)

    lost = tmp_path / "mini" / "train" / "Track00002"
    lost.rename(tmp_path / "aside")
    kept = (tmp_path / "mini" / "train" / "Track00001" / "mix.flac").stat().st_mtime_ns
    compose_dataset(tmp_path / "mini", SMALL, seed=3)
    assert _digests(lost) == _digests(tmp_path / "aside")
    assert (tmp_path / "mini" / "train" / "Track00001" / "mix.flac").stat().st_mtime_ns == kept


def test_layout_is_that_of_slakh(dataset):
    track = dataset / "validation" / "Track00004"
    assert {str(file.relative_to(track)) for file in track.rglob("*") if file.is_file()} == {
        "metadata.yaml", "all_src.mid", "mix.flac",
        *(f"stems/S0{k}.flac" for k in range(4)), *(f"MIDI/S0{k}.mid" for k in range(4)),
    }  # fmt: skip
    metadata = yaml.safe_load((track / "metadata.yaml").read_text())
    assert {"overall_gain", "target_peak", "normalized"} <= set(metadata)
    assert [stem["inst_class"] for stem in metadata["stems"].values()] == list(INSTRUMENTS)
    for stem in metadata["stems"].values():
        assert {"is_drum", "midi_program_name", "program_num", "plugin_name", "audio_rendered"} <= set(stem)
        assert (stem["program_num"] == 128) == stem["is_drum"] == (stem["inst_class"] == "Drums")


@pytest.mark.parametrize("split", SPLITS)
def test_mix_is_the_exact_sum_of_the_stems_and_never_clips(dataset, split):
    for track in list_tracks(dataset, split):
        mix = _pcm(track / "mix.flac").astype(int)
        np.testing.assert_array_equal(mix, sum(_pcm(track / "stems" / f"S0{k}.flac").astype(int) for k in range(4)))
        assert np.abs(mix).max() <= 32768 * 10 ** (SMALL.target_peak / 20) + 4
        assert 0.03 < mix.std() / 32768 < 0.2


def test_stems_of_a_track_are_equally_loud(dataset):
    import pyloudnorm

    meter = pyloudnorm.Meter(SMALL.sample_rate)
    for track in list_tracks(dataset, "train"):
        metadata = yaml.safe_load((track / "metadata.yaml").read_text())
        expected = SMALL.loudness + 20 * np.log10(metadata["overall_gain"])
        for k in range(4):
            loudness = meter.integrated_loudness(_pcm(track / "stems" / f"S0{k}.flac") / 32768)
            assert loudness == pytest.approx(expected, abs=0.1)


def test_an_instrument_sounds_where_its_label_is_active_and_nowhere_else(dataset):
    step = 0.5  # seconds
    heard = total = 0
    for split in SPLITS:
        for path in list_tracks(dataset, split):
            track = read_track(path, CLASSES)
            for label, spans in track.activity.items():
                audio = _pcm(track.stems[label][0]) / 32768
                time = np.arange(len(audio)) / track.sample_rate
                silent = np.ones(len(audio), bool)
                for onset, offset in spans:
                    silent &= (time < onset - 0.001) | (time > offset + 0.26)  # a release of at most 0.25 s
                    edges = np.arange(onset, offset - step, step)
                    for begin in edges:
                        part = audio[int(begin * track.sample_rate) : int((begin + step) * track.sample_rate)]
                        heard += np.sqrt(np.mean(part**2)) > 1e-3
                        total += 1
                assert not audio[silent].any()
    assert total > 300
    assert heard / total > 0.97


def test_splits_and_seeds_share_no_piece():
    pieces = [
        compose_track(MiniConfig(), seed=seed, split=split, index=index)
        for seed in (0, 1)
        for split in SPLITS
        for index in range(15)
    ]
    for name in INSTRUMENTS:
        assert len({tuple(piece.notes[name]) for piece in pieces}) == len(pieces)


def test_pieces_are_sections_in_which_instruments_enter_and_leave():
    sizes = np.zeros(5)
    for index in range(80):
        piece = compose_track(MiniConfig(), seed=1, split="train", index=index)
        assert 6 <= len(piece.sections) <= 8
        assert 90 <= piece.tempo <= 140
        assert INSTRUMENTS in piece.sections
        length = BARS * BAR
        for name, notes in piece.notes.items():
            sounding = {note.start // length for note in notes}
            assert sounding == {k for k, active in enumerate(piece.sections) if name in active}
            assert all(note.end <= (note.start // length + 1) * length for note in notes)  # ends with its section
            last: dict[int, int] = {}
            for note in notes:  # a key is never struck while it is held
                assert last.get(note.pitch, 0) <= note.start < note.end
                last[note.pitch] = note.end
        sizes += np.bincount([len(active) for active in piece.sections], minlength=5)
    share = sizes / sizes.sum()
    assert share[1:4] == pytest.approx([0.35, 0.15, 0.2], abs=0.06)  # less what the compulsory section of four takes


def test_instruments_share_the_key_and_keep_their_registers():
    modes = {"major": [0, 2, 4, 5, 7, 9, 11], "minor": [0, 2, 3, 5, 7, 8, 10]}
    names = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
    registers = {"Bass": (24, 55), "Guitar": (34, 84), "Piano": (40, 86)}
    for index in range(30):
        piece = compose_track(MiniConfig(), seed=2, split="test", index=index)
        tonic, mode = piece.key.split()
        scale = {(names.index(tonic) + degree) % 12 for degree in modes[mode]}
        for name, (low, high) in registers.items():
            pitches = [note.pitch for note in piece.notes[name]]
            assert low <= min(pitches)
            assert max(pitches) <= high
            # Walking basses approach from outside the key, power chords may add a foreign fifth.
            assert np.mean([pitch % 12 in scale for pitch in pitches]) > 0.85


@pytest.mark.parametrize("program", [32, 33, 38, 25, 27, 29, 0, 3, 4])
@pytest.mark.parametrize("high", [False, True])
def test_tones_are_in_tune(program, high):
    """Energy lies on the first eight harmonics of the key's frequency and not between keys."""
    rate, seconds = 16000, 2.0
    key = (31 if 32 <= program < 40 else 52) + 12 * high
    audio = SoundFont(default_soundfont()).tone(0, program, key, seconds, rate).audio
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    frequency = np.arange(len(spectrum)) / seconds

    def on_harmonics(semitones: float) -> float:
        f0 = 440 * 2 ** ((key + semitones - 69) / 12)
        harmonic = np.round(frequency / f0)
        low = (harmonic >= 1) & (harmonic <= 8)
        near = np.abs(frequency / (np.maximum(harmonic, 1) * f0) - 1) < 0.012
        return spectrum[low & near].sum() / spectrum[low].sum()

    assert on_harmonics(0) > 0.75
    assert on_harmonics(0) > 2 * max(on_harmonics(-0.5), on_harmonics(0.5))


def test_tones_do_not_depend_on_the_rate_below_its_nyquist_frequency():
    font = SoundFont(default_soundfont())
    low, high = (font.tone(0, 1, 57, 1.0, rate).audio for rate in (8000, 32000))
    low, high = (np.fft.rfft(x)[:3000] / len(x) for x in (low, high))
    assert np.linalg.norm(low - high) < 0.02 * np.linalg.norm(high)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MiniConfig(tracks={"train": 1, "dev": 1}), "unknown split 'dev'"),
        (MiniConfig(tracks={"train": 1}, programs={"Bass": [33], "Guitar": [25]}), "no program given for Piano"),
        (MiniConfig(tracks={"train": 1}, kits=[99]), "no preset 99 in bank 128"),
        (MiniConfig(tracks={"train": 1}, sections=(8, 6)), "sections"),
        (MiniConfig(tracks={"train": 1}, section_sizes={5: 1.0}), "section_sizes"),
        (MiniConfig(tracks={"train": 1}, soundfont="missing.sf2"), "missing.sf2"),
    ],
)
def test_wrong_settings_end_in_one_clear_line(tmp_path, config, message):
    with pytest.raises(UserError, match=message) as error:
        compose_dataset(tmp_path / "mini", config, seed=0)
    assert "\n" not in str(error.value)


def test_a_folder_of_other_settings_is_not_touched(dataset):
    before = _digests(dataset)
    with pytest.raises(UserError, match="other settings"):
        compose_dataset(dataset, SMALL, seed=4)
    assert _digests(dataset) == before
