"""The musicnn embedding against the original network in TensorFlow, and its parts against independent code."""

import importlib.util
import json
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.convert_musicnn import convert, read_checkpoint
from gmsdi.errors import UserError
from gmsdi.io.features import mel_filters, resample
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.metrics.frechet import fad
from gmsdi.metrics.musicnn import WEIGHTS, MusicNN

RATE = 16000


@pytest.fixture(scope="module")
def musicnn():
    return get_embedding("musicnn-MTT-penultimate200")


def notes_and_chirp():
    """A closed-form signal, 65 536 samples: decaying notes and a chirp."""
    t = np.arange(65536) / RATE
    notes = 0.3 * np.sin(2 * np.pi * 220 * t) * np.exp(-3 * (t % 0.5))
    return (notes + 0.2 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.float32)


def play(program, *, drum=False, seed=0):
    """Four seconds of a General MIDI program, rendered at 32 kHz."""
    import symusic

    rng = np.random.default_rng(seed)
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120))
    track = symusic.Track("part", program, drum)
    for step in range(32):
        if drum:
            hits = [42] + [36] * (step % 4 == 0) + [38] * (step % 4 == 2)
            track.notes.extend([symusic.Note(step * 240, 240, pitch, 100) for pitch in hits])
        else:
            root = 55 + [0, -3, 5, 7][step // 8]
            track.notes.append(symusic.Note(step * 240, 400, root + int(rng.choice([0, 2, 4, 7, 9, 12])), 90))
            if step % 2 == 0:
                track.notes.extend([symusic.Note(step * 240, 480, root + third, 75) for third in (0, 4, 7)])
    score.tracks.append(track)
    font = importlib.util.find_spec("pretty_midi").submodule_search_locations[0] + "/TimGM6mb.sf2"
    audio = np.asarray(symusic.Synthesizer(font, sample_rate=32000).render(score, stereo=False)).squeeze()[:131072]
    audio = np.pad(audio, (0, 131072 - audio.size))
    return (0.08 * audio / np.sqrt((audio**2).mean())).astype(np.float32)


# Every 40th hidden unit in the three windows of `notes_and_chirp`, from the original package: its TensorFlow graph and
# weights (tensorflow-cpu 2.15.1) on librosa 0.11.0's mel spectrogram with reflected edges.
ORIGINAL = {
    "MTT": [
        [1.2042875, 3.7726614, -0.3015012, -0.2061882, 0.7573143],
        [1.3238162, 3.633119, -0.17001432, -0.09478682, 0.88894695],
        [1.4198331, 3.8905861, -0.02499121, -0.21840529, 0.99349314],
    ],
    "MSD": [
        [0.855388, -0.13594653, 2.8867211, 0.41362873, -0.7558567],
        [0.6078875, -0.13594653, 2.8813958, 0.488229, -0.7558567],
        [0.66311103, -0.13594653, 3.1845965, 0.906201, -0.7558567],
    ],
}
ORIGINAL_MEAN_STD = {"MTT": (0.43703973, 0.95074266), "MSD": (0.3485374, 1.0755911)}
ORIGINAL_TAGS = {  # the first five probabilities in the first window
    "MTT": [4.6087494e-03, 3.5723941e-03, 1.3598661e-01, 1.1136051e-03, 5.2598171e-04],
    "MSD": [0.00448737, 0.0053885, 0.00789831, 0.01346275, 0.10226022],
}


@pytest.mark.parametrize("dataset", ["MTT", "MSD"])
def test_network_equals_the_original(dataset):
    model = get_embedding(f"musicnn-{dataset}-penultimate200")
    assert model.name == f"musicnn-{dataset}-penultimate200"
    frames = model.frames(notes_and_chirp(), RATE)
    assert frames.shape == (3, 200)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[:, ::40], ORIGINAL[dataset], atol=1e-4)
    assert (frames.mean(), frames.std()) == pytest.approx(ORIGINAL_MEAN_STD[dataset], abs=1e-4)
    tags = model.probabilities(notes_and_chirp(), RATE)
    assert tags.shape == (3, len(model.tags))
    np.testing.assert_allclose(tags[0, :5], ORIGINAL_TAGS[dataset], rtol=1e-3)


