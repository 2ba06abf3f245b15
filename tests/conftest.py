"""The order of the test files: those that take minutes come first, so that none of them runs alone at the end."""

import pytest

from tests import REPO

LONGEST = (
    "tests/integration/test_workflow.py",
    "tests/unit/repository/test_scaling.py",
    "tests/unit/study/test_cost.py",
    "tests/unit/cli/test_cli.py",
    "tests/integration/test_latent.py",
    "tests/integration/test_songs_end_to_end.py",
    "tests/peers/test_engines_workflow.py",
    "tests/integration/test_pretrained.py",
    "tests/unit/models/test_hub.py",
    "tests/unit/workflow/test_slakh.py",
    "tests/unit/workflow/test_jamendo.py",
    "tests/unit/test_presets.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {REPO / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
