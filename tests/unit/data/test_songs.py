"""Songs as MIDI: determinism, ranges, charts against an own parser, chords and bars against what MMA makes of them."""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import pytest

from gmsdi.data.notes import Note
from gmsdi.data.songs import (
    KINDS,
    SPLITS,
    ArrangedSettings,
    DrawnSettings,
    arranged,
    charts,
    drumming,
    make_song,
    mma,
    write_songs,
)
from gmsdi.data.songs.drawn import METERS, draw, realise, swung
from gmsdi.data.songs.harmony import NOTE_NAMES, PROGRESSIONS, QUALITIES, SCALES, harmony, parse, positions, progression
from gmsdi.data.songs.playing import REGISTERS, STYLES
from gmsdi.data.songs.score import Part, Song, once_each, write
from gmsdi.errors import UserError

CLASS_PROGRAMS = {"Bass": range(32, 40), "Guitar": range(24, 32), "Piano": range(8)}
needs_mma = pytest.mark.skipif(
    shutil.which("mma") is None and os.environ.get("GMSDI_MMA") != "required", reason="MMA is not installed"
)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _read(path: Path) -> list[dict]:
    """The tracks of a file, by mido: channel, program, notes (start, end, key, velocity), other events."""
    file = mido.MidiFile(path)
    assert file.type == 1
    tracks = []
    for track in file.tracks:
        now, pressed, found = 0, {}, {"name": track.name, "program": None, "notes": [], "other": [], "channels": set()}
        for message in track:
            now += message.time
            if message.is_meta:
                continue
            found["channels"].add(message.channel)
            if message.type == "program_change":
                found["program"] = message.program
            elif message.type == "note_on" and message.velocity:
                assert message.note not in pressed, "a key is pressed twice"
                pressed[message.note] = (now, message.velocity)
            elif message.type in ("note_on", "note_off"):
                start, velocity = pressed.pop(message.note)
                found["notes"].append((start, now, message.note, velocity))
            else:
                found["other"].append((now, message))
        assert not pressed
        tracks.append(found)
    return tracks


def _seconds(path: Path) -> float:
    return mido.MidiFile(path).length


# --- Folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["composed", "drawn"])
def test_same_seed_same_bytes_in_parallel_and_after_an_interruption(kind, tmp_path):
    for split in SPLITS:
        write_songs(tmp_path / "a", kind, split, 6, seed=3)
    for split in SPLITS:
        write_songs(tmp_path / "b", kind, split, 3, seed=3)
        (tmp_path / "b" / split / "00002.mid").unlink()
        calls = []
        done = write_songs(
            tmp_path / "b", kind, split, 6, seed=3, workers=2, progress=lambda *at, calls=calls: calls.append(at)
        )
        assert (done.written, done.kept) == (4, 2)
        assert calls == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    assert sorted(_digests(tmp_path / "a"))[1:3] == ["test/00001.mid", "test/00002.mid"]


def test_no_two_songs_of_any_split_kind_or_seed_are_equal():
    seen = Counter()
    for kind in ("composed", "drawn"):
        for seed in (0, 1):
            for split in SPLITS:
                for index in range(5):
                    song = make_song(kind, split, index, seed=seed)
                    notes = {(part.drums, n.start, n.pitch) for part in song.parts for n in part.notes}
                    seen[frozenset(notes)] += 1
    assert len(seen) == 2 * 2 * 3 * 5


