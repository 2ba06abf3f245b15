"""Both engines in one run of the workflow, on random weights of the real networks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gmsdi.models.checkpoint import load_model
from gmsdi.models.clap import network
from tests.integration.test_workflow import TEXT, UNET, least, write_model
from tests.peers.engines import laion_checkpoint, small_text_network, tokenizer, vggish_hub

REPO = Path(__file__).parents[2]


def snakemake(folder, config, *targets):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "2"]
    return subprocess.run(
        [str(word) for word in [*words, *targets, "--configfile", "config.yaml"]],
        cwd=folder,
        env={**os.environ, "https_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.mark.slow
def test_the_distances_of_both_engines_stand_side_by_side(tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    fad = {"embedding": "vggish-YouTube8M-linear128", "compare_engines": True, "reference_clips": 8, "folder": str(hub)}
    fad |= {"sha256": vggish_hub(hub), "checkpoint": str(hub / "checkpoints/vggish-10086976.pth")}
    write_model(tmp_path / "model")
    model = {"folder": "model", "config": {"unet": UNET, "text": TEXT}}
    config = least(fad={**fad, "engine": "frechet_audio_distance"}, model=model)
    result = snakemake(tmp_path, config, "compare_engines", "figure2")
    assert result.returncode == 0, result.stderr[-6000:]
    run = tmp_path / "results" / "least"
    table = pd.read_csv(run / "tables/engines.csv")
    assert set(table["figure"]) == {2, 3}
    # The engines resample from 8 to 16 kHz with different filters, which matter near 4 kHz, where only noise has power.
    noise = table["series"] == "white noise"
    for rows, rtol in ((~noise, 0.15), (noise, 0.3)):
        np.testing.assert_allclose(table.loc[rows, "library"], table.loc[rows, "gmsdi"], rtol=rtol)
    assert (table["library"] != table["gmsdi"]).all()
    chosen = pd.read_csv(run / "scores/fad_stems.csv")
    np.testing.assert_allclose(chosen["fad"], table.loc[table["figure"] == 2, "library"], rtol=1e-4)
    assert set(chosen["embedding"]) == {"vggish-YouTube8M-linear128 by frechet-audio-distance"}
    assert (run / "engines/gmsdi/scores/fad_stems.csv").is_file()
    assert "The engines share no code" in (run / "tables/engines.md").read_text()


@pytest.mark.slow
def test_a_model_learns_from_embeddings_by_laion_clap(tmp_path, monkeypatch):
    digest = laion_checkpoint(tmp_path)
    text = {"kind": "laion_clap", "features": 512, "tokenizer": str(tokenizer(tmp_path / "roberta")), "sha256": digest}
    text["checkpoint"] = str(tmp_path / network.WEIGHTS.filename)
    config = least(
        model={"train": True, "config": {"unet": UNET, "text": text}},
        clap={"train": False, "hop": 1},
        data={"mini": {"tracks": {"train": 1, "validation": 1}, "sections": [1, 1], "section_sizes": {"4": 1}}},
        training={"steps": 2, "batch": 2, "warmup": 1, "validate_every": 2, "validation_batches": 1},
    )
    result = snakemake(tmp_path, config, "train")
    assert result.returncode == 0, result.stderr[-6000:]
    run = tmp_path / "results" / "least"
    (folder,) = (run / "laion_clap/embeddings").glob("train-*")
    vectors = np.load(folder / "embeddings.npy")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    # The prompts came with the embeddings; where laion-clap is not installed the model knows them.
    monkeypatch.setitem(sys.modules, "laion_clap", None)
    text = load_model(run / "model").text
    theirs = text(["Bass", "Bass, Drums"])
    monkeypatch.setattr(network, "_text_network", small_text_network)
    from gmsdi.models.clap.encoder import Clap

    given = {key: config["model"]["config"]["text"][key] for key in ("checkpoint", "sha256", "tokenizer")}
    ours = Clap(**given).embed_text(["Bass", "Bass, Drums"])
    np.testing.assert_allclose(theirs.tokens[:, 0].detach() / 512**0.5, ours, rtol=0, atol=1e-4)
