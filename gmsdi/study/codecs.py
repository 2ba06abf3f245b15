"""The stage that measures codecs: how well they preserve signals, and how far they are from being additive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.study.chunks import ALL, labels_in
from gmsdi.study.counting import CALL
from gmsdi.study.sheets import Cell, Sheet

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.models.autoencoder import Codec

MIXTURE = "mixture"
ERRORS = {"encoder": "E", "decoder": "Dec"}


def score_codec(codec: Codec, windows: WindowSet) -> pd.DataFrame:
    """Encode and decode the chunks of the test split.

    Args:
        codec: in float32.
        windows: with stems.

    Returns:
        track, chunk, stem (a label that is active in the chunk, or "mixture") and si_sdr of Dec(E(x)) in dB.
        Mixtures of two or more active stems also have errors of additivity: encoder, ‖E(y) − Σ E(x_k)‖²/‖E(y)‖², and
        decoder, ‖Dec(Σ z_k) − Σ Dec(z_k)‖²/‖Dec(Σ z_k)‖² with z_k = E(x_k). Silent chunks have no row.
    """
    import torch

    from gmsdi.metrics.si_sdr import si_sdr
    from gmsdi.models.autoencoder import relative_error

    rows = []
    for start in range(0, len(windows), CALL):
        chunks = windows.table.index[start : start + CALL].tolist()
        stems = torch.from_numpy(windows.stems(chunks))
        signals = torch.cat([stems, stems.sum(dim=1, keepdim=True)], dim=1)
        with torch.no_grad():
            z = codec.encode(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])
            y = codec.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
            together = z[:, :-1].sum(dim=1)
            encoder = relative_error(together, z[:, -1]).tolist()
            decoder = relative_error(y[:, :-1].sum(dim=1), codec.decode(together)).tolist()
        found = si_sdr(y[:, :, 0].numpy(), signals[:, :, 0].numpy())
        for place, chunk in enumerate(chunks):
            row = windows.table.loc[chunk]
            active = labels_in(row["active"])
            for label, value in zip([*windows.labels, MIXTURE], found[place], strict=True):
                if label == MIXTURE and len(active) > 1:
                    rows.append((row["track"], chunk, label, value, encoder[place], decoder[place]))
                elif label in active or (label == MIXTURE and active):
                    rows.append((row["track"], chunk, label, value, np.nan, np.nan))
    return pd.DataFrame(rows, columns=["track", "chunk", "stem", "si_sdr", *ERRORS])


def codecs_table(scores: Mapping[str, pd.DataFrame], configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Summarise the scores of codecs.

    Args:
        scores: tables from `score_codec`, by codec name.
        configs: contents of the codecs' `config.json`.

    Returns:
        codec, values (latent values per second), stem (each label, "All" and "mixture"), si_sdr (mean, in dB), scores,
        tracks and, for mixtures, encoder and decoder, the errors of additivity in dB.
    """
    parts = []
    for name, table in scores.items():
        own, config = configs[name]["codec"], configs[name]
        groups = dict(iter(table.groupby("stem", sort=False)))
        mixtures = groups.pop(MIXTURE)
        groups = {label: groups[label] for label in config["labels"] if label in groups}
        groups |= {ALL: pd.concat(groups.values()), MIXTURE: mixtures}
        for stem, group in groups.items():
            errors = {
                key: 10 * np.log10(np.maximum(group[key].mean(), 1e-12)) for key in ERRORS
            }  # NaN except for mixtures
            facts = {"codec": name, "values": config["sample_rate"] * own["latents"] / own["hop"], "stem": stem}
            counts = {"scores": len(group), "tracks": group["track"].nunique()}
            parts.append({**facts, "si_sdr": group["si_sdr"].mean(), **counts, **errors})
    return pd.DataFrame(parts)


def codecs_sheet(table: pd.DataFrame) -> Sheet:
    """The table of codecs for readers: a row per codec."""
    stems = list(dict.fromkeys(table["stem"]))
    rows: list[list[Cell | str]] = []
    for name, group in table.groupby("codec", sort=False):
        cells = group.set_index("stem")
        numbers = [Cell(f"{cells.at[stem, 'si_sdr']:.1f}") for stem in stems]
        errors = [Cell(f"{cells.at[MIXTURE, key]:.1f}") for key in ERRORS]
        rows.append([str(name), Cell(f"{cells.at[MIXTURE, 'values']:g}"), *numbers, *errors])
    overall = table[table["stem"] == ALL]
    return Sheet(
        "Codecs of latents",
        ["Codec", "Values per second", *stems, *ERRORS.values()],
        rows,
        [
            "SI-SDR of decoded latents, in dB: an upper bound for the stems of a model of these latents, unless the "
            f"residual is added to them or they are filtered from the mixture. Means over {overall['scores'].max()} "
            f"active stems of {overall['tracks'].max()} tracks. E: how much the latents of a mixture differ from the "
            "sum of its stems' latents. Dec: how much the decoded sum of the stems' latents differs from the sum of "
            "the decoded stems. Both are relative to the whole, in dB; lower is better, and a linear codec only has "
            "rounding errors."
        ],
    )