def test_tags_name_the_instrument(musicnn):
    """The whole network is of use on this material; a SoundFont's acoustic piano it takes for a guitar, though."""
    clips = {"drums": play(0, drum=True), "guitar": play(24), "piano": play(4), "choir": play(52)}
    tags = musicnn.probabilities(np.stack(list(clips.values())), 32000).reshape(4, -1, 50).mean(1)
    for name, row in zip(clips, tags, strict=True):
        assert name in [musicnn.tags[i] for i in np.argsort(-row)[:3]]


def test_fad_rises_with_added_noise_and_with_another_instrument(musicnn):
    rng = np.random.default_rng(0)
    reference, clips = (np.stack([play(0, seed=s) for s in seeds]) for seeds in (range(6), range(6, 9)))
    frames = musicnn.frames(reference, 32000)
    noise = 0.08 * rng.standard_normal(clips.shape).astype(np.float32)
    scores = [fad(frames, musicnn.frames(clips + level * noise, 32000)) for level in (0, 0.03, 0.1, 0.3, 1)]
    assert np.diff(scores).min() > 0
    drums = musicnn.frames(np.stack([play(0, drum=True, seed=s) for s in range(3)]), 32000)
    assert fad(frames, drums) > 3 * scores[0]


def test_shapes_rates_and_batches(musicnn):
    clips = np.stack([play(24), play(0)])[:, ::2]  # 16 kHz
    expected = musicnn.frames(clips, RATE)
    assert expected.shape == (6, 200)  # 257 spectrogram frames: windows of 187 at 0, 31, 62
    for same in (clips[:, None], np.stack([clips - 0.1, clips + 0.1], axis=1), torch.from_numpy(clips)):
        np.testing.assert_allclose(musicnn.frames(same, RATE), expected, atol=1e-3)
    np.testing.assert_allclose(musicnn.frames(clips[1], RATE), expected[3:], atol=1e-4)
    small = MusicNN(batch=1)
    np.testing.assert_allclose(small.frames(clips, RATE), expected, atol=1e-4)
    assert MusicNN(hop=1.0).frames(clips, RATE).shape == (4, 200)
    assert MusicNN(window=1.0, hop=1.0).frames(clips, RATE).shape == (8, 200)
    # The embedding of what 8 kHz audio can hold does not depend on the rate at which it comes.
    narrow = resample(clips, RATE, 8000)
    again = musicnn.frames(resample(narrow, 8000, 44100), 44100)
    assert np.abs(musicnn.frames(narrow, 8000) - again).max() < 0.05 * expected.std()


def test_errors_say_what_to_do(musicnn):
    with pytest.raises(UserError, match="shorter than a window"):
        musicnn.frames(np.zeros((2, RATE), np.float32), RATE)
    with pytest.raises(UserError, match="not finite"):
        musicnn.frames(np.full((1, 65536), np.nan), RATE)
    with pytest.raises(UserError, match="expected \\[clips, samples\\]"):
        musicnn.frames(np.zeros((0, 65536)), RATE)
    with pytest.raises(UserError, match="choose one of musicnn-MTT"):
        get_embedding("vgg")
    with pytest.raises(UserError, match=r"has no option checkpoint; its options are window, hop, batch"):
        get_embedding("musicnn-MTT-penultimate200", checkpoint="vggish.pth", hop=None)


