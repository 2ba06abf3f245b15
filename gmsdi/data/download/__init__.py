"""Downloads of the public data sets: Slakh2100, BabySlakh and MTG-Jamendo.

`registry.csv` lists the files, with hashes, sizes and licences. Only the wanted members of an archive are unpacked,
into a hidden folder; they are moved into place once they are verified. `archive` says what to do with the archive:

- "buffer": download it first, and delete it when its members are in place. A killed download resumes where it stopped.
- "keep": the same, but keep the archive. Later calls unpack other members from it.
- "stream": unpack members while the archive arrives, without storing it. Lost connections are resumed, but if the
  process is killed, the download starts over.
"""

from gmsdi.data.download.jamendo import download_jamendo
from gmsdi.data.download.slakh import download_slakh
from gmsdi.data.registry import REGISTRY, find_entry, read_registry
from gmsdi.io.transfer import ProgressBar, fetch

__all__ = [
    "REGISTRY",
    "ProgressBar",
    "download_jamendo",
    "download_slakh",
    "fetch",
    "find_entry",
    "read_registry",
]
