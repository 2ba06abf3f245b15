"""Costs of a pretrained pipeline: counts by Snakemake's jobs, memory by its files, time where it is measured."""

import json

import pytest
from safetensors.torch import load_file

from gmsdi.cli import main
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from tests.helpers import tiny_pipelines
from tests.integration import test_pretrained as workflow

pytest.importorskip("diffusers")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tiny_pipelines.stable_audio(tmp_path / "pipeline", workflow.LATENTS)
    workflow.write_tracks(tmp_path / "tracks", tracks=2, seconds=4.0)
    monkeypatch.chdir(tmp_path)
    workflow.write_config(tmp_path)
    return tmp_path


def told(capsys, folder, *options):
    overlays = [workflow.REPO / "config" / "pretrained.yaml", folder / "tiny_pretrained.yaml"]
    assert main(["cost", *(f"--config={path}" for path in overlays), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out), Study(validate(load(*overlays)))


@pytest.mark.filterwarnings("ignore:the processor gave this program")
def test_forwards_encodings_and_decodings_are_counted_and_timed(capsys, folder):
    found, study = told(capsys, folder, "--device", "cpu", "--repetitions", "1")
    cost = found["costs"]["gmsdi"]
    for key in ("evaluation", "encoding", "decoding"):
        assert cost[key]["median"] > 0
    from gmsdi.models.adapters.pipelines import open_pipeline  # the parameters that the real parts have

    model = open_pipeline(folder / "pipeline", "pipeline", device="cpu")
    assert model.window == workflow.WINDOW
    import diffusers

    pipeline = diffusers.StableAudioPipeline.from_pretrained(folder / "pipeline", scheduler=None)
    parts = {name: part for name, part in pipeline.components.items() if hasattr(part, "parameters")}
    counts = {name: sum(one.numel() for one in part.parameters()) for name, part in parts.items()}
    assert cost["parameters"] == pytest.approx(sum(counts.values()), rel=0.02)  # of buffers that files have, too

    parts = {part["name"]: part for part in found["parts"]}
    single = [study.tasks[name] for name in ("single", "single_negative")]
    taken = [task.taken(task.bars() * task.clips, 8, coded=True) for task in single]
    assert parts["Figure 2"]["evaluations"] == sum(one.evaluations for one in taken)
    assert parts["Figure 2"]["codings"] == sum(one.decoded for one in taken) == 2 * 4 * 4
    table = [row.taken(2, 8, coded=True) for row in study.rows.values()]
    assert parts["Table 2"]["codings"] >= sum(one.encoded + one.decoded for one in table)
    hours = sum(part["evaluations"] for part in parts.values()) * cost["evaluation"]["median"] / 3600
    assert found["hours"] > hours > 0


def test_memory_is_that_of_the_weights_where_nothing_is_measured(capsys, folder):
    found, _ = told(capsys, folder, "--seconds-per-evaluation", "0.5")
    files = [file for part in ("transformer", "vae") for file in (folder / "pipeline" / part).glob("*.safetensors")]
    assert len(files) == 2
    weights = [tensor for file in files for tensor in load_file(file).values()]
    assert found["costs"]["gmsdi"]["memory"] == sum(4 * tensor.numel() for tensor in weights)
    assert any("its weights alone, in float32" in note for note in found["notes"])
    half = folder / "half.yaml"
    half.write_text("jobs: {precision: bf16}\n")
    found_half, _ = told(capsys, folder, f"--config={half}", "--seconds-per-evaluation", "0.5")
    network = sum(tensor.numel() for tensor in load_file(files[0]).values())
    assert found_half["costs"]["gmsdi"]["memory"] == found["costs"]["gmsdi"]["memory"] - 2 * network
    assert any("its weights alone, in bf16" in note for note in found_half["notes"])
    assert any("encoding and decoding of latents" in note for note in found["notes"])


@pytest.mark.slow
def test_the_page_has_the_operations_of_the_classes():
    from benchmarks import pretrained

    text = pretrained.PAGE.read_text()

    def shown(name):
        return text.split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0].splitlines()

    assert shown("operations") == pretrained.operations()
    assert shown("hours") == pretrained.hours()
    assert shown("measured") == pretrained.measured()
    assert shown("measured_gpu") == pretrained.measured_gpu()
    one = pretrained.counted("Stable Audio Open 1.0")
    # A transformer's operations are about two for each of its parameters and tokens.
    assert one.denoising == pytest.approx(2 * one.transformer * 1025, rel=0.15)
