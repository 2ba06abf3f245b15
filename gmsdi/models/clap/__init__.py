"""CLAP: LAION's networks, a small one of our own, and embeddings of windows."""