def test_a_folder_of_other_songs_is_refused(tmp_path):
    write_songs(tmp_path, "drawn", "train", 1, seed=1)
    for kind, seed, settings in (
        ("drawn", 2, None),
        ("composed", 1, None),
        ("drawn", 1, DrawnSettings(seconds=(5, 6))),
    ):
        with pytest.raises(UserError, match="other settings"):
            write_songs(tmp_path, kind, "train", 1, seed=seed, settings=settings)
    (tmp_path / "songs.json").unlink()
    with pytest.raises(UserError, match="not written here"):
        write_songs(tmp_path, "drawn", "train", 1, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sung", "train", 1), "unknown kind 'sung'"),
        (("drawn", "dev", 1), "unknown split 'dev'"),
        (("drawn", "train", -1), "count is -1"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_songs(tmp_path / "songs", *arguments, seed=0)
    assert not (tmp_path / "songs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DrawnSettings(seconds=(60.0, 30.0)), "seconds"),
        (DrawnSettings(present=1.5), "present is 1.5"),
        (ArrangedSettings(), "not settings of drawn"),
    ],
)
def test_settings_that_make_no_sense(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_songs(tmp_path / "songs", "drawn", "train", 1, seed=0, settings=settings)


# --- What is in the files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["composed", "drawn"])
def test_files_hold_a_channel_a_part_programs_of_the_class_and_notes_in_range(kind, tmp_path):
    count, settings = (40, DrawnSettings(seconds=(10.0, 14.0))) if kind == "drawn" else (6, None)
    write_songs(tmp_path, kind, "train", count, seed=5, settings=settings)
    programs, keys, classes = {name: set() for name in CLASS_PROGRAMS}, set(), Counter()
    for path in sorted((tmp_path / "train").glob("*.mid")):
        tracks = _read(path)
        pitched = [channel for track in tracks for channel in track["channels"] if channel != 9]
        assert len(pitched) == len(set(pitched))
        for track in tracks:
            assert len(track["channels"]) == 1
            name = track["name"].split()[0]
            pitches = [key for _, _, key, _ in track["notes"]]
            assert pitches
            if name == "Drums":
                assert track["channels"] == {9}
                assert min(pitches) >= 27
                assert max(pitches) <= 87
                keys |= set(pitches)
            else:
                assert 9 not in track["channels"]
                assert track["program"] in CLASS_PROGRAMS[name]
                low, high = (24, 64) if name == "Bass" else (36, 90) if name == "Guitar" else (20, 104)
                assert low <= min(pitches) <= max(pitches) <= high
                programs[name].add(track["program"])
        classes[len({track["name"].split()[0] for track in tracks})] += 1
        if kind == "drawn":
            assert 6 <= _seconds(path) <= 20  # up to a bar more, silence at either end
    if kind == "drawn":
        assert all(len(programs[name]) == 8 for name in programs)
        assert len(keys) > 35
    assert classes[4] >= 0.5 * count


def test_controllers_pedal_and_bends_reach_the_file_and_bends_end_at_rest(tmp_path):
    write_songs(tmp_path, "drawn", "train", 40, seed=8, settings=DrawnSettings(seconds=(10.0, 14.0)))
    numbers, bent = Counter(), 0
    for path in sorted((tmp_path / "train").glob("*.mid")):
        for track in _read(path):
            controls = [m for _, m in track["other"] if m.type == "control_change"]
            numbers.update(m.control for m in controls)
            pedal = [m.value for m in controls if m.control == 64]
            assert pedal[::2] == [127] * (len(pedal) // 2)
            assert pedal[1::2] == [0] * (len(pedal) // 2)
            bends = [m.pitch for _, m in track["other"] if m.type == "pitchwheel"]
            bent += bool(bends)
            assert not bends or bends[-1] == 0
    assert set(numbers) == {7, 10, 11, 64}
    assert bent > 3


def test_all_percussion_keys_are_drawn_and_the_common_ones_most():
    rng = np.random.default_rng(0)
    keys = Counter()
    for _ in range(1500):
        kit = drumming.kit(rng)
        keys.update({kit.kick, kit.snare, kit.time, kit.crash, *kit.toms, *kit.extras} - {0})
    assert set(keys) == set(range(27, 88))
    common = {35, 36, 38, 40, 42, 49, 51}
    assert min(keys[key] for key in (36, 38, 42, 49)) > max(n for key, n in keys.items() if key in range(83, 88))
    assert sum(keys[key] for key in common) > 0.25 * keys.total()


def test_every_meter_and_every_style_plays_within_its_register():
    rng = np.random.default_rng(1)
    meters = Counter()
    for index in range(80):
        song = draw(np.random.default_rng(index), DrawnSettings(seconds=(6.0, 9.0)))
        meters[song.meter] += 1
        assert all(0 <= note.start < note.end and 8 <= note.velocity <= 127 for p in song.parts for note in p.notes)
    assert set(meters) == {(4, 4), (3, 4), (6, 8), (5, 4), (7, 8)}
    from gmsdi.data.songs.drawn import _form

    for meter in METERS:
        passage = _form(rng, meter, 4, 120.0)[0][0]
        for name, styles in STYLES.items():
            for style in styles:
                for _ in range(3):
                    notes = style(rng, passage, REGISTERS[name])
                    low, high = REGISTERS[name]
                    inside = [n for n in notes if low <= n.pitch <= high and n.start < passage.end]
                    assert len(inside) >= 0.9 * len(notes), (meter, style)


def test_a_key_is_released_before_it_is_pressed_again():
    rng = np.random.default_rng(2)
    notes = [
        Note(int(a), int(a + rng.integers(1, 400)), int(rng.integers(60, 64)), 80) for a in rng.integers(0, 2000, 200)
    ]
    kept = once_each(notes)
    pressed: dict[int, int] = {}
    for note in kept:
        assert note.start >= pressed.get(note.pitch, 0)
        assert note.end - note.start >= 10
        pressed[note.pitch] = note.end
    # The sound is that of the notes as given: at each tick at which one is held, one is heard, gaps of 10 ticks aside.
    wanted = {(n.pitch, t) for n in notes for t in range(n.start, n.end)}
    heard = {(n.pitch, t) for n in kept for t in range(n.start, n.end)}
    assert heard <= wanted


def test_swing_moves_the_middle_and_keeps_order_and_pairs():
    ticks = [swung(tick, (240, 2 / 3)) for tick in range(0, 961)]
    assert ticks == sorted(ticks)
    assert [ticks[at] for at in (0, 120, 240, 360, 480, 960)] == [0, 160, 240, 400, 480, 960]
    assert swung(77, None) == 77


def test_at_most_fifteen_parts_are_written_those_of_a_class_first(tmp_path):
    parts = [Part(f"p{k}", 48 + k, [Note(0, 100, 60, 80)]) for k in range(16)] + [
        Part("Bass", 33, [Note(0, 9, 40, 80)])
    ]
    write(Song([(0, 120.0)], (4, 4), parts), tmp_path / "song.mid")
    tracks = _read(tmp_path / "song.mid")
    assert [track["name"] for track in tracks] == ["Bass", *(f"p{k}" for k in range(14))]
    assert len({channel for track in tracks for channel in track["channels"]}) == 15


# --- Harmony ----------------------------------------------------------------------------------------------------------


def test_progressions_are_spelled_with_known_qualities_and_whole_phrases():
    for style, templates in PROGRESSIONS.items():
        assert len(set(templates)) == len(templates), style
        for text in templates:
            bars = parse(text)
            assert all(1 <= len(bar) <= 4 for bar in bars), text
            assert all(symbol.quality in QUALITIES and 0 <= symbol.root < 12 for bar in bars for symbol in bar), text
    for style in (*PROGRESSIONS, None):
        for seed in range(30):
            bars, mode = progression(np.random.default_rng(seed), style)
            assert mode in SCALES
            assert 2 <= len(bars) <= 16
            assert all(bars)


def test_a_line_keeps_off_the_tones_beside_the_chords():
    chord = harmony(0, "7b9", [0, 2, 4, 5, 7, 9, 11])  # C7b9 in C major: no D against its D flat, no B against B flat
    assert chord.name == "C7b9"
    assert set(chord.tones) == {0, 4, 7, 10, 1}
    assert set(chord.scale) == {0, 1, 4, 7, 10}
    assert harmony(5, "", [0, 2, 4, 5, 7, 9, 11], 9).name == "F/A"


@pytest.mark.parametrize("beats", [2, 3, 4, 5, 6])
def test_chords_stand_on_beats_of_their_own(beats):
    for count in range(1, 9):
        places = positions(count, beats)
        assert len(places) == min(count, beats)
        assert places[0] == 0
        assert max(places) < beats


# --- Charts and grooves -----------------------------------------------------------------------------------------------

LIBRARY = """// a library file
Begin Doc
  DefGroove NotThis in the words that describe it
End
SeqClear
DefGroove Four  The first, in MMA's usual metre.
DefGroove FourFill
Time 3
TimeSig 3 4
defgroove Waltz  A waltz.
DefGroove WaltzIntro  Its intro.
DefGroove WaltzEnd
  Time 6/8  // eighths
DefGroove Six  In six.
"""


@pytest.fixture
def small_library(tmp_path) -> Path:
    for k in range(12):
        (tmp_path / "lib/own").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"lib/own/style{'abcdefghijkl'[k]}.mma").write_text(LIBRARY)
    return tmp_path / "lib"


def test_grooves_are_read_with_their_metre_and_their_place_in_a_song():
    grooves = mma.read_grooves(LIBRARY, "own/a.mma")
    assert [(groove.name, groove.beats, groove.variant) for groove in grooves] == [
        ("Four", 4, "main"),
        ("FourFill", 4, "fill"),
        ("Waltz", 3, "main"),
        ("WaltzIntro", 3, "intro"),
        ("WaltzEnd", 3, "ending"),
        ("Six", 6, "main"),
    ]


def test_library_files_are_divided_by_style_near_the_shares():
    splits = Counter(mma.split_of(f"own/{k:x}style.mma") for k in range(2000))
    assert abs(splits["train"] / 2000 - 0.75) < 0.04
    assert abs(splits["test"] / 2000 - 0.15) < 0.03
    assert all(
        len({mma.split_of(f"{folder}/style{letter}{number}.mma") for folder in "xy" for number in ("", 1, 2)}) == 1
        for letter in "abcdefghijklmnopqrst"
    )


def test_charts_have_the_bars_and_beats_that_the_players_are_given(small_library):
    settings = ArrangedSettings()
    seen = set()
    for seed in range(80):
        chart = charts.compose_chart(np.random.default_rng(seed), mma.library(small_library), settings)
        spans = [span for passage in arranged.passages(chart) for span in passage.spans]
        starts = {span.start: span for span in spans}
        assert settings.bars[0] <= chart.bars <= settings.bars[1]
        assert spans[-1].end == chart.bars * chart.beats * 480
        expected = 1
        for line in chart.text.splitlines():
            words = line.split()
            if not words[0].isdigit():
                assert words[0] in ("RndSeed", "Tempo", "SwingMode", "Use", "Groove", "Volume", "AllTracks")
                continue
            assert int(words[0]) == expected
            beats = []
            for word in words[1:]:
                name, _, beat = word.partition("@")
                beats.append(int(beat or 1))
                assert starts.pop(((expected - 1) * chart.beats + beats[-1] - 1) * 480).harmony.name == name
            assert beats[0] == 1
            assert beats == sorted(set(beats))
            assert beats[-1] <= chart.beats
            expected += 1
        assert expected == chart.bars + 1
        assert not starts  # each chord of the players is in the text
        assert {groove.beats for groove in chart.grooves} == {chart.beats}
        seen.add(chart.beats)
    assert seen == {3, 4, 6}


def test_without_mma_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install mma") as error:
        write_songs(tmp_path / "songs", "arranged", "train", 1, seed=0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "songs").exists()


def _program(path: Path, body: str) -> Path:
    path.write_text(f'#!/bin/sh\nif [ "$1" = -v ]; then echo 21.09; exit 0; fi\n{body}\n')
    path.chmod(0o755)
    return path


def test_charts_that_mma_refuses_are_counted_and_a_program_that_hangs_is_ended(small_library, tmp_path, monkeypatch):
    refusing = _program(tmp_path / "refusing", "echo 'Error: no such groove'; exit 1")
    settings = ArrangedSettings(program=str(refusing), library=str(small_library))
    refused: list[str] = []
    with pytest.raises(UserError, match="refused 40 charts"):
        make_song("arranged", "train", 0, seed=0, settings=settings, refused=refused)
    assert len(refused) == 40
    assert all(text.endswith("Error: no such groove") and "own/style" in text for text in refused)

    monkeypatch.setattr(mma, "_TIME_LIMIT", 0.3)
    hanging = _program(tmp_path / "hanging", "while :; do :; done")
    with pytest.raises(mma.Refused, match="took more than"):
        mma.run_mma("", ArrangedSettings(program=str(hanging), library=str(small_library)))


# --- With MMA ---------------------------------------------------------------------------------------------------------


@needs_mma
def test_the_installed_library_is_divided_without_an_overlap():
    _, folder = mma.find_mma(ArrangedSettings())
    files = {split: {f for f in mma.library(folder) if mma.split_of(f) == split} for split in SPLITS}
    assert sum(len(found) for found in files.values()) == len(mma.library(folder))
    assert all(len(found) >= 20 for found in files.values())
    used = {split: set() for split in SPLITS}
    for split in SPLITS:
        for index in range(4):
            song = make_song("arranged", split, index, seed=1)
            used[split] |= {groove.split(":")[0] for groove in song.about.split(": ", 1)[1].split(", ")}
        assert used[split] <= files[split]


@needs_mma
def test_mma_makes_the_same_bytes_again(tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        for split in SPLITS:
            write_songs(tmp_path / name, "arranged", split, 3, seed=4, workers=workers)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    for path in sorted((tmp_path / "a").glob("*/*.mid")):
        tracks = _read(path)
        pitched = [channel for track in tracks for channel in track["channels"] if channel != 9]
        assert len(pitched) == len(set(pitched))
        assert all(27 <= key <= 87 for t in tracks if 9 in t["channels"] for _, _, key, _ in t["notes"])


@needs_mma
def test_mma_plays_each_quality_with_the_tones_that_our_players_take():
    qualities = sorted(QUALITIES)
    lines = ["Tempo 120", "Time 4", "SeqClear", "Begin Chord", " Voice Piano1", " Sequence {1 1 90}", "End"]
    chords = [harmony(5 * k % 12, quality, range(12)) for k, quality in enumerate(qualities)]
    lines += [f"{k + 1} {chord.name}" for k, chord in enumerate(chords)]
    parts = mma.run_mma("\n".join(lines) + "\n", ArrangedSettings())
    notes = [note for part in parts for note in part.notes]
    for k, chord in enumerate(chords):
        heard = {note.pitch % 12 for note in notes if abs(note.start - k * 1920) < 100}
        assert heard == set(chord.tones), chord.name


@needs_mma
@pytest.mark.parametrize(("time", "beats"), [("2", 2), ("3", 3), ("4", 4), ("5", 5), ("6", 6), ("6/8", 6)])
def test_mma_changes_chords_on_the_beats_on_which_our_players_do(time, beats, tmp_path):
    """A chart's bars, played by MMA on every beat: at each the chord is the one that the players have there."""
    (tmp_path / "lib/own").mkdir(parents=True)
    (tmp_path / "lib/own/any.mma").write_text(f"Time {time}\nDefGroove Any\n")
    changes = 0
    for seed in range(4):
        chart = charts.compose_chart(
            np.random.default_rng(seed), mma.library.__wrapped__(tmp_path / "lib"), ArrangedSettings()
        )
        every = "; ".join(f"{beat + 1} 8 90" for beat in range(beats))
        lines = [
            "Tempo 120",
            f"Time {time}",
            "SeqClear",
            "Begin Chord",
            " Voice Piano1",
            f" Sequence {{{every}}}",
            "End",
        ]
        lines += [line for line in chart.text.splitlines() if line.split()[0].isdigit()]
        parts = mma.run_mma("\n".join(lines) + "\n", ArrangedSettings())
        heard: dict[int, set[int]] = {}
        for note in (note for part in parts for note in part.notes):
            heard.setdefault(round(note.start / 480), set()).add(note.pitch % 12)
        assert set(heard) == set(range(chart.bars * beats))
        for passage in arranged.passages(chart):
            for beat in range(passage.start // 480, passage.end // 480):
                chord = passage.at(beat * 480)
                assert heard[beat] - {chord.bass} == set(chord.tones) - {chord.bass}, (seed, beat, chord.name)
            changes += sum(span.start % passage.meter.bar > 0 for span in passage.spans)
    assert changes > 4  # chords that begin within a bar


def test_realised_chords_of_one_symbol_are_one_object():
    bars = realise(parse("0:m7|5:7 0:m7"), 2, SCALES["dorian"])
    assert [[chord.name for chord in bar] for bar in bars] == [["Dm7"], ["G7", "Dm7"]]
    assert bars[0][0] is bars[1][1]
    assert NOTE_NAMES[bars[0][0].root] == "D"
    assert set(KINDS) == {"arranged", "composed", "drawn"}
