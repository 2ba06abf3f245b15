"""Arrays that are filled track by track, so that an interrupted build can be continued."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, require_space

Heard = dict[str, Any]
"""What decoding a track reveals: `activity`, the spans of each label, and `clipped`, a number of samples."""


class Store:
    """Arrays that several threads fill track by track, and that survive the end of the process.

    A track is noted only when its samples are on the disk, so that noted tracks are complete even after a power cut.

    Args:
        work: folder that holds the arrays' folder, the layout and the notes; it is emptied if its layout differs.
        layout: everything that determines the arrays, apart from the content of the files.
        shapes: the shape of each int16 array, `[T]` or `[rows, T]`.
    """

    def __init__(self, work: Path, layout: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.folder = work / "windows"
        self._work = work
        self._shapes = shapes
        self._lock = threading.Lock()
        self._notes = work / "done.txt"
        mark = work / "layout.json"
        text = json.dumps({**layout, "shapes": shapes})
        try:
            known = mark.exists() and mark.read_text() == text
            if not known or not all((self.folder / name).exists() for name in shapes):
                shutil.rmtree(work, ignore_errors=True)
                self.folder.mkdir(parents=True)
                needed = sum(2 * math.prod(shape) for shape in shapes.values())
                require_space(self.folder, needed, "cutting windows", advice="or cut fewer tracks")
                for name, shape in shapes.items():
                    np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=np.int16, shape=shape)
                self._notes.touch()
                with atomic(mark) as file:
                    file.write_text(text)
            lines = self._notes.read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError as error:
            raise UserError(f"{work}: cannot be written ({error.strerror}); choose another folder") from error
        # The last line may be incomplete.
        notes = (line.rstrip("\n").partition("\t") for line in lines if line.endswith("\n"))
        self._done: dict[str, Heard] = {what: json.loads(heard or "{}") for what, _, heard in notes}
        self._offsets = {name: int(np.load(self.folder / name, mmap_mode="r").offset) for name in shapes}

    def found(self, track: str, fingerprint: str) -> Heard | None:
        """What decoding a track with these files revealed; None if it is not stored."""
        return self._done.get(f"{track} {fingerprint}")

    def write(self, start: int, parts: Mapping[str, np.ndarray]) -> None:
        """Store int16 `[T]` or `[rows, T]` in each array, beginning at sample `start`."""
        try:
            for name, samples in parts.items():
                with (self.folder / name).open("r+b", buffering=0) as file:
                    for row, values in enumerate(np.atleast_2d(samples)):
                        file.seek(self._offsets[name] + 2 * (row * self._shapes[name][-1] + start))
                        view = np.ascontiguousarray(values).data.cast("B")
                        while view:
                            view = view[file.write(view) :]
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}); free space and run again to continue"
            ) from error

    def note(self, track: str, fingerprint: str, heard: Heard) -> None:
        """Note that a track has been written."""
        more = f"\t{json.dumps(heard)}" if heard else ""
        with self._lock, self._notes.open("a", encoding="utf-8") as file:
            file.write(f"{track} {fingerprint}{more}\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self, out: Path) -> None:
        """Move the folder of arrays to its final name, replacing what is there."""
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(self.folder, out)
        shutil.rmtree(self._work)
