"""VGGish: its front end against the definition in float64, its network against weights whose result is known."""

import hashlib

import numpy as np
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.metrics import vggish
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.metrics.vggish import VGGish

RATE = 16000


def log_mel(signal):
    """VGGish's front end bin by bin, from the constants of its release, in float64."""
    frames, n = 1 + (len(signal) - 400) // 160, np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    transform = np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512)
    magnitude = np.abs([transform @ (signal[160 * i : 160 * i + 400] * window) for i in range(frames)])
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    mel = np.zeros((frames, 64))
    for k in range(1, 257):  # the bin at 0 Hz belongs to no band
        at = 1127 * np.log(1 + k * RATE / 512 / 700)
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            if low < at < high:
                mel[:, band] += magnitude[:, k] * min((at - low) / (centre - low), (high - at) / (high - centre))
    return np.log(mel + 0.01)


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    """Weights that let the maxima of 16 x 16 blocks through: dimension 4 t + f is minus that of block (t, f)."""
    state = {}
    sizes = {0: (64, 1), 3: (128, 64), 6: (256, 128), 8: (256, 256), 11: (512, 256), 13: (512, 512)}
    for layer, shape in sizes.items():
        state[f"features.{layer}.weight"] = torch.zeros(*shape, 3, 3)
        state[f"features.{layer}.weight"][0, 0, 1, 1] = 1
        state[f"features.{layer}.bias"] = torch.zeros(shape[0])
    for layer, shape, value in ((0, (4096, 12288), 1), (2, (4096, 4096), 1), (4, (128, 4096), -1)):
        state[f"embeddings.{layer}.weight"] = torch.zeros(shape)
        row = torch.arange(24)
        state[f"embeddings.{layer}.weight"][row, 512 * row if layer == 0 else row] = value
        state[f"embeddings.{layer}.bias"] = torch.zeros(shape[0])
    path = tmp_path_factory.mktemp("vggish") / "transparent.pth"
    torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_frames_are_what_the_definition_says(transparent):
    path, digest = transparent
    embedding = get_embedding("vggish-YouTube8M-linear128", checkpoint=path, sha256=digest.upper(), batch=2)
    clips = 20 * np.random.default_rng(0).standard_normal((2, 3 * 15360 + 240))  # three frames and 239 samples left
    clips *= np.linspace(0, 1, clips.shape[1])
    frames = embedding.frames(clips, RATE)
    assert frames.shape == (6, 128)
    assert frames.dtype == np.float32
    spectrograms = np.stack([log_mel(clip.astype(np.float32).astype(np.float64)) for clip in clips])
    patches = spectrograms[:, :288].reshape(6, 6, 16, 4, 16)
    expected = -patches.max((2, 4)).clip(0).reshape(6, 24)
    np.testing.assert_allclose(frames[:, :24], expected, atol=2e-5)
    assert not frames[:, 24:].any()
    assert (frames[:, :24] < -1).any()  # no last ReLU
    # Overlapping frames contain those without overlap.
    overlapping = VGGish(path, sha256=digest, hop=0.48).frames(clips, RATE)
    np.testing.assert_allclose(overlapping.reshape(2, 5, 128)[:, ::2].reshape(6, 128), frames, atol=1e-5)
    # The paper's clips of about 12 s give the 12 frames each of its footnote.
    assert embedding.frames(np.zeros(2**18), 22050).shape == (12, 128)
    with pytest.raises(UserError, match=r"a clip of 0\.96 s is shorter than a frame of 0\.975 s"):
        embedding.frames(clips[:, :15360], RATE)


def test_errors_say_what_to_do(transparent, tmp_path):
    path, digest = transparent
    with pytest.raises(
        UserError, match=rf"transparent\.pth: has the sha256 {digest}, not 10086976.*; download https.* again"
    ):
        VGGish(path)
    with pytest.raises(UserError, match=r"no such file; download https.*vggish-10086976\.pth there"):
        VGGish(tmp_path / "absent.pth")
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, other)
    with pytest.raises(UserError, match="not the weights of VGGish"):
        VGGish(other, sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="must be positive"):
        VGGish(path, hop=0)


def test_the_digest_is_the_one_that_the_file_name_announces():
    """torch.hub's convention: the last part of a name is the beginning of the content's SHA-256."""
    assert vggish.WEIGHTS.filename == f"vggish-{vggish.WEIGHTS.sha256[:8]}.pth"
    assert len(vggish.WEIGHTS.sha256) == 64
