"""Digests of the code and files that a job's result depends on; comments, docstrings and formatting do not change them.

Each rule has the digest as a parameter, and Snakemake reruns jobs whose parameters have changed. The dependencies of a
script are found by parsing it and the package, without running them: from the names that the script uses to their
functions, classes and constants, then to the names that those use, and so on, including imports inside functions.
Changing a definition that is not reached has no effect. Digests do not depend on where the files are, so a repository
can be moved together with its results.

Always counted as used: all methods of a class; the whole module, with what it imports for others to use, if it is used
as a value (as by `getattr`) or named in a string ("gmsdi.systems.msdm"); statements of an imported module that are not
imports, definitions or plain assignments, since they run; and functions with a decorator of the package, which may
register them. Not counted: imports for type checkers only, and annotations of functions and their variables.

`python -m gmsdi.study.sources workflow/scripts/separate.py` lists what a script depends on.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.io.files import atomic

PACKAGE = Path(__file__).resolve().parents[1]
VERSION = 1
"""Version of the information read from a file. Raise it whenever that changes."""
ALWAYS, EVERYTHING = "<statements>", "*"
_IGNORED = {"__version__", "__all__"}
"""Constants that no number depends on."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass
class Module:
    """The information read from a file.

    Attributes:
        definitions: for each top-level name, the digest of its code and what it uses: [module, names], where names are
            dotted and "" is the file itself. `ALWAYS` is everything that runs when the file is imported.
        bindings: for each name imported at the top level, [module, name], where "" is the module itself.
        loads: modules that are imported together with the file.
    """

    definitions: dict[str, tuple[str, list[list[str]]]] = field(default_factory=dict)
    bindings: dict[str, list[str]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)

    def reexports(self) -> set[str]:
        """The names that are imported at the top level and not used by the file itself."""
        uses = (names for _, found in self.definitions.values() for module, names in found if not module)
        return self.bindings.keys() - {names.partition(".")[0] for names in uses}


