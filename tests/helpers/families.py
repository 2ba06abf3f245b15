"""An installed package that names a family of models: a module beside the metadata that an installer writes."""

from __future__ import annotations

MODULE = """
from types import SimpleNamespace

from gmsdi.models.adapters import Adapted


def load(where, *, device, precision):
    low = float(where or 0)

    def embed(texts):
        return SimpleNamespace(select=lambda index: None)

    return Adapted(
        lambda x, sigma, _: x / (1 + sigma.reshape(-1, 1, 1) ** 2),
        embed, sample_rate=8000, window=256, labels=("Bass", "Drums", "Piano"), sigma_range=(low, 500.0),
    )
"""


def install(folder, name="toy", module=MODULE):
    """Write the package to a folder, which is then to be on PYTHONPATH; the family takes its lowest noise level."""
    about = folder / f"{name}_models-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}_models.py").write_text(module)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-models\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[gmsdi.models]\n{name} = {name}_models:load\n")
    return folder
