"""Audio as arrays and files: reading block by block, checking, resampling, writing."""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmsdi.errors import UserError
from gmsdi.io.files import together

Samples: TypeAlias = NDArray[np.float32]
Order: TypeAlias = Literal["little", "big"]
FORMATS: dict[str, dict[str, str]] = {
    "wav": {"float": "FLOAT", "24": "PCM_24", "16": "PCM_16"},
    "flac": {"16": "PCM_16", "24": "PCM_24"},
    "mp3": {"": "MPEG_LAYER_III"},
}
"""Formats that are written, each with its bits, the usual ones first, and what libsndfile calls them."""
CONTAINERS = (".aac", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".opus", ".webm", ".wma")
"""Suffixes of audio that may need ffmpeg to be read."""
SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".w64", ".wav", *CONTAINERS)
"""Suffixes by which a folder's audio files are known."""
RATES = (1_000, 1_000_000)
"""The lowest and the highest sample rate that are taken, in Hz."""
MAX_CHANNELS = 32
"""An array with more channels than this is taken for one whose axes are the wrong way round."""
_LOUDEST = 1e6  # a sample beyond it is no audio: floats of 16-bit integers are within 2¹⁵
_BLOCK = 1 << 18  # samples that are read at a time
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # bytes with their bits from the other end
_SLACK = 0.1  # seconds by which a file may end before its header says: encoders round and pad lengths in their own ways
_CONTAINED = 0.5  # the same of a container that ffmpeg reads, whose lengths are rougher


@dataclass(frozen=True)
class Audio:
    """A signal.

    Attributes:
        samples: float32 `[C, T]`, full scale is ±1.
        sample_rate: in Hz.
    """

    samples: Samples
    sample_rate: int


@dataclass(frozen=True)
class Source:
    """Audio that can be read any number of times, from its beginning to its end, in little memory if it is a file.

    Attributes:
        name: for messages.
        sample_rate: in Hz.
        channels: their number.
        frames: samples of a channel; of a file, as its header says.
        blocks: starts to read: an iterator of float32 `[C, n]`, all finite.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int
    blocks: Callable[[], Iterator[Samples]]

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.sample_rate

    def whole(self) -> Audio:
        """All of it."""
        return Audio(np.concatenate(list(self.blocks()), axis=1), self.sample_rate)


def opened(path: str | Path) -> Source:
    """An audio file: what libsndfile knows (FLAC, WAV, OGG, MP3, ...), and with ffmpeg on the PATH other containers.

    Raises:
        UserError: if it cannot be read, is empty, or is cut off by what its header says; while it is read, also if it
            is damaged further on, or holds NaN or infinite samples.
    """
    import soundfile

    path = Path(path)
    try:
        mode = None if str(path) == "-" else path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "no such audio file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
        raise UserError(f"{path}: {reason}") from error
    if mode is None or stat.S_ISFIFO(mode):
        raise UserError(f"{path}: a pipe, which cannot be read twice; save it to a file first")
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: a folder, where an audio file is expected")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: a device, where an audio file is expected; save what it holds to a file first")
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        return _by_ffmpeg(path, error)
    rate, frames = _require_rate(info.samplerate, str(path)), info.frames
    if frames == 0:
        raise UserError(f"{path}: holds no audio")
    if (missing := _missing(path)) * frames > _SLACK * rate:
        raise UserError(f"{path}: {missing:.0%} of what its header says is missing, it is cut off; fetch it again")
    if fault := _fault(path, info):
        raise UserError(f"{path}: {fault}; fetch it again")

    def blocks() -> Iterator[Samples]:
        read = 0
        try:
            with soundfile.SoundFile(path) as file:
                while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                    read += len(block)
                    yield checked(block.T, str(path))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise UserError(f"{path}: damaged, it cannot be decoded after {read / rate:.1f} s") from error
        if read < frames - _SLACK * rate:
            raise UserError(
                f"{path}: ends after {read / rate:.1f} of {frames / rate:.1f} s, it is cut off; fetch it again"
            )

    return Source(str(path), rate, info.channels, frames, blocks)


def _by_ffmpeg(path: Path, error: Exception) -> Source:
    """A file that libsndfile does not know; it is decoded anew whenever it is read, and once to know its length."""
    decoded = _decoded(path, error)
    rate, channels = next(decoded)
    frames = sum(block.shape[1] for block in decoded)
    if frames == 0:
        raise UserError(f"{path}: holds no audio")

    def blocks() -> Iterator[Samples]:
        again = _decoded(path, error)
        next(again)
        for block in again:
            yield checked(block, str(path))

    return Source(str(path), _require_rate(rate, str(path)), channels, frames, blocks)


def as_source(source: str | Path | Audio | Source | ArrayLike, sample_rate: int | None, name: str = "audio") -> Source:
    """A file, `Audio`, or an array `[T]` or `[C, T]` with its sample rate, to be read block by block.

    Integers are taken for fractions of full scale, as audio files have them: int16 for 32768ths.

    Raises:
        UserError: as `opened`, and if an array comes without a sample rate, of another number of axes or type.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | Path):
        return opened(source)
    array = source.samples if isinstance(source, Audio) else source
    given = source.sample_rate if isinstance(source, Audio) else sample_rate
    if given is None:
        raise UserError(f"{name}: an array needs its sample_rate")
    samples, rate = _amplitudes(array, name), _require_rate(given, name)

    def blocks() -> Iterator[Samples]:
        for start in range(0, samples.shape[1], _BLOCK):
            yield samples[:, start : start + _BLOCK]

    return Source(name, rate, len(samples), samples.shape[1], blocks)


