"""Data: the composed data set "mini", MIDI songs played with SoundFonts, readers of multi-tracks, and windows."""
