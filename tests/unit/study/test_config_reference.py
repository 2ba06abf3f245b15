"""config/README.md is what its command writes, has every key, and renders."""

import re

from gmsdi.study.config import load, validate
from gmsdi.study.config.rows import SECTIONS
from gmsdi.study.config_reference import PAGE, SCHEMA, editors, reference


def test_the_generated_files_are_those_of_the_models():
    assert PAGE.read_text() == reference(), "run `make docs`"
    assert SCHEMA.read_text() == editors(), "run `make docs`"


def test_kinds_of_rows_describe_a_key_by_the_same_words():
    """The page and the schema have one description for all of them."""
    told = {}
    for section in SECTIONS.values():
        for key, field in section.model_fields.items():
            told.setdefault(key, set()).add(field.description)
    assert {key: words for key, words in told.items() if len(words) > 1} == {}


def rows(page):
    """The cells of every row of every table."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| ")]


def test_every_key_of_a_configuration_has_its_row():
    """Walks the demo's configuration with its defaults, in which every mapping but a user's own is written out."""
    page = PAGE.read_text()
    types = {row[0].strip().strip("`"): row[1] for row in rows(page)}
    config = validate(load())
    own = {
        "data.classes",
        "data.midi.variety.section_sizes",
        "data.mini.section_sizes",
        "data.mini.programs",
        "generation.negatives",
    }
    own |= {"baselines.demucs_gibbs.model.demucs", "codec.variants"}

    def look(section, path):
        for key, value in section.items():
            assert f"{path}{key}" in types or f"[{path}{key}](#{key})" in types, path + key
            shared = re.search(r"\(#(keys-of-)?(\w+)\)", types.get(f"{path}{key}", ""))
            if shared and shared[1]:
                table = page.split(f"### Keys of `{shared[2]}`")[1].split("###")[0]
                keys = {row[0].strip().strip("`") for row in rows(table)}
                named = "mapping to" in types[f"{path}{key}"]  # names of the user's own, each with these keys
                for mapping in value.values() if named else [value]:
                    assert set(mapping if isinstance(mapping, dict) else ()) <= keys
            elif shared:
                assert {f"{shared[2]}.{inner}" for inner in value} <= set(types)
            elif isinstance(value, dict) and f"{path}{key}" not in own:
                look(value, f"{path}{key}.")

    look(config, "")


def test_tables_and_links_render():
    page = PAGE.read_text()
    assert all(len(row) == 4 and row[3].strip() for row in rows(page))
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors
    prose = re.sub(r"`[^`]*`|```.*?```|<!--.*?-->", "", page, flags=re.DOTALL)
    assert re.findall(r"(?<!\\)(?:<[a-z/]|\*)", prose) == []