def as_audio(source: str | Path | Audio | ArrayLike, sample_rate: int | None, name: str = "audio") -> Audio:
    """The same, all of it.

    Raises:
        UserError: see `as_source`.
    """
    return as_source(source, sample_rate, name).whole()


def read(path: str | Path) -> Audio:
    """All of an audio file.

    Raises:
        UserError: see `opened`.
    """
    return as_audio(Path(path), None)


def checked(samples: NDArray[np.floating], name: str) -> Samples:
    """`samples` as float32 `[C, T]`.

    Raises:
        UserError: if there are none, or they are not all finite, or no audio by their size.
    """
    if samples.ndim != 2 or samples.size == 0:
        raise UserError(f"{name}: holds no audio (shape {samples.shape}; channels x samples are expected)")
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: holds NaN or infinite samples; repair or exclude it")
    if (peak := float(np.abs(samples).max())) > _LOUDEST:
        raise UserError(f"{name}: holds a sample of {peak:.3g}, and full scale is 1; repair or exclude it")
    return np.ascontiguousarray(samples, dtype=np.float32)


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Resample `[C, T]` from `source` to `target` Hz."""
    if source == target:
        return samples
    import soxr

    return np.ascontiguousarray(soxr.resample(samples.T, source, target, quality="VHQ").T)


def resampled(blocks: Iterable[Samples], source: int, target: int, channels: int) -> Iterator[Samples]:
    """The same of a signal that comes in blocks `[C, n]`; the result is that of the whole, bit for bit."""
    if source == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source, target, channels, dtype="float32", quality="VHQ")
    for block in blocks:
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, channels).T)
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
    yield np.ascontiguousarray(rest.reshape(-1, channels).T)


def fit(samples: Samples, length: int) -> Samples:
    """Crop `[C, T]` or pad it with zeros to `length` samples."""
    return np.pad(samples[:, :length], ((0, 0), (0, max(0, length - samples.shape[1]))))


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """16-bit samples, the inverse of reading a 16-bit file: those come back bit for bit. Beyond ±1 they are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def rounded(samples: Samples) -> Samples:
    """`samples` in whole steps of a 16-bit file, which keeps them bit for bit within ±1."""
    return np.rint(samples * np.float32(32768)) / np.float32(32768)


