"""The engines by other people's packages agree with ours on the same weights: laion-clap's CLAP and its FAD library."""

import numpy as np
import pytest

from gmsdi.errors import UserError
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.metrics.fad_library import LibraryEmbedding, library_distance
from gmsdi.metrics.frechet import fad
from gmsdi.models.clap import network
from gmsdi.models.clap.encoder import Clap
from gmsdi.models.clap.laion import LaionClap
from tests.peers.engines import clips, laion_checkpoint, small_text_network, tokenizer, vggish_hub

VGGISH, CLAP = "vggish-YouTube8M-linear128", "clap-LAION-music_audioset-projection512"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Connections are refused at once."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def laion(tmp_path_factory):
    """A folder with LAION's checkpoint, and the checkpoint's digest."""
    folder = tmp_path_factory.mktemp("laion")
    return folder, laion_checkpoint(folder)


def agree(ours, theirs, tolerance):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < tolerance * ours.std()


def test_laion_clap_embeds_as_ours_on_transformers(laion, tmp_path, monkeypatch):
    folder, digest = laion
    monkeypatch.setattr(network, "_text_network", small_text_network)
    given = {"checkpoint": folder / network.WEIGHTS.filename, "sha256": digest, "tokenizer": str(tokenizer(tmp_path))}
    ours, theirs = Clap(**given), LaionClap(**given)
    assert (ours.digest, ours.features) == (theirs.digest, theirs.features)
    texts = ["Bass", "Drums, Guitar, Piano", "B"]
    expected = ours.embed_text(texts)
    np.testing.assert_allclose(theirs.embed_text(texts), expected, rtol=0, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # ten times what the encoders may differ by
    for seconds, rate in ((3.3, 22050), (11.9, 22050)):
        audio = clips(seconds, rate)[:, None]
        expected = ours.embed_audio(audio, rate)
        np.testing.assert_allclose(theirs.embed_audio(audio, rate), expected, rtol=0, atol=1e-4)
        assert np.abs(expected[0] - expected[1]).max() > 1e-3
    with pytest.raises(UserError, match="longer than 77 tokens"):
        theirs.embed_text(["B" * 80])
    with pytest.raises(UserError, match=r"is a folder, but laion-clap reads the file"):
        LaionClap(folder)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_the_librarys_vggish_is_ours(tmp_path, rate):
    """At another rate two resamplers differ near the highest frequencies alone."""
    digest = vggish_hub(tmp_path)
    audio = clips(2.5, rate, 4)
    theirs = LibraryEmbedding(VGGISH, folder=tmp_path, sha256=digest).frames(audio, rate)
    checkpoint = tmp_path / "checkpoints/vggish-10086976.pth"
    ours = get_embedding(VGGISH, checkpoint=checkpoint, sha256=digest).frames(audio, rate)
    agree(ours, theirs, 1e-3 if rate == 16000 else 0.1)
    np.testing.assert_allclose(library_distance(ours[:4], ours[4:]), fad(ours[:4], ours[4:]), rtol=1e-3)


def test_the_librarys_clap_is_ours_but_for_rounding(laion):
    folder, digest = laion
    audio = clips(10, 48000)
    theirs = LibraryEmbedding(CLAP, folder=folder, sha256=digest)
    ours = get_embedding(CLAP, checkpoint=folder / network.WEIGHTS.filename, sha256=digest)
    agree(ours.frames(audio, 48000), theirs.frames(audio, 48000), 1e-2)
    long = clips(11, 48000, 1)
    np.testing.assert_array_equal(theirs.frames(long, 48000), theirs.frames(long, 48000))


def test_what_the_library_lacks_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no harritaylor_torchvggish_master in .* set fad\.folder"):
        LibraryEmbedding(VGGISH, folder=tmp_path)
    with pytest.raises(UserError, match=r"no music_audioset_epoch_15_esc_90\.14\.pt in"):
        LibraryEmbedding(CLAP, folder=tmp_path)
    with pytest.raises(UserError, match="has no embedding 'musicnn-MTT-penultimate200'; choose one of vggish"):
        LibraryEmbedding("musicnn-MTT-penultimate200")
    digest = vggish_hub(tmp_path)
    with pytest.raises(UserError, match="has the sha256"):
        LibraryEmbedding(VGGISH, folder=tmp_path)
    short = LibraryEmbedding(VGGISH, folder=tmp_path, sha256=digest)
    with pytest.raises(UserError, match=r"makes no frame of a clip of 0\.20 s"):
        short.frames(np.zeros((1, 3200), np.float32), 16000)
