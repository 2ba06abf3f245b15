"""Windows of a data set's split at a model's sample rate: a folder of memory-mapped audio and small tables.

Building resamples every track once. The folder holds

- `mix.npy` int16 `[total]`, all tracks end to end; in Slakh2100 a mixture is the sum of the stems of the classes,
- `stems.npy` int16 `[K, total]`, only on request (evaluation, models of stems); zeros for classes that a track lacks;
  with C > 1 channels, the two are `[C, total]` and `[K · C, total]`,
- `tracks.csv` (track, start, length), in samples of `mix.npy`,
- `activity.csv` (track, label, onset, offset), in seconds,
- `windows.csv` (track, split, offset, active): windows without overlap, `offset` in samples within the track, `active`
  the labels that sound in the window,
- `info.json`, the settings, and the tracks that were left out, with the reasons.

Mixtures without labels, as in MTG-Jamendo, have neither classes nor stems nor activity.

Disk space: 2 bytes per sample, and 2 K more with stems. At 22 050 Hz, the 1500 training tracks of Slakh2100 (104 hours)
take 16.5 GB, and 66 GB more for their four stems; the 225 test tracks take 2.5 and 9.9 GB; MTG-Jamendo (3 777 hours)
takes 600 GB, 6 GB per shard.

Memory: one track per worker. Slakh2100 takes 14 bytes per sample of the files (250 MB for seven minutes at 44.1 kHz);
multi-tracks take 2 K + 22 bytes per sample of the windows (280 MB for seven minutes of four classes at 22 050 Hz);
MTG-Jamendo takes 2 bytes per sample of the windows (160 MB per hour at 22 050 Hz).
"""

from gmsdi.data.windows.building import build_mixture_windows, build_multitrack_windows, build_windows
from gmsdi.data.windows.reading import WindowSet

__all__ = ["WindowSet", "build_mixture_windows", "build_multitrack_windows", "build_windows"]
