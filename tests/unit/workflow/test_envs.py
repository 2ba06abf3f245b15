"""The conda environments: pinned as in the lock, as pyproject.toml asks, and complete for the rules that name them."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests import REPO
from tests.conda.standin import closure, requirements

ENVS = sorted(path.stem for path in (REPO / "envs").glob("*.yaml"))
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
EXTRAS = {"core": ["gibbs", "midi", "pretrained", "train", "workflow"]}
"""The extras that an environment covers, and with them what the package itself asks for."""
ENGINES = {"frechet_audio_distance", "laion_clap", "torchlibrosa"}
"""What scripts import only for engines by other packages, whose rules have environments of their own."""

BACKPORTS = {"backports"}
"""What only Pythons older than those of the environments import."""


def environment(name):
    return yaml.safe_load((REPO / "envs" / f"{name}.yaml").read_text())


def pins(lines):
    """Canonical name to version of exact requirements."""
    parsed = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[^*,]+", str(x.specifier)) for x in parsed), "every package is pinned exactly"
    return {canonicalize_name(x.name): str(x.specifier).removeprefix("==") for x in parsed}


def lock(name):
    lines = (REPO / name).read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


def without_dependencies(path):
    """What a script installs by `pip install --no-deps NAME==VERSION ...`."""
    words = re.findall(r"--no-deps ((?:[\w.-]+==[\w.]+ ?)+)", path.read_text())
    return pins(word for line in words for word in line.split())


def post_deploy(name):
    path = REPO / "envs" / f"{name}.post-deploy.sh"
    return without_dependencies(path) if path.exists() else {}


def pinned(name):
    return pins(str(x) for x in requirements(environment(name))) | post_deploy(name)


@cache
def rules():
    """Every environment that rules name, and the scripts that run in it."""
    found = {}
    for path in (REPO / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            env = re.search(r'^ {4}conda:\s+"\.\./\.\./envs/(\w+)\.yaml"', block, re.MULTILINE)
            script = re.search(r'^ {4}script:\s+"\.\./scripts/(\w+)\.py"', block, re.MULTILINE)
            assert (env is None) == (script is None), f"{path.name}: {block.splitlines()[0]}"
            if env:
                found.setdefault(env[1], set()).add(script[1])
    return found


def imports(path, *, lazy):
    """Modules that a file imports: when it is itself imported, and with `lazy` also within its functions."""

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield child.module
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from visit(child)

    return list(visit(ast.parse(path.read_text())))


def file_of(module):
    """The repository's file of a module, if it is one of its own."""
    for path in (REPO / "workflow" / "scripts" / f"{module}.py", REPO / (module.replace(".", "/") + ".py")):
        if path.is_file():
            return path
    package = REPO / module.replace(".", "/") / "__init__.py"
    return package if module.split(".")[0] == "gmsdi" and package.is_file() else None


def third_party(scripts, *, lazy):
    """Top-level packages from elsewhere that scripts import, through the repository's own modules."""
    queue, seen, names = [REPO / "workflow" / "scripts" / f"{script}.py" for script in scripts], set(), set()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imports(path, lazy=lazy):
            if own := file_of(module):
                queue.append(own)
            elif module.split(".")[0] not in (*sys.stdlib_module_names, "gmsdi", "_common"):
                names.add(module.split(".")[0])
    return names


@pytest.mark.parametrize("name", ENVS)
def test_versions_are_those_of_the_locks(name):
    known = lock("requirements.lock") | lock("requirements-peers.lock") | without_dependencies(REPO / "Makefile")
    for package, version in pinned(name).items():
        assert (package, version) == (package, known[package])


@pytest.mark.parametrize("name", ENVS)
def test_versions_are_those_that_the_project_asks_for(name):
    asked = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    versions = pinned(name)
    for requirement in map(Requirement, asked):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), requirement
    if name in EXTRAS:
        extras = PROJECT["optional-dependencies"]
        needed = [*PROJECT["dependencies"], *(line for extra in EXTRAS[name] for line in extras[extra])]
        newest = {"python_full_version": "3.11.99"}
        wanted = [found for found in map(Requirement, needed) if not found.marker or found.marker.evaluate(newest)]
        assert {canonicalize_name(found.name) for found in wanted} <= versions.keys()


@pytest.mark.parametrize("name", ENVS)
def test_python_suits_the_project_and_every_package(name):
    (python,) = [x for x in environment(name)["dependencies"] if isinstance(x, str) and x.startswith("python")]
    version = python.removeprefix("python =")
    bounds = {PROJECT["name"]: PROJECT["requires-python"]}
    for package, installed in closure(requirements(environment(name))).items():
        bounds[package] = installed.metadata["Requires-Python"] or ""
    assert {package: bound for package, bound in bounds.items() if f"{version}.99" not in SpecifierSet(bound)} == {}


def test_rules_name_the_environments():
    assert sorted(rules()) == ENVS


@pytest.mark.parametrize("name", ENVS)
def test_all_that_the_rules_import_is_there(name):
    """`core` has also what is imported when it is needed; the small environments what their scripts import at once."""
    imported = third_party(rules()[name], lazy=name in EXTRAS)
    assert {"annotated_types", "numpy"} & imported  # the search finds something
    there = {*closure(requirements(environment(name))), *post_deploy(name)}
    providers = packages_distributions()
    missing = {module for module in imported if there.isdisjoint(map(canonicalize_name, providers.get(module, [])))}
    assert missing - BACKPORTS - (ENGINES if name in EXTRAS else set()) == set()
