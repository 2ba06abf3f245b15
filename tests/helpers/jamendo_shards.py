"""Stand-ins for shards of MTG-Jamendo: archives of small MP3 files in the original layout, and the list of digests."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from gmsdi.data.versions import JAMENDO_TRACKS, jamendo_shard

# Identifier to sample rate, channels and seconds; the last two digits are the shard.
TRACKS = {
    1500: (44100, 1, 1.7),
    200: (44100, 2, 2.1),
    300: (48000, 1, 1.2),
    801: (22050, 1, 1.5),
    9101: (44100, 1, 2.0),
    9199: (44100, 1, 1.6),
}


def path_of(track: int) -> str:
    return f"{track % 100:02d}/{track}.low.mp3"


def signal_of(track: int) -> np.ndarray:
    """A chord over soft noise, float32 [samples, channels], at the track's rate."""
    rate, channels, seconds = TRACKS[track]
    rng = np.random.default_rng(track)
    time = np.arange(round(rate * seconds)) / rate
    tones = [np.sin(2 * np.pi * frequency * time + k) for k, frequency in enumerate(rng.uniform(100, 3000, 5))]
    envelope = 0.3 + 0.1 * np.sin(2 * np.pi * 3 * time)
    mono = envelope * np.mean(tones, axis=0) + 0.0002 * rng.standard_normal(len(time))
    return np.stack([mono, 0.5 * mono], axis=1)[:, :channels].astype(np.float32)


def mp3(samples: np.ndarray, rate: int) -> bytes:
    output = io.BytesIO()
    soundfile.write(output, samples, rate, format="MP3")
    return output.getvalue()


def tracks() -> dict[str, bytes]:
    """The files of all tracks, by their paths."""
    return {path_of(track): mp3(signal_of(track), TRACKS[track][0]) for track in TRACKS}


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Write files as they are unpacked."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def archives(files: dict[str, bytes]) -> dict[str, bytes]:
    """The archive of every shard of the files, in an order that is not that of the identifiers, and the list."""
    listed = "".join(f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items())
    contents = {JAMENDO_TRACKS: listed.encode()}
    for shard in sorted({path[:2] for path in files}):
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as tar:
            folder = tarfile.TarInfo(shard)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for path, data in files.items():
                if path.startswith(shard):
                    member = tarfile.TarInfo(path)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        contents[jamendo_shard(int(shard))] = output.getvalue()
    return contents


def registry(contents: dict[str, bytes], url: str) -> str:
    """A table of these files on a server; the list has no digest, as the published one."""
    lines = ["name,version,url,mirrors,hash,size,unpacked,licence"]
    for name, data in contents.items():
        digest = "" if name == JAMENDO_TRACKS else f"sha256:{hashlib.sha256(data).hexdigest()}"
        lines.append(f"{name},raw_30s,{url}/{name},,{digest},,,CC")
    return "\n".join(lines) + "\n"
