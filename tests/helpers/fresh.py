"""Processes of their own that have torch and this package without loading them, which takes seconds.

They are forked from a server that has loaded these, and nothing else: what reads the environment when it is imported,
as the client of the Hugging Face Hub does, is not loaded yet.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["gmsdi.batch", "gmsdi.models.registry"])


def run(code: str, *arguments: object, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run Python code with arguments (`sys.argv[1:]`) in a folder, with no environment but this one."""
    words = ["-c", *map(str, arguments)]
    said = [cwd / ".stdout", cwd / ".stderr"]
    process = _SERVER.Process(target=_run, args=(code, words, cwd, environment, said))
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(code)
    out, errors = (path.read_text() for path in said)
    for path in said:
        path.unlink()
    return subprocess.CompletedProcess(words, process.exitcode, out, errors)


def _run(code: str, words: list[str], cwd: Path, environment: dict[str, str], said: list[Path]) -> None:
    assert not {"huggingface_hub", "transformers"} & set(sys.modules)
    for number, path in enumerate(said, 1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    exec(code, {"__name__": "__main__"})
