"""CLAP: LAION's networks, a small one of our own, and embeddings of windows."""

CLAPS = ("clap", "laion_clap")
"""The values of `text.kind` with which a model is trained on embeddings by a CLAP."""