def test_mel_filters_have_unit_area_and_their_centres_on_slaneys_scale():
    """Linear up to 1 kHz (200 Hz for 3 mel), then 27 mel for a factor of 6.4: Slaney's Auditory Toolbox, 1998."""
    filters = mel_filters(48000, 1 << 15, 64, 50, 14000)
    bins = np.linspace(0, 24000, (1 << 14) + 1)
    np.testing.assert_allclose(filters.sum(1) * bins[1], 1, rtol=1e-3)
    mels = np.linspace(50 * 3 / 200, 15 + 27 * np.log(14) / np.log(6.4), 66)
    centres = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))[1:-1]
    np.testing.assert_allclose(bins[filters.argmax(1)], centres, atol=bins[1])


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def write_checkpoint(folder, tensors, *, compression=0):
    """A bundle as TensorFlow writes it: two data blocks, keys with shared prefixes, varints of several bytes."""
    index, data, entries = b"", b"", {b"": b"\x08\x01"}
    for name, array in sorted(tensors.items()):
        dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in array.shape))
        kind = {"float32": 1, "int64": 9}[array.dtype.name]
        entries[name.encode()] = (
            b"\x08" + varint(kind) + b"\x12" + varint(len(dims)) + dims + b"\x20" + varint(len(data))
            + b"\x28" + varint(array.nbytes) + b"\x35" + b"crc!"
        )  # fmt: skip
        data += array.tobytes()

    def block(pairs):
        nonlocal index
        body, last = b"", b""
        for key, value in pairs:
            shared = next(
                (i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last))
            )
            body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            last = key
        body += struct.pack("<II", 0, 1)  # one restart point, at 0
        handle = varint(len(index)) + varint(len(body))
        index += body + bytes([compression]) + b"crc!"
        return handle

    pairs = list(entries.items())
    half = len(pairs) // 2
    handles = [(part[-1][0], block(part)) for part in (pairs[:half], pairs[half:])]
    footer = block([]) + block(handles)
    index += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / ".index").write_bytes(index)
    (folder / ".data-00000-of-00001").write_bytes(data)
    return folder / ".index", folder / ".data-00000-of-00001"


def test_checkpoint_reader(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layer_{i}/kernel": rng.standard_normal((3, 200 + i)).astype(np.float32) for i in range(6)}
    tensors |= {"layer_1": np.arange(5), "step": np.array(7), "empty": np.zeros((0, 3), np.float32)}
    index, data = write_checkpoint(tmp_path, tensors)
    loaded = read_checkpoint(index, data)
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    content = data.read_bytes()
    data.write_bytes(content[:-8])
    with pytest.raises(UserError, match="size does not fit"):
        read_checkpoint(index, data)
    data.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(index, data)
    data.write_bytes(content)
    with pytest.raises(UserError, match="no table magic"):
        read_checkpoint(data, data)
    with pytest.raises(UserError, match="compressed blocks"):
        read_checkpoint(*write_checkpoint(tmp_path, tensors, compression=1))


def test_conversion_keeps_values_and_tags_and_leaves_the_optimizer_out(tmp_path):
    package, out = tmp_path / "musicnn", tmp_path / "out"
    (tmp_path / "musicnn-0.1.0.dist-info").mkdir()
    (tmp_path / "musicnn-0.1.0.dist-info" / "LICENSE.md").write_text("ISC")
    tensors = {"dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "dense/bias": np.ones(3, np.float32)}
    others = {"dense/kernel/Adam": np.ones((2, 3), np.float32), "beta1_power": np.ones((), np.float32)}
    for dataset in ("MTT", "MSD"):
        (package / f"{dataset}_musicnn").mkdir(parents=True)
        write_checkpoint(package / f"{dataset}_musicnn", tensors | others)
    (package / "configuration.py").write_text("SR = 1\nMTT_LABELS = ['a']\nMSD_LABELS = ['b', 'c']\n")
    convert(tmp_path, out)
    for dataset, tags in (("MTT", ["a"]), ("MSD", ["b", "c"])):
        converted = load_file(out / f"{dataset}.safetensors")
        assert converted.keys() == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(converted[name], array)
        with safe_open(out / f"{dataset}.safetensors", framework="np") as file:
            assert json.loads(file.metadata()["tags"]) == tags
    assert "Universitat Pompeu Fabra" in (WEIGHTS / "LICENSE.md").read_text()
