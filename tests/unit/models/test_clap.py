"""CLAP: LAION's text tower against RoBERTa itself; the small one from its training to prompts without an encoder."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, load_model, save_model
from gmsdi.models.clap import network as clap
from gmsdi.models.clap import windows as clap_windows
from gmsdi.models.clap.encoder import Clap
from gmsdi.models.clap.training import info_nce
from gmsdi.models.clap.windows import WindowEmbeddings, embed_windows
from gmsdi.models.edm.text import unique_bank
from gmsdi.study import cost
from gmsdi.training.batches import Batches
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train
from tests.helpers import tiny
from tests.helpers.rows import ALONE

RATE, WINDOW, LABELS = 8000, 2048, ["Bass", "Drums"]
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "B", "a", "s", "Ġ", ","]
SMALL = {
    "kind": "clap",
    "features": 8,
    "audio": {"mels": 16, "n_fft": 128, "patch": 4, "channels": 8, "depths": [1, 1], "heads": [1, 2]},
    "text": {"features": 16, "heads": 2, "layers": 1, "max_length": 20},
    "sample_rate": RATE,
    "window": WINDOW,
    "labels": LABELS,
}
TRAINING = TrainingConfig(
    steps=30,
    batch=8,
    lr=3e-3,
    warmup=1,
    decay=0.2,
    ema=0.8,
    p_drop=0.0,
    validate_every=15,
    validation_batches=1,
    checkpoint_every=4,
    precision="float32",
)


# --- LAION's text tower ----------------------------------------------------------------------------------------------


@pytest.fixture
def laion(tmp_path, monkeypatch):
    """RoBERTa and a projection with random weights, and a checkpoint of them under LAION's names."""
    from transformers import ClapTextConfig, ClapTextModelWithProjection, RobertaConfig, RobertaModel

    sizes = {"vocab_size": len(WORDS), "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 82, "type_vocab_size": 1}
    torch.manual_seed(0)
    roberta = RobertaModel(RobertaConfig(**sizes, layer_norm_eps=1e-5)).eval()
    projection = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 6))
    for parameter in (*roberta.parameters(), *projection.parameters()):
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    state = {f"module.text_branch.{key}": value for key, value in roberta.state_dict().items()}
    state |= {f"module.text_projection.{key}": value for key, value in projection.state_dict().items()}
    state |= {"module.logit_scale_a": torch.tensor(1.0), "module.text_transform.sequential.0.weight": torch.zeros(2)}
    path = tmp_path / "clap.pt"
    torch.save({"epoch": 15, "state_dict": state}, path)

    def small():
        with torch.device("meta"):
            return ClapTextModelWithProjection(ClapTextConfig(**sizes, projection_dim=6, layer_norm_eps=1e-5))

    monkeypatch.setattr(clap, "_text_network", small)
    return roberta, projection, {"checkpoint": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def tokenizer(tmp_path):
    from transformers import RobertaTokenizer

    folder = tmp_path / "roberta"
    words = {word: number for number, word in enumerate(WORDS)}
    RobertaTokenizer(vocab=words, merges=[]).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    return folder


def test_laions_text_tower_is_roberta_and_its_projection(laion, tokenizer):
    roberta, projection, weights = laion
    embedded = Clap(**weights, tokenizer=str(tokenizer)).embed_text(["Bass", "Ba, ss"])
    for row, ids in zip(embedded, ([0, 5, 6, 7, 7, 2], [0, 5, 6, 9, 8, 7, 7, 2]), strict=True):
        with torch.inference_mode():
            expected = projection(roberta(input_ids=torch.tensor([ids])).pooler_output)[0]
        np.testing.assert_allclose(row, (expected / expected.norm()).numpy(), atol=1e-6)


def test_what_laions_text_tower_lacks_is_named(laion, tokenizer, tmp_path, monkeypatch):
    weights = laion[2]
    with pytest.raises(UserError, match="longer than 77 tokens; shorten it"):
        Clap(**weights, tokenizer=str(tokenizer)).embed_text(["B" * 80])
    with pytest.raises(UserError, match=r"CLAP's tokenizer '.*nowhere': no such folder; set text\.tokenizer"):
        Clap(**weights, tokenizer=str(tmp_path / "nowhere")).embed_text(["Bass"])
    with pytest.raises(UserError, match=r"clap\.pt: not the weights of LAION's HTSAT-base \(audio\)"):
        Clap(**weights).embed_audio(np.zeros((1, 1000)), 48000)
    with pytest.raises(UserError, match=r"clap\.pt: has the sha256 .*; download https://huggingface"):
        Clap(weights["checkpoint"]).embed_audio(np.zeros((1, 1000)), 48000)


# --- The small one ---------------------------------------------------------------------------------------------------


def test_info_nce_is_clips_loss_but_for_equal_texts():
    torch.manual_seed(1)
    audio, text = (nn.functional.normalize(torch.randn(4, 3), dim=-1) for _ in range(2))
    rows = torch.arange(4)
    logits = 5 * audio @ text.T
    expected = (nn.functional.cross_entropy(logits, rows) + nn.functional.cross_entropy(logits.T, rows)) / 2
    torch.testing.assert_close(info_nce(audio, text, rows, 5.0).mean(), expected)
    # By hand: the first two have one text.
    classes = torch.tensor([0, 0, 1, 2])
    text[1] = text[0]
    s = 5 * audio @ text.T
    found = info_nce(audio, text, classes, 5.0)
    given_audio = s[0, 0] - torch.logsumexp(s[0, [0, 2, 3]], 0)
    given_text = s[0, 0] - torch.logsumexp(s[[0, 2, 3], 0], 0)
    torch.testing.assert_close(found[0], -(given_audio + given_text) / 2)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Two tracks: a low tone, and clicks, each with its label; then silence."""
    folder = tmp_path_factory.mktemp("windows")
    rng = np.random.default_rng(0)
    low = np.sin(2 * np.pi * 200 * np.arange(24000) / RATE) + 0.1 * rng.standard_normal(24000)
    clicks = rng.standard_normal(24000) * (np.arange(24000) % 800 < 60)
    mix = (3000 * np.concatenate([low, clicks])).astype(np.int16)
    mix[44000:] = 0
    np.save(folder / "mix.npy", mix)
    (folder / "tracks.csv").write_text("track,start,length\nA,0,24000\nB,24000,24000\n")
    (folder / "activity.csv").write_text("track,label,onset,offset\nA,Bass,0,3\nB,Drums,0,2.5\n")
    (folder / "windows.csv").write_text("track,split,offset,active\nA,train,0,Bass\n")
    (folder / "info.json").write_text(
        '{"sample_rate": 8000, "window": 2048, "min_active": 0.2, "classes": {"Bass": ["Bass"], "Drums": ["Drums"]}}'
    )
    return folder


def trained(windows, out, work):
    train(SMALL, TRAINING, windows, windows, out, seed=1, work=work, progress=False)
    return out


@pytest.fixture(scope="module")
def small(windows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap")
    return trained(windows, folder / "model", folder / "work")


def test_audio_and_its_text_meet_in_one_space(small, windows):
    ours = Clap(small)
    data = WindowSet(windows)
    audio = ours.embed_audio(data.mixture_at([0, 10000, 24000, 34000]), RATE)
    text = ours.embed_text(LABELS)
    assert audio.shape == (4, ours.features)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, rtol=1e-5)
    assert (audio @ text.T).argmax(axis=1).tolist() == [0, 0, 1, 1]
    # One by one or together, and of a longer clip its middle.
    np.testing.assert_allclose(ours.embed_audio(data.mixture_at([34000]), RATE), audio[3:], atol=1e-5)
    longer = np.concatenate([np.ones((1, 1, 500)), data.mixture_at([0]), np.ones((1, 1, 500))], axis=2)
    np.testing.assert_allclose(ours.embed_audio(longer, RATE), audio[:1], atol=1e-5)


def test_its_front_end_is_that_of_transformers(small, windows):
    from transformers import ClapFeatureExtractor

    tower = Clap(small).audio
    f = tower.front_end
    peer = ClapFeatureExtractor(
        feature_size=f.mels, sampling_rate=RATE, hop_length=f.spacing, fft_window_size=f.n_fft, frequency_min=50,
        frequency_max=RATE // 2, truncation="rand_trunc", max_length_s=1,
    )  # fmt: skip
    clip = WindowSet(windows).mixture_at([24000])[0, 0]
    expected = peer._np_extract_fbank_features(clip.astype(np.float64), peer.mel_filters_slaney)
    np.testing.assert_allclose(tower.log_mel(torch.from_numpy(clip)[None])[0].numpy(), expected, atol=0.05)


def test_killed_training_of_a_clap_goes_on_to_the_same_weights(small, windows, tmp_path, monkeypatch):
    batch = Batches.batch

    def failing(self, step):
        if step == 21 and self.seed == 1:
            raise RuntimeError("power cut")
        return batch(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "batch", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            trained(windows, tmp_path / "model", tmp_path / "work")
    trained(windows, tmp_path / "model", tmp_path / "work")
    assert '"resumed": true' in (tmp_path / "model" / "provenance.json").read_text()
    whole, resumed = (load_model(folder).state_dict() for folder in (small, tmp_path / "model"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"CLAP: these sizes do not fit together .*patches of 5"):
        build_model({**SMALL, "audio": {**SMALL["audio"], "patch": 5}})


# --- A diffusion model on its embeddings -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(small, windows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded") / "train"
    embed_windows(Clap(small), WindowSet(windows), folder, hop=512)
    return folder


def test_every_crop_comes_with_the_embedding_of_itself(small, windows, embedded):
    data = WindowSet(windows)
    stored = WindowEmbeddings(embedded, data)
    mix = np.load(windows / "mix.npy")
    expected = [t + k for t in (0, 24000) for k in range(0, 24000 - WINDOW + 1, 512)]
    sounding = [start for start in expected if mix[start : start + WINDOW].any()]
    assert stored.starts.tolist() == sounding
    assert len(expected) - len(sounding) > 2
    config = TrainingConfig(steps=1, batch=6, gain_db=0.0, polarity=False, p_drop=0.5)
    batch = Batches(data, config, 3, embeddings=stored).batch(2)
    assert "texts" not in batch
    own = Clap(small).embed_audio(batch["clean"], RATE)
    np.testing.assert_allclose(batch["embeddings"].numpy(), own, atol=1e-5)
    drops = [Batches(data, config, 3, embeddings=stored).batch(step)["dropped"] for step in range(20)]
    assert 30 < torch.cat(drops).sum() < 90
    parts = [Batches(data, config, 3, embeddings=stored, rank=rank, world=2).batch(2) for rank in range(2)]
    assert torch.equal(batch["embeddings"][1::2], parts[1]["embeddings"])
    with pytest.raises(UserError, match="embeddings of mixtures; use its labels"):
        Batches(data, config, 3, target="Bass", embeddings=stored)


def test_embedding_goes_on_where_it_stopped(small, windows, embedded, tmp_path, monkeypatch):
    monkeypatch.setattr(clap_windows, "BATCH", 8)
    calls = []
    embed = Clap.embed_audio

    def failing(self, audio, rate):
        calls.append(len(audio))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return embed(self, audio, rate)

    monkeypatch.setattr(Clap, "embed_audio", failing)
    with pytest.raises(KeyboardInterrupt):
        embed_windows(Clap(small), WindowSet(windows), tmp_path / "e", hop=512)
    assert not (tmp_path / "e").exists()
    embed_windows(Clap(small), WindowSet(windows), tmp_path / "e", hop=512)
    assert sum(calls) - calls[3] == len(np.load(tmp_path / "e" / "starts.npy"))
    whole, again = (np.load(folder / "embeddings.npy") for folder in (embedded, tmp_path / "e"))
    np.testing.assert_allclose(again, whole, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["e"]


def test_the_conditioning_is_the_embedding_or_z_star(small):
    model = build_model({**tiny.CONFIG, "text": {"kind": "clap", "checkpoint": str(small), "features": 8}})
    vectors = nn.functional.normalize(torch.randn(3, 8), dim=-1)
    cond = model.text.of_audio(vectors, torch.tensor([False, True, False]))
    assert cond.tokens.shape == (3, 1, 8)
    assert cond.mask.all()
    torch.testing.assert_close(cond.tokens[[0, 2], 0], vectors[[0, 2]] * 8**0.5)
    assert torch.equal(cond.tokens[1], model.text.unconditional)
    torch.testing.assert_close(
        model.embed(["Bass"]).tokens[0, 0], torch.from_numpy(Clap(small).embed_text(["Bass"])[0] * 8**0.5)
    )


def test_a_model_is_trained_on_embeddings_and_samples_without_an_encoder(small, windows, embedded, tmp_path):
    copy = shutil.copytree(small, tmp_path / "clap")
    text = {"kind": "clap", "checkpoint": str(copy), "features": 8}
    config = {**tiny.CONFIG, "labels": LABELS, "window": WINDOW, "text": text}
    settings = TrainingConfig(steps=4, batch=4, warmup=1, validate_every=2, validation_batches=1, precision="float32")

    def run(**embeddings):
        train(
            config,
            settings,
            windows,
            windows,
            tmp_path / "m",
            seed=0,
            work=tmp_path / "w",
            progress=False,
            **embeddings,
        )

    with pytest.raises(UserError, match="if and only if its text encoder is a CLAP"):
        run()
    run(train_embeddings=embedded, validation_embeddings=embedded)
    assert '"encoder"' in (tmp_path / "m" / "provenance.json").read_text()
    expected = Clap(copy).embed_text(["Bass", "Drums", "Bass, Drums"]) * 8**0.5
    shutil.rmtree(copy)
    model = load_model(tmp_path / "m")
    known = unique_bank(model.text, ["Bass", "Drums", "Bass, Drums", None])
    np.testing.assert_allclose(known.tokens[:3, 0].numpy(), expected, atol=1e-6)
    with pytest.raises(UserError, match=r"CLAP '.*clap': no such file or folder; set text\.checkpoint"):
        model.embed(["Guitar"])


def test_what_does_not_belong_together_is_refused(small, windows, embedded, tmp_path):
    with pytest.raises(UserError, match="embeddings of windows are incomplete"):
        WindowEmbeddings(tmp_path, WindowSet(windows))
    other = shutil.copytree(windows, tmp_path / "other")
    np.save(other / "mix.npy", np.zeros(48001, np.int16))
    with pytest.raises(UserError, match="embeddings of windows other than"):
        WindowEmbeddings(embedded, WindowSet(other))
    with pytest.raises(UserError, match="all windows are silent"):
        embed_windows(Clap(small), WindowSet(other), tmp_path / "none", hop=512)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"text\.features is 512, but this CLAP's embeddings have 8"):
        build_model({**tiny.CONFIG, "text": {"kind": "clap", "checkpoint": str(small), "features": 512}})
    save_model(tmp_path / "diffusion", build_model(tiny.CONFIG))
    with pytest.raises(UserError, match="this model is not a CLAP"):
        Clap(tmp_path / "diffusion").embed_text(["Bass"])


@pytest.mark.filterwarnings("ignore:the processor gave")
def test_the_cost_of_such_a_model_needs_no_clap(tmp_path):
    overlay = tmp_path / "config.yaml"
    training = {"steps": 2, "batch": 2}
    overlay.write_text(
        yaml.safe_dump({"run": "x", "model": {"train": True}, "separation": ALONE, "training": training})
    )
    config = cost.resolved([overlay])
    text = {"kind": "clap", "checkpoint": str(tmp_path / "nowhere"), "features": 8}
    config["model"]["config"] |= {key: tiny.CONFIG[key] for key in ("unet", "sigma_data")} | {"text": text}
    costs, _ = cost.measure(config, device="cpu", repetitions=1)
    assert costs["gmsdi"].step.median > 0
