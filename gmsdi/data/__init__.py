"""Data: the composed data set "mini", readers of Slakh2100, MTG-Jamendo and folders of multi-tracks, and windows."""
