"""What a script depends on: a small package and script by hand, and the workflow's own scripts."""

import ast

import pytest

from gmsdi.errors import UserError
from gmsdi.study.sources import Sources, digest_of_files
from tests import REPO

PACKAGE = {
    "__init__.py": '"""A package."""\n__version__ = "1"\n',
    "used.py": """
from typing import TYPE_CHECKING
from gmsdi import constants, side_effects
from .relative import helper as renamed
if TYPE_CHECKING:
    from gmsdi.checkers import Checked

def entry(x: Checked, how: constants.OTHER = None) -> Checked:
    '''Text.'''
    from gmsdi.lazy import late
    y: Checked = renamed(constants.USED)
    return late(y)

def unused():
    return constants.OTHER
""",
    "constants.py": "USED, PAIR = 1, 2\nOTHER = 3\nNAMED = 'gmsdi.named'\n",
    "relative.py": """
def helper(x):
    return Shape().area(x)

class Shape:
    def area(self, x):
        return DEEP

DEEP = 1
""",
    "lazy.py": "import importlib\ndef late(x):\n    return importlib.import_module('gmsdi.named').build(x)\n",
    "named.py": "from gmsdi.behind import shown\ndef build(x):\n    return x\n",
    "behind.py": "def shown():\n    return 1\n\ndef hidden():\n    return 2\n",
    "checkers.py": "class Checked:\n    pass\n",
    "side_effects.py": """
from gmsdi.registry import register
TABLE = {}
TABLE['x'] = 1

@register
def entered():
    return 1

def plain():
    return 2
""",
    "registry.py": "def register(f):\n    return f\n\ndef other():\n    return 1\n",
    "apart.py": "def apart():\n    return 1\n",
}
SCRIPTS = {
    "job.py": "from _common import job\nfrom gmsdi.used import entry\njob(entry)\n",
    "other.py": "from gmsdi import apart\nprint(apart.apart())\n",
    "_common.py": "def job(x):\n    return x\n\ndef further():\n    return 1\n",
}


@pytest.fixture
def places(tmp_path):
    for folder, files in (("gmsdi", PACKAGE), ("scripts", SCRIPTS)):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    return tmp_path


def digests(places):
    return Sources(places / "scripts", package=places / "gmsdi").digests()


@pytest.mark.parametrize(
    ("file", "old", "new", "reruns"),
    [
        # What is read, and is run by the job, at any depth.
        ("gmsdi/used.py", "late(y)", "late(y + 1)", True),
        ("gmsdi/constants.py", "USED, PAIR = 1, 2", "USED, PAIR = 1, 3", True),
        ("gmsdi/relative.py", "DEEP = 1", "DEEP = 2", True),
        ("gmsdi/named.py", "return x", "return -x", True),
        ("gmsdi/behind.py", "return 1", "return 3", True),
        ("gmsdi/side_effects.py", "TABLE['x'] = 1", "TABLE['x'] = 2", True),
        ("gmsdi/side_effects.py", "return 1", "return 3", True),
        ("gmsdi/registry.py", "return f", "return None", True),
        ("gmsdi/__init__.py", '"1"\n', '"1"\nprint(1)\n', True),
        ("scripts/_common.py", "return x", "return None", True),
        ("scripts/job.py", "job(entry)", "job(job)", True),
        # What is not.
        ("gmsdi/used.py", "'''Text.'''", "'''Other text.'''  # and a comment", False),
        ("gmsdi/used.py", "late(y)", "late(\n        y,\n    )", False),
        ("gmsdi/used.py", "return constants.OTHER", "return 5", False),
        ("gmsdi/constants.py", "OTHER = 3", "OTHER = 4", False),
        ("gmsdi/checkers.py", "pass", "x = 1", False),
        ("gmsdi/registry.py", "return 1", "return 2", False),
        ("gmsdi/side_effects.py", "return 2", "return 3", False),
        ("gmsdi/behind.py", "return 2", "return 3", False),
        ("gmsdi/apart.py", "return 1", "return 2", False),
        ("gmsdi/__init__.py", '"1"', '"2"', False),
        ("scripts/_common.py", "return 1", "return 2", False),
    ],
)
def test_a_digest_changes_with_what_a_job_runs(places, file, old, new, reruns):
    before = digests(places)
    path = places / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = digests(places)
    assert (after["job.py"] != before["job.py"]) == reruns
    alone = (file in ("gmsdi/apart.py", "gmsdi/__init__.py") and "return 1" in old) or "print" in new
    assert (after["other.py"] != before["other.py"]) == bool(alone)


