"""MIDI files: times against closed forms, hostile files, and songs told apart by their notes."""

import struct

import mido
import numpy as np
import pytest

from gmsdi.data.midi import (
    Limits,
    SongFile,
    Unplayable,
    digest_of,
    find_songs,
    group_songs,
    read_song,
    signature_of,
)
from gmsdi.errors import UserError
from tests.helpers.midi_files import control, midi, note, program, song, wad


def test_notes_have_their_times_under_changes_of_tempo():
    tempi = [(0, mido.MetaMessage("set_tempo", tempo=500_000)), (960, mido.MetaMessage("set_tempo", tempo=250_000))]
    parts = read_song(midi(tempi, [program(40), *note(480, 1440, 60), *note(1920, 2400, 62, velocity=7)])).parts
    # 480 ticks a beat: two beats of 0.5 s, then beats of 0.25 s.
    np.testing.assert_allclose(parts[0].notes, [[0.5, 1.25, 60, 90], [1.5, 1.75, 62, 7]])


def test_a_channel_keeps_its_controllers_over_a_change_of_program():
    events = [control(0, 7, 80), control(0, 0, 3), program(33), *note(0, 480, 40), program(25, tick=480)]
    events += [*note(480, 960, 60), (500, mido.Message("pitchwheel", pitch=-100))]
    bass, guitar = sorted(read_song(midi(events, kind=0)).parts, key=lambda part: -part.program)
    assert (bass.program, guitar.program) == (33, 25)
    assert bass.controls == guitar.controls == [(0.0, 7, 80)]  # the bank is not passed on: it would choose other sounds
    assert guitar.bends == [(pytest.approx(500 / 960), -100)]


def test_of_two_notes_on_one_key_the_first_ends_first_and_all_end_with_the_song():
    on = mido.Message("note_on", note=60, velocity=50)
    off = mido.Message("note_off", note=60)
    parts = read_song(midi([(0, on), (480, on), (960, off), (1440, on.copy(note=64)), (1920, on.copy(note=65))])).parts
    ends = {(onset, pitch): end for onset, end, pitch, _ in parts[0].notes.tolist()}
    assert ends[0.0, 60.0] == 1.0
    assert ends[0.5, 60.0] == ends[1.5, 64.0] == 2.0  # what never ends does so with the last event


def test_all_notes_off_ends_those_of_its_channel():
    events = [*note(0, 4800, 60), *note(0, 4800, 70, channel=1), control(480, 123, 0)]
    parts = {part.channel: part for part in read_song(midi(events)).parts}
    assert parts[0].notes[0, 1] == pytest.approx(0.5)
    assert parts[1].notes[0, 1] == pytest.approx(5.0)


ENDLESS = midi(note(0, 2**27, 60))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"junk", "not a MIDI file"),
        (song(0)[:200], "malformed"),
        (midi([program(3)]), "has no notes"),
        (midi(note(0, 10, 60), kind=2), "type 2"),
        (ENDLESS, "longer than 1200 s"),
        (song(0)[:12] + struct.pack(">h", -6360) + song(0)[14:], "SMPTE"),
        (b"MThd" + struct.pack(">IHHH", 6, 1, 65535, 480) + b"MTrk\xff\xff\xff\xff", "has no notes"),
        (song(0) + bytes(5_000_000), "larger than 4000000 bytes"),
    ],
)
def test_what_cannot_be_played_says_why(data, reason):
    with pytest.raises(Unplayable, match=reason):
        read_song(data)


def test_a_flood_of_notes_is_refused():
    with pytest.raises(Unplayable, match="more than 100 notes"):
        read_song(song(0, bars=40), Limits(notes=100))


def test_damaged_files_raise_nothing_else():
    rng, data = np.random.default_rng(5), song(1)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            damaged[place] = rng.integers(256)
        try:
            parts = read_song(bytes(damaged[: rng.integers(14, len(data) + 1)])).parts
        except Unplayable:
            continue
        notes = np.concatenate([part.notes for part in parts])
        assert np.isfinite(notes).all()
        assert (notes[:, 1] > notes[:, 0]).all()
        assert ((notes[:, 2:] >= 0) & (notes[:, 2:] <= 127)).all()


def test_songs_are_told_by_their_notes_whatever_their_key_and_tempo():
    songs = [read_song(song(seed)) for seed in range(12)]
    higher = read_song(song(3, transpose=5))
    longer = read_song(song(3, bars=12))  # the first two thirds are those of song 3
    groups = group_songs([signature_of(each) for each in [*songs, higher, longer]])
    assert groups == [*range(12), 3, 3]
    assert digest_of(read_song(song(3))) == digest_of(songs[3])
    assert len({digest_of(each) for each in [*songs, higher, longer]}) == 14


def test_the_same_notes_are_one_song_whatever_else_the_file_says():
    plain = midi([*note(0, 480, 60), *note(480, 960, 64)])
    dressed = midi(
        [(0, mido.MetaMessage("set_tempo", tempo=300_000)), (0, mido.MetaMessage("track_name", name="other"))],
        [program(30), control(0, 7, 50), *note(0, 960, 60, velocity=3), *note(960, 1920, 64)],
        ticks_per_beat=960,
    )
    assert digest_of(read_song(plain)) == digest_of(read_song(dressed))


def test_songs_are_found_in_folders_and_game_archives(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "b.MID").write_bytes(song(1))
    (tmp_path / "notes.txt").write_text("no music")
    wad(tmp_path / "game.wad", [("E1", b"a map"), ("D_ONE", song(2)), ("D_ONE", song(3)), ("D_TWO", song(4))])
    found = find_songs(tmp_path)
    assert [(file.path.name, file.member) for file in found] == [
        ("b.MID", ""),
        ("game.wad", "D_ONE"),
        ("game.wad", "D_ONE~2"),
        ("game.wad", "D_TWO"),
    ]
    assert [file.read(Limits()) for file in found] == [song(1), song(2), song(3), song(4)]


def test_a_hostile_archive_has_no_songs(tmp_path):
    path = tmp_path / "bad.wad"
    for content in (
        b"",
        b"IWAD",
        b"IWAD" + struct.pack("<ii", 2**31 - 1, 12),
        b"IWAD" + struct.pack("<ii", -1, 12),
        b"IWAD" + struct.pack("<ii", 1, 12) + struct.pack("<ii8s", -5, 100, b"D_X"),
        b"IWAD" + struct.pack("<ii", 1, 12) + struct.pack("<ii8s", 12, 2**31 - 1, b"D_X"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no MIDI file"):
            find_songs(path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_songs(tmp_path / "nowhere")
    with pytest.raises(Unplayable, match="cannot be read"):
        SongFile(tmp_path / "gone.mid").read(Limits())
