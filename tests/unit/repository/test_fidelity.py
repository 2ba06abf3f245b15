"""docs/fidelity.md names files that exist, and has a place for every table that its command writes."""

import ast
import re

from benchmarks import fidelity
from tests import REPO

PAGE = (REPO / "docs" / "fidelity.md").read_text()


def test_every_claim_names_its_file_and_its_test():
    claims = re.findall(r"^\| (?:Eq|Sect|Table)[^|]*\| `([^`]*)` \| `([^`]*)` \|", PAGE, re.MULTILINE)
    assert len(claims) == len(re.findall(r"^\| (?:Eq|Sect|Table)", PAGE, re.MULTILINE)) > 10
    for file, test in claims:
        assert (REPO / "gmsdi" / file).is_file(), file
        assert (REPO / "tests" / test).is_file(), test


def test_every_table_and_figure_has_its_place():
    script = ast.parse((REPO / "benchmarks" / "fidelity.py").read_text())
    functions = {node.name for node in script.body if isinstance(node, ast.FunctionDef)}
    places = re.findall(r"<!-- (\w+) -->\n\| .*?<!-- end -->", PAGE, re.DOTALL)
    assert places
    assert set(places) <= functions
    for link in re.findall(r"\]\((figures/[^)]*)\)", PAGE):
        assert (REPO / "docs" / link).is_file()


def test_the_table_of_orders_is_the_one_that_its_command_computes():
    body = re.search(r"<!-- orders -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)[1]
    assert fidelity.orders() == body.splitlines()
