"""CLAP: its networks, a small one of our own, and embeddings of windows."""
