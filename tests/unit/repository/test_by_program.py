"""Scores by song and by program: of a small made run, and of the published one."""

import pandas as pd
import pytest
import yaml

from benchmarks.by_program import FILES, by_program, main, programs_of, section
from benchmarks.publish import ROWS
from gmsdi.study import cost
from gmsdi.study.study import Study
from tests import REPO

PARTS = {"A": [("Bass", 33), ("Bass", 39), ("Guitar", 29)], "B": [("Bass", 33), ("Guitar", 29)], "C": [("Bass", 33)]}
SCORES = [
    *[("A", 0, 0, "Bass", True, 4.0), ("A", 0, 0, "Guitar", True, -2.0)],
    *[("A", 0, 1, "Bass", True, 6.0), ("A", 0, 1, "Guitar", False, 30.0)],  # silence is not counted
    *[("B", 9, 0, "Bass", True, 1.0), ("B", 9, 0, "Guitar", True, 3.0)],
    *[("C", 0, 0, "Bass", True, 9.0), ("C", 0, 1, "Bass", True, 8.0)],
]


@pytest.fixture
def results(tmp_path):
    """The folder of the results of a run on rendered MIDI songs, with the tracks' metadata."""
    config = cost.resolved([REPO / "config" / "by_others.yaml"])
    folder, study = tmp_path / "by_others", Study(config)
    (folder / "scores").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    table = pd.DataFrame(SCORES, columns=["track", "offset", "sub", "stem", "active", "si_sdri"])
    table["track"] = "Track0000" + table["track"].map({name: str(i + 1) for i, name in enumerate(PARTS)})
    table.to_csv(folder / "scores" / "separation_mean_of_models.csv", index=False)
    for number, (name, parts) in enumerate(PARTS.items(), 1):
        track = tmp_path / "data" / study.dataset_id() / study.part("test") / "tracks" / "test" / f"Track{number:05}"
        track.mkdir(parents=True)
        stems = {
            f"S{i:02}": {"inst_class": label, "is_drum": False, "program_num": program}
            for i, (label, program) in enumerate(parts)
        }
        (track / "metadata.yaml").write_text(yaml.safe_dump({"song": f"song {name}", "stems": stems}))
    return tmp_path


def test_scores_are_collected_by_song_and_program(results, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    main(["by_others", "--results", str(results), "--out", str(out)])  # the other two rows were not run
    songs, programs = (pd.read_csv(out / f"{name}.csv") for name in FILES)
    assert list(songs["song"]) == ["song A", "song A", "song B", "song B", "song C"]
    first = songs.iloc[0]
    assert (first["stem"], first["subwindows"], first["si_sdri"], first["stems_at_once"]) == ("Bass", 2, 5.0, 1.5)
    assert first["programs"] == "33 Electric Bass (finger), 39 Synth Bass 2"
    found = programs.set_index(["stem", "programs"])
    finger = found.loc["Bass", "33 Electric Bass (finger)"]
    assert finger["si_sdri"] == 6.0  # of three sub-windows; the mean of the two songs would be 4.75
    assert tuple(finger[["songs", "subwindows", "lowest", "highest"]]) == (2, 3, 1.0, 8.5)
    guitar = found.loc["Guitar", "29 Overdriven Guitar"]
    assert tuple(guitar[["songs", "subwindows", "si_sdri"]]) == (2, 2, 0.5)
    text = "\n".join(section(out, ROWS))
    assert "| Bass | 33 Electric Bass (finger) | 2 | 3 | 6.0 |" in text
    assert "Guitar: song A -2.0, song B 3.0; 1 of 2 below 0" in text
    with pytest.raises(SystemExit, match="no finished run"):
        main(["arranged", "--results", str(results)])
    with pytest.raises(SystemExit, match="no scores of msdm"):
        main(["by_others", "--results", str(results), "--rows", "msdm"])


def test_drum_kits_and_other_programs_are_numbered(tmp_path):
    parts = [("Drums", True, 128, 16), ("Reed", False, 65, 65)]
    stems = {
        f"S{i}": {"inst_class": label, "is_drum": drum, "program_num": number, "preset": preset}
        for i, (label, drum, number, preset) in enumerate(parts)
    }
    file = tmp_path / "Track1" / "metadata.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump({"stems": stems}))
    assert programs_of(file) == ("Track1", {"Drums": "drum kit 16", "Reed": "65"})


def test_the_published_scores_by_program_are_those_of_table_2():
    """The mean over programs, weighted by their sub-windows, is the stem's score over active stems."""
    folder = REPO / "docs" / "by_others"
    songs, programs = (pd.read_csv(folder / f"{name}.csv") for name in FILES)
    table = pd.read_csv(folder / "table2_separation.csv").set_index(["model", "stem"])
    titles = yaml.safe_load((folder / "config.yaml").read_text())["separation"]["rows"]
    for found in (songs, programs):
        for (row, stem), own in found.groupby(["row", "stem"]):
            published = table.loc[titles[row]["title"], stem]
            assert own["subwindows"].sum() == published["active_subwindows"]
            mean = (own["si_sdri"] * own["subwindows"]).sum() / own["subwindows"].sum()
            assert mean == pytest.approx(published["active"], abs=1e-3)
    assert by_program(songs).shape == programs.shape
