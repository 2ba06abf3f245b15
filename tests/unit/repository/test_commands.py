"""Documented Snakemake commands keep files and targets apart."""

import re

from tests import REPO

PLACES = ("*.md", "docs/**/*.md", "workflow/**/*.md", "config/*.yaml", "benchmarks/*.py", "gmsdi/**/*.py")


def test_every_word_after_configfile_is_a_configuration():
    """Snakemake takes all words up to the next option for files, and all words after -- for targets."""
    found = []
    for page in (path for place in PLACES for path in REPO.glob(place)):
        text = re.sub(r"\\\n[#\s]*", "", page.read_text(encoding="utf-8"))
        for command in re.findall(r"snakemake [^`\n]*--configfile [^`\n]*", text):
            words = re.search(r"--configfile((?: [^-\s]\S*)+)", command)[1].split()
            found += [(word.strip("'\")"), command, page) for word in words]
            assert not re.search(r" -- .* --\w", command), (command, page)
    assert len(found) > 15
    assert not [entry for entry in found if not entry[0].endswith(".yaml")]