@dataclass(frozen=True)
class Encoding:
    """How audio is written.

    Attributes:
        format: "wav", "flac" or "mp3".
        bits: "float", "24" or "16" of a WAV, "24" or "16" of a FLAC; None is float of a WAV and 16 of a FLAC.

    Raises:
        UserError: for another format, or bits that it does not have.
    """

    format: str = "wav"
    bits: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; choose {', '.join(FORMATS)}")
        known = FORMATS[self.format]
        if self.bits is not None and self.bits not in known:
            choice = "leave them out" if "" in known else f"choose {' or '.join(known)}"
            raise UserError(f"bits are {self.bits!r}, which {self.format} does not have; {choice}")

    @staticmethod
    def of(path: Path, bits: str | None = None) -> Encoding:
        """That of a file name.

        Raises:
            UserError: for another suffix.
        """
        if path.suffix.lstrip(".") not in FORMATS:
            raise UserError(f"{path}: audio is written as {', '.join(f'.{name}' for name in FORMATS)}")
        return Encoding(path.suffix.lstrip("."), bits)

    @property
    def subtype(self) -> str:
        """Libsndfile's name."""
        known = FORMATS[self.format]
        return known[next(iter(known)) if self.bits is None else self.bits]

    def size(self, frames: int, sample_rate: int, channels: int) -> int:
        """Bytes of a file at most."""
        if self.format == "mp3":
            return 40_000 * math.ceil(frames / sample_rate)  # of 320 kbit/s
        return frames * channels * {"FLOAT": 4, "PCM_24": 3, "PCM_16": 2}[self.subtype] + 4096

    def require(self, sample_rate: int, channels: int, name: str) -> None:
        """Try to write a moment of silence into memory.

        Raises:
            UserError: if the format has no such rate, or not so many channels.
        """
        import soundfile

        if sample_rate == 0 or channels == 0:
            return
        try:
            blank = np.zeros((16, channels), np.float32)
            soundfile.write(io.BytesIO(), blank, sample_rate, format=self.format.upper(), subtype=self.subtype)
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{name}: {self.format} cannot hold {channels} channels at {sample_rate} Hz; write wav, or resample it"
            ) from error


@dataclass(frozen=True)
class Target:
    """A file of audio that is to be written.

    Attributes:
        path: where.
        sample_rate: in Hz.
        channels: their number.
        frames: samples of a channel, about.
        title: what it says that it is; None says nothing.
        mark: how it is known again, see `mark_of`.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    title: str | None = None
    mark: str | None = None


@contextmanager
def writing(targets: Sequence[Target], encoding: Encoding) -> Iterator[list[Callable[[Samples], None]]]:
    """Files that appear together when all are complete: functions that take their blocks `[C, n]`. Warns if one clips.

    A WAV of more than 4 GB is written as RF64.

    Raises:
        UserError: if a place cannot be written to.
    """
    with together([target.path for target in targets]) as temporaries, ExitStack() as stack:
        yield [
            stack.enter_context(_encoded(temporary, target, encoding))
            for temporary, target in zip(temporaries, targets, strict=True)
        ]


@contextmanager
def _encoded(temporary: Path, target: Target, encoding: Encoding) -> Iterator[Callable[[Samples], None]]:
    """One of the files, under its temporary name."""
    import soundfile

    large = encoding.format == "wav" and encoding.size(target.frames, target.sample_rate, target.channels) > 4e9
    container = "RF64" if large else encoding.format.upper()
    peak, scale = 0.0, {"PCM_16": 1 << 15, "PCM_24": 1 << 23}.get(encoding.subtype)

    def write(samples: Samples) -> None:
        nonlocal peak
        peak = max(peak, float(np.abs(samples).max(initial=0)))
        data: NDArray = samples.T
        if scale is not None:  # whole steps, so that what was read from such a file comes back bit for bit
            steps = np.clip(np.rint(data * float(scale)), -scale, scale - 1).astype(np.int32)
            data = steps.astype(np.int16) if scale == 1 << 15 else steps << 8
        file.write(data)

    try:
        with soundfile.SoundFile(
            temporary, "w", target.sample_rate, target.channels, subtype=encoding.subtype, format=container
        ) as file:
            for key, text in (("title", target.title), ("comment", target.mark)):
                if text is not None:
                    setattr(file, key, text)
            yield write
    except soundfile.LibsndfileError as error:
        raise UserError(f"{target.path}: cannot be written ({str(error).rstrip('.')}); is the disk full?") from error
    _timeless(temporary)
    if peak > 1 and encoding.subtype != "FLOAT":
        warnings.warn(f"{target.path.name} clips (peak {peak:.2f}); write WAV in float to keep it", stacklevel=3)


def _timeless(path: Path) -> None:
    """Take out the time that libsndfile puts beside the peaks of a WAV in float: same samples, same bytes."""
    with path.open("r+b") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return
        while len(chunk := file.read(8)) == 8 and chunk[:4] != b"data":
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"PEAK":  # version, time, then the peaks
                file.seek(4, io.SEEK_CUR)
                file.write(bytes(4))
                return
            file.seek(length + length % 2, io.SEEK_CUR)


def mark_of(song: str | Path) -> str:
    """What a song's stems are marked with: its name, in a form that every format can hold."""
    return f"gmsdi: part of {zlib.crc32(os.fsencode(Path(song).name)):08x}"


