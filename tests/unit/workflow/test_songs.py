"""The user's own MIDI files through the workflow: when they are looked at again."""

import re
import subprocess
import sys

import pytest
import yaml

from gmsdi.data.songs import ComposedSettings, make_song
from gmsdi.data.songs.score import write
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers.rows import ALONE

PIECE = ComposedSettings(sections=(3, 4), section_sizes={3: 0.3, 4: 0.7})


def write_song(number, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(make_song("composed", "test", number, seed=3, settings=PIECE), path)


@pytest.mark.slow
def test_a_song_that_is_overwritten_in_place_is_looked_at_again(tmp_path):
    for number in range(3):
        write_song(number, tmp_path / "songs" / "below" / f"{number}.mid")
    files = [REPO / "config" / "songs.yaml", tmp_path / "alone.yaml"]
    files[1].write_text(yaml.safe_dump({"separation": ALONE}))
    listed = f"results/data/{Study(validate(load(*files))).dataset_id()}/songs/files.csv"

    def snakemake(*options):
        command = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "1", listed]
        words = map(str, [*command, *options, "--configfile", *files])
        result = subprocess.run(list(words), cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-4000:]
        return re.findall(r"^(?:local)?rule (\w+):$", result.stdout + result.stderr, re.MULTILINE)

    assert snakemake() == ["list_songs"]
    (tmp_path / "songs" / "below" / "notes.txt").write_text("is not read")
    assert snakemake("--dry-run") == []
    before = (tmp_path / "songs").stat().st_mtime_ns
    write_song(7, tmp_path / "songs" / "below" / "1.mid")
    assert (tmp_path / "songs").stat().st_mtime_ns == before
    assert snakemake("--dry-run") == ["list_songs"]
