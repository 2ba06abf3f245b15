"""Data: the composed dataset "mini", readers of Slakh2100, MTG-Jamendo and any folder of multi-tracks, and windows."""