def test_a_digest_does_not_depend_on_the_place(places, tmp_path):
    before = digests(places)
    (tmp_path / "moved").mkdir()
    for name in ("gmsdi", "scripts"):
        (places / name).rename(tmp_path / "moved" / name)
    assert digests(tmp_path / "moved") == before


def test_what_was_read_is_kept_and_not_trusted_too_far(places):
    cache = places / "kept.json"
    first = Sources(places / "scripts", cache, places / "gmsdi").digests()
    assert cache.is_file()
    assert Sources(places / "scripts", cache, places / "gmsdi").digests() == first == digests(places)
    path = places / "gmsdi" / "relative.py"
    path.write_text(path.read_text().replace("DEEP = 1", "DEEP = 2"))
    assert Sources(places / "scripts", cache, places / "gmsdi").digests() == digests(places) != first
    cache.write_text("no JSON")
    assert Sources(places / "scripts", cache, places / "gmsdi").digests() == digests(places)


def test_mistakes_are_named(places):
    (places / "gmsdi" / "relative.py").write_text("def helper(:\n")
    with pytest.raises(UserError, match=r"relative.py: not Python .*line 1"):
        digests(places)
    with pytest.raises(UserError, match=r"nowhere.csv: cannot be read"):
        digest_of_files(places, "nowhere.csv")


def test_the_stages_of_the_workflow_are_apart(tmp_path, monkeypatch):
    """By hand: functions that a stage surely runs, and such as it surely does not."""
    sources = Sources(REPO / "workflow" / "scripts", tmp_path / "kept.json")
    runs = {
        "separate.py": [
            *("gmsdi.inference.separation", "gmsdi.systems.demucs_gibbs", "gmsdi.sampling.samplers"),
            "gmsdi.models.edm.unet",
        ],
        "cost.py": ["gmsdi.inference.separation", "gmsdi.study.methods.base:Solved", "gmsdi.metrics.si_sdr:summarize"],
        "fad.py": ["gmsdi.metrics.frechet:fad_ci"],
        "chunk.py": ["gmsdi.data.windows.building:build_windows", "gmsdi.data.slakh:read_track", "gmsdi.data.decoding"],
        "embed_generated.py": ["gmsdi.metrics.musicnn:MusicNN", "gmsdi.metrics.vggish:VGGish"],
        "table2.py": ["gmsdi.study.tables.table2:table2", "gmsdi.metrics.si_sdr:differences"],
    }
    never = {
        "separate.py": ["gmsdi.metrics.frechet", "gmsdi.study.tables", "gmsdi.training", "gmsdi.models.adapters.adp"],
        "cost.py": ["gmsdi.metrics.frechet", "gmsdi.study.cost", "gmsdi.models.adapters.adp"],
        "fad.py": ["gmsdi.inference", "gmsdi.models.edm", "gmsdi.data.windows"],
        "chunk.py": ["gmsdi.metrics", "gmsdi.models", "gmsdi.inference"],
        "embed_generated.py": ["gmsdi.inference", "gmsdi.metrics.frechet"],
        "table2.py": ["gmsdi.training", "gmsdi.data", "gmsdi.metrics.frechet"],
    }
    for script in runs:
        used = {name for name in sources.used(script) if not name.endswith(">")}  # less what is only imported
        for place in runs[script]:
            assert any(name == place or name.startswith(f"{place}:") for name in used), (script, place)
        for place in never[script]:
            assert not any(name.startswith((f"{place}:", f"{place}.")) for name in used), (script, place)
    first = sources.digests()

    def read_again(*args, **kwargs):
        raise AssertionError("an unchanged file was parsed again")

    monkeypatch.setattr(ast, "parse", read_again)
    assert Sources(REPO / "workflow" / "scripts", tmp_path / "kept.json").digests() == first


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("separate", ["gmsdi.song.separating:separate", "gmsdi.inference.separation:Separator"]),
        ("generate", ["gmsdi.song.generating:generate", "gmsdi.inference.generation"]),
        ("load", ["gmsdi.models.registry:load", "gmsdi.models.edm.unet"]),
        ("GMSDI", ["gmsdi.models.published:GMSDI"]),
    ],
)
def test_names_of_the_package_lead_to_what_is_behind_them(tmp_path, name, runs):
    (tmp_path / "job.py").write_text(f"import gmsdi\nprint(gmsdi.{name})\n")
    used = Sources(tmp_path).used("job.py")
    for place in runs:
        assert any(one == place or one.startswith(f"{place}:") for one in used), place


def test_no_module_is_imported_by_a_name_that_is_put_together():
    """Sources follow imports, and strings that begin with the package's name, but no others."""
    for folder in ("gmsdi", "workflow", "benchmarks"):
        for path in (REPO / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert called.rpartition(".")[2] not in ("import_module", "__import__"), f"{path}:{node.lineno}"
