"""A package, so that `tests.helpers` is found here even where a dependency has installed a `tests` of its own."""

from pathlib import Path

REPO = Path(__file__).parents[1]
"""The repository's root."""
