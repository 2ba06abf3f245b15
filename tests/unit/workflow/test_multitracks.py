"""Folders of multi-tracks through the workflow: the ready configurations' graphs, and the windows of small folders."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import pytest
import yaml

from gmsdi.cli import main
from gmsdi.data.multitracks import Activity, Splits, list_tracks
from gmsdi.data.windows import WindowSet, build_multitrack_windows
from gmsdi.study import cost
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers.multitracks import MUSDB, write_moisesdb, write_musdb
from tests.helpers.rows import WHOLE
from tests.helpers.runs import dry_run

READY = {"musdb18hq": write_musdb, "moisesdb": write_moisesdb}


def ready(name, *overlays):
    return validate(load(REPO / "config" / f"{name}.yaml", *overlays))


def stand_in(name, folder):
    """A small folder in a data set's layout, with every track that its configuration names."""
    if name == "moisesdb":
        return write_moisesdb(folder, tracks=30, seconds=0.2)
    named = [text.removeprefix("train/") for text in ready(name)["data"]["stems"]["splits"]["validation"]]
    return write_musdb(folder, tracks={"train": ["A - One", *named], "test": ["B - Two"]}, seconds=0.2)


@pytest.mark.parametrize("name", READY)
def test_settings_are_those_of_slakh2100_but_for_what_depends_on_the_stems(name):
    own, slakh = ready(name), ready("slakh2100")
    different = {
        "data": {"kind", "source", "classes", "stems"},
        "generation": {"negatives"},
        "separation": {"rows"},
    }
    for section in own:
        if section == "run":
            continue
        for key in own[section] if isinstance(own[section], dict) else ():
            same = own[section][key] == slakh[section][key]
            assert same or key in different.get(section, ()), f"{section}.{key}"
    rows, others = own["separation"]["rows"], slakh["separation"]["rows"]
    assert rows.keys() == others.keys()
    for name, row in rows.items():
        open_to_table_1 = {"negatives": {}} | dict.fromkeys({"w", "constrained"} & row.keys())
        assert row == others[name] | (open_to_table_1 if name in ("extractor", "separator") else {}), name
    labels = ["Bass", "Drums", "Other", "Vocals"]
    assert Study(own).labels == labels
    negatives = own["generation"]["negatives"]
    assert list(negatives) == labels
    assert all(set(text.split(", ")) <= set(labels) - {label} for label, text in negatives.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
def test_ready_configurations_are_planned_as_they_run(name, tmp_path):
    (tmp_path / "root.yaml").write_text(yaml.safe_dump({"data": {"root": str(stand_in(name, tmp_path / "data"))}}))
    short = {"data": {"window": 2048}, "grid": {"chunks": None}}
    short["model"] = {"config": {"unet": {"patch_factor": 4}}}
    (tmp_path / "window.yaml").write_text(yaml.safe_dump(short))  # the stand-ins are short
    files = [REPO / "config" / f"{name}.yaml", tmp_path / "root.yaml", tmp_path / "window.yaml"]
    jobs = dry_run(tmp_path, *files)
    rules = Counter(job["rule"] for job in jobs)
    assert not {"download", "unpack", "compose"} & set(rules)
    assert rules["chunk"] == rules["chunk_for_baselines"] == 1
    assert rules["chunk_with_stems"] == 2
    planned = cost.jobs(files)
    assert Counter(job.rule for job in planned) == rules
    _, notes = cost.sizes_of(Study(cost.resolved(files)), planned, results=tmp_path / "results")
    assert f"test-all: the tracks in {tmp_path / 'data'}" in notes


def test_defaults_of_the_schema_are_those_of_the_classes():
    data = validate(load())["data"]
    assert data["stems"]["activity"] == asdict(Activity())
    assert {**data["stems"]["splits"], "seed": data["seed"]} == asdict(Splits())


def test_the_example_of_the_readme_is_a_configuration_and_its_patterns_are_apart(tmp_path):
    section = (REPO / "workflow" / "README.md").read_text().split("## Your own multi-tracks")[1]
    (tmp_path / "mine.yaml").write_text(section.split("```yaml\n")[1].split("```")[0])
    config = validate(load(tmp_path / "mine.yaml"))
    for name in ("bass.wav", "Sub 1.flac", "drums/kick.wav", "Lead Vox.mp3", "choir.flac", "mix.wav"):
        (tmp_path / "album" / "song" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / "song" / name).touch()
    (track,) = list_tracks(tmp_path, config["data"]["classes"])
    assert {label: len(files) for label, files in track.stems.items()} == {"Bass": 2, "Drums": 1, "Vocals": 2}
    assert (track.name, track.unmatched) == ("album/song", 1)


def test_without_its_folder_costs_ask_for_the_chunks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["cost", "--config", str(REPO / "config" / "musdb18hq.yaml"), "--seconds-per-evaluation", "1"]
    assert main(words) == 1
    assert "--chunks N" in capsys.readouterr().err.splitlines()[-1]
    assert main([*words, "--chunks", "1000"]) == 0


def test_chunks_are_shared_by_what_they_depend_on():
    config = ready("moisesdb")

    def name(**data):
        return Study({**config, "data": {**config["data"], **data}}).dataset_id()

    same = ({}, {"source": "slakh2100"}, {"download": {"archive": "stream"}}, {"mini": {"loudness": -20}})
    assert len({name(**data) for data in same}) == 1
    stems = config["data"]["stems"]
    other = ({"seed": 2}, {"root": "/x"}, {"tracks": {"test": 3}}, {"stems": {**stems, "gain_db": -6}})
    assert len({name(**data) for data in ({}, *other)}) == 5


# --- From files to windows --------------------------------------------------------------------------------------------

RATE, WINDOW = 8000, 8192


def configure(folder, root, **stems):
    data = {"kind": "stems", "sample_rate": RATE, "window": WINDOW, "stems": stems}
    data |= {"classes": {**MUSDB, "Guitar": None, "Piano": None}, "tracks": {"train": 2}}
    data |= {"root": str(root)} if root else {}
    config = {"run": "own", "data": data, "model": {"train": True}, "demo_training": {"enabled": False}}
    config |= WHOLE
    config["generation"] = {"negatives": {"Guitar": None, "Piano": None}}
    (folder / "own.yaml").write_text(yaml.safe_dump(config))
    return [folder / "own.yaml"]


def snakemake(folder, *words):
    command = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "1", *words]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=600)


