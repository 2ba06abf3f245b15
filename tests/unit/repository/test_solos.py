"""The published comparison of a training with solos and one without."""

import numpy as np
import pandas as pd

from benchmarks.solos import FILE, PAGE, lines


def test_the_page_shows_the_file_and_differences_are_of_the_same_windows():
    found = pd.read_csv(FILE)
    assert "\n".join(lines(found)) in PAGE.read_text(encoding="utf-8")
    np.testing.assert_allclose(found["active_with"] - found["active_without"], found["active_difference"], atol=2e-3)
    for name in ("with", "without", "difference"):
        assert found[f"active_{name}"].between(found[f"active_low_{name}"], found[f"active_high_{name}"]).all()