class Sources:
    """The code that scripts depend on.

    Args:
        scripts: the folder of the scripts, which may import each other.
        cache: a file that caches the information read from files, by their content; None caches nothing.
        package: the folder of the package.
    """

    def __init__(self, scripts: str | Path, cache: str | Path | None = None, package: str | Path = PACKAGE) -> None:
        self.scripts, self.package = Path(scripts), Path(package)
        self.cache = None if cache is None else Path(cache)
        self._modules: dict[str, Module | None] = {}
        self._followed: dict[tuple[str, str], tuple[str | None, set[tuple[str, str]]]] = {}
        self._keys: set[str] = set()
        self._changed = False

    def digests(self) -> dict[str, str]:
        """For each script, the hexadecimal digest of the code that it depends on.

        Raises:
            UserError: if a file cannot be read or is not Python.
        """
        scripts = sorted(path.name for path in self.scripts.glob("*.py"))
        found = {name: _hash(json.dumps(sorted(self.used(name).items())).encode())[:16] for name in scripts}
        self._keep()
        return found

    def used(self, script: str) -> dict[str, str]:
        """The definitions that a script depends on, such as "gmsdi.metrics.frechet:fad", each with its digest.

        Raises:
            UserError: if a file is missing or is not Python.
        """
        path = self.scripts / script
        found: dict[str, str] = {}
        todo = [(path.stem, EVERYTHING)]
        if self._module(path.stem) is None:
            raise UserError(f"{path}: not there; the workflow's folder is not complete, get it again")
        seen: set[tuple[str, str]] = set()
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            if place not in self._followed:  # most places are common to many scripts
                self._followed[place] = self._follow(*place)
            digest, further = self._followed[place]
            if digest is not None:
                found[":".join(place)] = digest
            todo += further
        return found

    def _follow(self, name: str, wanted: str) -> tuple[str | None, set[tuple[str, str]]]:
        """The digest of a definition of a module, if it is one, and what a script depends on that depends on it."""
        module = self._module(name)
        if module is None:
            return None, set()
        digest, further = None, set()
        if wanted != ALWAYS:
            further.add((name, ALWAYS))
        if wanted == EVERYTHING:
            further.update((name, one) for one in module.definitions)
            for one in module.reexports():
                further.update(self._resolve(name, one))
        elif wanted in module.definitions:
            digest, uses = module.definitions[wanted]
            for target, names in uses:
                further.update(self._resolve(target or name, names))
        if wanted == ALWAYS:
            further.update((loaded, ALWAYS) for loaded in module.loads)
            # Packages run before their modules.
            further.update((parent, ALWAYS) for parent in _parents(name))
        return digest, further

    def _resolve(self, module: str, names: str) -> Iterator[tuple[str, str]]:
        """Resolve the dotted names used in a module to what they refer to."""
        first, _, rest = names.partition(".")
        known = self._module(module)
        if known is None:
            return
        yield module, ALWAYS
        if not first:
            yield module, EVERYTHING
        elif first in known.definitions:
            yield module, first
        elif first in known.bindings:
            target, name = known.bindings[first]
            yield from self._resolve(target, ".".join(filter(None, [name, rest])))
        elif self._module(f"{module}.{first}") is not None:
            yield from self._resolve(f"{module}.{first}", rest)
        elif "__getattr__" in known.definitions and first not in _IGNORED:
            yield module, "__getattr__"

    # --- Files --------------------------------------------------------------------------------------------------------

    def _module(self, name: str) -> Module | None:
        """A module of the package or of the scripts; None for any other module."""
        if name not in self._modules:
            path = self._files.get(name)
            self._modules[name] = None if path is None else self._read(path, name)
        return self._modules[name]

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files of all modules by name; listed once, since most names that are asked for are no modules."""
        files = {path.stem: path for path in self.scripts.glob("*.py")}
        for path in sorted(self.package.rglob("*.py"), key=lambda path: path.name != "__init__.py"):
            parts = path.relative_to(self.package.parent).with_suffix("").parts
            files[".".join(parts[:-1] if path.name == "__init__.py" else parts)] = path
        return files

    def _read(self, path: Path, name: str) -> Module:
        content = _content(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        key = _hash(json.dumps([VERSION, name, package]).encode() + content)
        if key not in self._kept:
            try:
                self._kept[key] = _parsed(content, package, self.package.name)
            except SyntaxError as error:
                raise UserError(f"{path}: not Python ({error.msg}, line {error.lineno}); undo the last edit") from error
            self._changed = True
        self._keys.add(key)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[str, Module]:
        try:
            entries = json.loads(self.cache.read_text(encoding="utf-8")) if self.cache else {}
            return {key: Module(*value) for key, value in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _keep(self) -> None:
        """Write the cache; if it cannot be written, files are read again next time."""
        if self.cache is None or not self._changed:
            return
        modules = {key: self._kept[key] for key in sorted(self._keys)}
        entries = {key: [value.definitions, value.bindings, value.loads] for key, value in modules.items()}
        with suppress(OSError, UserError), atomic(self.cache) as path:
            path.write_text(json.dumps(entries), encoding="utf-8")
        self._changed = False


@cache
def _parsed(content: bytes, package: str, own: str) -> Module:
    """The information read from a file's content, once per process, since costs plan the same files several times."""
    return _Reader(package, own).read(ast.parse(content))


def digest_of_files(folder: str | Path, *names: str) -> str:
    """A hexadecimal digest of the names and contents of files in a folder.

    Raises:
        UserError: if one cannot be read.
    """
    return _hash(json.dumps([[name, _hash(_content(Path(folder) / name))] for name in names]).encode())[:16]


def state_of_files(folder: str | Path, files: Iterable[Path]) -> str:
    """A hexadecimal digest of the names, sizes and times of files below a folder, for files that are too large to read.

    It tells whether files were changed, added or removed since. Moving the folder does not change it.
    """
    states: dict[str, list[int] | None] = {}
    for file in files:
        try:
            found = file.stat()
            state = [found.st_size, found.st_mtime_ns]
        except OSError:  # the job that reads it says why
            state = None
        states[file.relative_to(folder).as_posix()] = state
    return _hash(json.dumps(states, sort_keys=True).encode())[:16]


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts))]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); get the workflow's folder again") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- Reading a file ---------------------------------------------------------------------------------------------------