def test_windows_of_the_workflow_are_those_of_the_library(tmp_path):
    root = write_musdb(tmp_path / "data", tracks={"train": [f"{k} - Song" for k in range(8)], "test": ["X - Song"]})
    (root / "train" / "1 - Song" / "bass.wav").write_text("broken")
    splits = {"train": ["train"], "validation": 0.4, "test": ["test"]}
    configure(tmp_path, None, splits=splits)
    # The folder of the data comes from the command line, as the ready configurations say.
    config = validate(load(tmp_path / "own.yaml"))
    config["data"]["root"] = str(root)
    study = Study(config)
    parts = {split: study.part(split) for split in ("train", "validation", "test")}
    targets = [f"results/data/{study.dataset_id()}/{part}/windows/windows.csv" for part in parts.values()]
    words = ["--configfile", "own.yaml", "--config", f"data={{root: {root}}}", "--", *targets]
    result = snakemake(tmp_path, *words)
    assert result.returncode == 0, result.stderr[-4000:]
    found = {}
    for split, target in zip(parts, targets, strict=True):
        folder, expected = (tmp_path / target).parent, tmp_path / split
        build_multitrack_windows(
            root,
            split,
            expected,
            sample_rate=RATE,
            window=WINDOW,
            classes=MUSDB,
            stems=split != "train",
            splits=Splits(**splits),
            activity=Activity(),
            first=2 if split == "train" else None,
        )
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
            p.name: p.read_bytes() for p in expected.iterdir()
        }
        windows = WindowSet(folder)
        source = json.loads((folder / "info.json").read_text())["source"]
        found |= dict.fromkeys([*windows.table["track"], *source.get("skipped", [])], split)
        assert set(windows.table["active"]) == {"Bass, Drums, Other, Vocals"}
    assert Counter(found.values())["train"] == 2
    assert {name for name, split in found.items() if split == "test"} == {"test/X - Song"}

    # A stem that is overwritten in place leaves the times of all folders as they are; its split alone is cut again.
    def again():
        result = snakemake(tmp_path, "--dry-run", *words)
        assert result.returncode == 0, result.stderr[-4000:]
        said = result.stdout + result.stderr
        return re.findall(r"^rule (\w+):$", said, re.MULTILINE), re.findall(r"wildcards: part=(.*)", said)

    stem = root / "test" / "X - Song" / "drums.wav"
    (stem.parent / "mixture.wav").write_bytes(b"is not read")
    assert again() == ([], [])
    before = root.stat().st_mtime_ns, stem.parent.stat().st_mtime_ns
    stem.write_bytes(stem.read_bytes()[::-1])
    assert (root.stat().st_mtime_ns, stem.parent.stat().st_mtime_ns) == before
    assert again() == (["chunk_with_stems"], ["test-all"])


@pytest.mark.parametrize(
    ("root", "splits", "message"),
    [
        (None, {}, "data.root is not set; data.kind stems needs the folder of your tracks"),
        ("nowhere", {}, "nowhere: no such folder; set data.root to the one that holds your tracks"),
        ("data", {"test": ["best"]}, "no track or folder 'best'"),
        ("data", {"validation": 0, "test": ["test"]}, "no track of 4 is in the validation split"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_done(tmp_path, root, splits, message):
    write_musdb(tmp_path / "data", seconds=0.1)
    configure(tmp_path, root, splits=splits)
    result = snakemake(tmp_path, "--configfile", "own.yaml", "--dry-run")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if message in line]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