def marked(path: Path) -> str | None:
    """What a file is marked with; None if it is not."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            return str(file.comment) or None
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None


def write(path: str | Path, audio: Audio, *, bits: str | None = None) -> Path:
    """Write a WAV, FLAC or MP3 file, by its suffix; it appears when it is complete. Warns if it clips.

    Raises:
        UserError: for another suffix, if the format cannot hold the audio, or the place cannot be written to.
    """
    (path,) = write_all({Path(path): audio}, Encoding.of(Path(path), bits))
    return path


def write_all(files: Mapping[Path, Audio], encoding: Encoding) -> list[Path]:
    """Write several, of one format; all of them appear, or none does.

    Raises:
        UserError: see `write`.
    """
    targets = []
    for path, audio in files.items():
        channels, frames = audio.samples.shape
        encoding.require(audio.sample_rate, channels, str(path))
        targets.append(Target(path, audio.sample_rate, channels, frames))
    with writing(targets, encoding) as add:
        for put, audio in zip(add, files.values(), strict=True):
            put(audio.samples)
    return list(files)


def _require_rate(rate: Any, name: str) -> int:
    """A sample rate as a whole number.

    Raises:
        UserError: if it is none, or out of range.
    """
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not RATES[0] <= rate <= RATES[1] or rate != int(rate):
        raise UserError(
            f"{name}: sample rate is {rate!r}; it must be a whole number of Hz from {RATES[0]} to {RATES[1]}"
        )
    return int(rate)


def _amplitudes(source: Any, name: str) -> Samples:
    """An array as float32 `[C, T]`, full scale ±1.

    Raises:
        UserError: for another number of axes or type, or if the axes seem to be the wrong way round.
    """
    array = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    if array.dtype in (np.int16, np.int32):
        array = array / np.float64(-np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise UserError(f"{name}: an array of {array.dtype}; give floats within ±1, int16 or int32")
    array = np.atleast_2d(array)
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS and array.shape[0] > array.shape[1]:
        raise UserError(f"{name}: an array of shape {array.shape}, but channels come first; give its transpose")
    with np.errstate(over="ignore"):
        return checked(array.astype(np.float32), name)


def _missing(path: Path) -> float:
    """The share of a file that is missing by what its header says; 0 if it does not say.

    For WAV, RF64, W64, AIFF, AU, and MP3 with the header of an encoder.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(40)
        kind, form = head[:4], head[8:12]
        if kind in (b"RIFF", b"RF64", b"BW64") and form == b"WAVE":
            return _missing_data(file, size, start=12, id=4, length=4, order="little")
        if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
            return _missing_data(file, size, start=12, id=4, length=4, order="big")
        if kind == b"riff" and head[24:28] == b"wave":
            return _missing_data(file, size, start=40, id=16, length=8, order="little")
        if kind in (b".snd", b"dns."):
            order: Order = "big" if kind == b".snd" else "little"
            start, length = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
            return _share(size - start, length, 4)
        start = 0
        if head[:3] == b"ID3":
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        frame = file.read(512)
    for mark in (b"Xing", b"Info"):  # of the first frame of an MP3: flags, frames, bytes
        place = frame.find(mark)
        if place >= 0 and frame[:1] == b"\xff" and frame[place + 7] & 3 == 3:
            return max(0.0, 1 - (size - start) / max(1, int.from_bytes(frame[place + 12 : place + 16], "big")))
    return 0.0


def _missing_data(file: BinaryIO, size: int, *, start: int, id: int, length: int, order: Order) -> float:
    """The same of a file of chunks, by the one with the samples.

    Args:
        file: the file.
        size: of it, in bytes.
        start: of the first chunk.
        id: bytes of a chunk's name.
        length: bytes of its length. Of 8 bytes, it counts the chunk's head, too.
        order: of these bytes.
    """
    large = 0  # what an RF64 says in place of its data's length, which has too few bytes
    file.seek(start)
    while len(head := file.read(id + length)) == id + length:
        name, body = head[:4], int.from_bytes(head[id:], order) - (id + length if length == 8 else 0)
        if name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], order)
            file.seek(-16, io.SEEK_CUR)
        elif name in (b"data", b"SSND"):
            return _share(size - file.tell(), large or body, 8 if large else length)
        if body < 0:
            break
        file.seek(body + -body % length if length == 8 else body + body % 2, io.SEEK_CUR)
    return 0.0