class _Reader:
    """Reads definitions and imports from a file.

    Args:
        package: package of the file, for relative imports.
        own: name of the package; strings that name its modules count as uses.
    """

    def __init__(self, package: str, own: str) -> None:
        self.package, self.own = package, own

    def read(self, tree: ast.Module) -> Module:
        module = Module()
        nodes: dict[str, list[ast.stmt]] = {ALWAYS: []}
        for statement in tree.body:
            if isinstance(statement, _IMPORTS):
                self._bind(statement, module.bindings)
            elif not _is_text(statement) and not _for_checkers(statement):
                for name in _defines(statement) or [ALWAYS]:
                    nodes.setdefault(name, []).append(statement)
        for outer in nodes[ALWAYS]:
            for inner in _walk(outer):
                if isinstance(inner, _IMPORTS):
                    self._bind(inner, module.bindings)
        registered = [["", name] for name, found in nodes.items() if self._registers(found, module, nodes)]
        for name, found in nodes.items():
            if name not in _IGNORED:
                uses = self._uses(found)
                module.definitions[name] = (_digest(found), uses + (registered if name == ALWAYS else []))
        targets = (f"{target}.{name}" if name else target for target, name in module.bindings.values())
        loads = {part for target in targets for part in [*_parents(target), target]}
        module.loads = sorted(loads)
        return module

    def _bind(self, statement: ast.Import | ast.ImportFrom, bindings: dict[str, list[str]]) -> None:
        """Add the names that an import binds."""
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                top = alias.name.partition(".")[0]
                bindings[alias.asname or top] = [alias.name if alias.asname else top, ""]
            else:
                bindings[alias.asname or alias.name] = [self._origin(statement), alias.name]

    def _origin(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.package.split(".")
        return ".".join([*parts[: len(parts) - statement.level + 1], *filter(None, [statement.module])])

    def _registers(self, nodes: Sequence[ast.AST], module: Module, definitions: Container[str]) -> bool:
        """Whether a definition has a decorator of the file or the package."""
        decorators = (item for node in nodes if isinstance(node, _SCOPES) for item in node.decorator_list)
        chains = (_chain(item.func if isinstance(item, ast.Call) else item) for item in decorators)
        firsts = {chain.partition(".")[0] for chain in chains if chain}
        return any(
            first in definitions or module.bindings.get(first, [""])[0].partition(".")[0] == self.own
            for first in firsts
        )

    def _uses(self, nodes: Iterable[ast.AST]) -> list[list[str]]:
        """The names that statements use, as [module, names], without duplicates."""
        local: dict[str, list[str]] = {}
        chains: set[str] = set()
        found: set[tuple[str, str]] = set()
        for node in nodes:
            for inner in _walk(node):
                if isinstance(inner, _IMPORTS):
                    self._bind(inner, local)
                    if isinstance(inner, ast.ImportFrom):
                        # The module runs, whether it is used or not.
                        found.update((self._origin(inner), ALWAYS) for _ in inner.names)
                elif isinstance(inner, ast.Constant):
                    if isinstance(inner.value, str) and inner.value.startswith(f"{self.own}."):
                        found.add((inner.value.partition(":")[0], ""))
                elif chain := _chain(inner):
                    chains.add(chain)
        for chain in chains:
            first, _, rest = chain.partition(".")
            if first in local:
                target, name = local[first]
                found.add((target, ".".join(filter(None, [name, rest]))))
            else:
                found.add(("", chain))
        return [list(one) for one in sorted(found)]


def _defines(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines, if it does nothing else."""
    if isinstance(statement, _SCOPES):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        targets = [
            item
            for target in statement.targets
            for item in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
        ]
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    else:
        return []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a docstring, or the description below a constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _for_checkers(statement: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:` without an `else`."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and (_chain(statement.test) or "").rpartition(".")[2] == "TYPE_CHECKING"
    )


def _chain(node: ast.AST) -> str | None:
    """A name with its attributes, "a.b.c"; None for anything else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None


def _walk(node: ast.AST, inside_function: bool = False) -> Iterator[ast.AST]:
    """A node and its descendants that matter at run time; names come once, with their attributes."""
    if _is_text(node) or _for_checkers(node):
        return
    yield node
    if _chain(node):
        return
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    variable = isinstance(node, ast.arg) or (isinstance(node, ast.AnnAssign) and inside_function)
    for name, value in ast.iter_fields(node):
        if (name == "returns" and function) or (name == "annotation" and variable):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _walk(inner, function or (inside_function and not isinstance(node, ast.ClassDef)))


def _digest(nodes: Iterable[ast.AST]) -> str:
    parts: list[str] = []
    for node in nodes:
        _write(node, parts)
    return _hash("\n".join(parts).encode())[:16]


def _write(node: Any, parts: list[str]) -> None:
    """Serialise a node independently of the Python version; empty fields and None are left out."""
    if isinstance(node, ast.AST):
        if _is_text(node):
            return
        parts.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None and not isinstance(node, ast.Constant):
                continue
            if value != [] and name not in ("ctx", "kind", "type_comment"):
                parts.append(f"{name}:")
                _write(value, parts)
        parts.append("end")
    elif isinstance(node, list):
        for item in node:
            _write(item, parts)
        parts.append("end")
    else:
        parts.append(repr(node))


def main() -> None:
    """List what each script depends on."""
    for script in map(Path, sys.argv[1:]):
        print(f"{script}:")
        for name in sorted(Sources(script.parent).used(script.name)):
            print(f"  {name}")


if __name__ == "__main__":
    main()
