"""Audio that libsndfile does not know, decoded by ffmpeg."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.audio.signals import BLOCK

CONTAINERS = (".aac", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".opus", ".webm", ".wma")
"""Suffixes of audio that may need ffmpeg to be read."""
_CONTAINED = 0.5  # seconds by which it may be shorter than its container says, since such lengths are rough


def decode(path: Path, error: Exception) -> Iterator[Any]:
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
            while channels and (data := process.stdout.read(4 * channels * BLOCK)):
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
                f"{path}: holds {frames / rate:.1f} of {declared:.1f} s: it is cut off or damaged; fetch it again"
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