def _share(there: int, declared: int, bytes: int) -> float:
    """The share that is missing. A length that was not known when a file was begun is 0 or the highest of its bytes."""
    known = 0 < declared < (1 << 8 * bytes - 1 if bytes == 8 else 0xFFFF0000)
    return max(0.0, 1 - there / declared) if known else 0.0


def _fault(path: Path, info: Any) -> str | None:
    """What is wrong with an Ogg or FLAC file, as far as can be told without decoding it."""
    if info.format == "OGG":
        return _ogg_fault(path)
    if info.format == "FLAC":
        import soundfile

        try:
            with soundfile.SoundFile(path) as file:
                file.seek(info.frames - 1)
                there = len(file.read(1)) == 1
        except (soundfile.LibsndfileError, RuntimeError):
            there = False
        return None if there else "has no end, it is cut off or damaged"
    return None


def _ogg_fault(path: Path) -> str | None:
    """The same of an Ogg file, page by page (RFC 3533): each has a checksum, and the last says that it is the last."""
    with path.open("rb") as file:
        last = False
        while head := file.read(27):
            if head[:4] != b"OggS":
                if last:  # a tag after the end
                    break
                return "is damaged"
            lengths = file.read(head[26] if len(head) == 27 else 0)
            body = file.read(sum(lengths))
            if len(head) < 27 or len(lengths) < head[26] or len(body) < sum(lengths):
                return "has no end, it is cut off"
            page = (head[:22] + bytes(4) + head[26:] + lengths + body).translate(_MIRRORED)
            # Of the same polynomial as that of zlib, which begins and ends with all bits set, and from the other end.
            checksum = (zlib.crc32(page, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_MIRRORED)
            if checksum != head[22:26]:
                return "is damaged"
            last = bool(head[5] & 4)
    return None if last else "has no end, it is cut off"


def _decoded(path: Path, error: Exception) -> Iterator[Any]:
    """A file that libsndfile does not know, as ffmpeg decodes it: sample rate and channels, then blocks `[C, n]`.

    Raises:
        UserError: if there is no ffmpeg, or it does not know the file either; at the end, if the file was cut off.
    """
    ffmpeg, known = shutil.which("ffmpeg"), path.suffix.lower() in CONTAINERS
    if ffmpeg is None:
        what = "it needs ffmpeg, which is not on the PATH" if known else "is it damaged?"
        raise UserError(f"{path}: not a readable audio file ({str(error).rstrip('.')}); {what}") from error
    words = [ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-xerror"]
    words += ["-i", f"file:{path}", "-vn", "-c:a", "pcm_f32le"]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*words, "-f", "wav", "-"], stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None
        try:
            process.stdout.read(12)
            channels = rate = frames = 0
            while (chunk := process.stdout.read(8)) and chunk[:4] != b"data":
                body = process.stdout.read(int.from_bytes(chunk[4:], "little"))
                if chunk[:4] == b"fmt ":
                    channels, rate = struct.unpack("<HI", body[2:8])
                    yield rate, channels
            while channels and (data := process.stdout.read(4 * channels * _BLOCK)):
                block = np.frombuffer(data, "<f4").reshape(-1, channels).T
                frames += block.shape[1]
                yield block
            failed = process.wait() or not channels
        finally:
            process.kill()
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
        if failed:
            reasons = [line.strip() for line in lines if line.strip() and not line.startswith("[info]")]
            reason = reasons[-1].replace("[error] ", "").replace("[fatal] ", "") if reasons else "no audio"
            raise UserError(f"{path}: not a readable audio file ({reason}); is it damaged?") from error
        if any("ended prematurely" in line for line in lines):
            raise UserError(f"{path}: ends after {frames / rate:.1f} s, before its end; fetch it again")
        declared = _duration(lines)
        if declared is not None and frames < (declared - _CONTAINED) * rate:
            raise UserError(
                f"{path}: holds {frames / rate:.1f} of {declared:.1f} s, it is cut off or damaged; fetch it again"
            )


def _duration(lines: Sequence[str]) -> float | None:
    """The seconds that a container declares, by what ffmpeg says about it; None if it does not, or for a video."""
    text = "\n".join(lines).partition("Output #0")[0]
    videos = [line for line in text.splitlines() if ": Video:" in line and "(attached pic)" not in line]
    found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", text)
    if found is None or videos or "Estimating duration" in text:
        return None
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
