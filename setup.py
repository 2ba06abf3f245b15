"""A wheel has the workflow, its configurations and environments in gmsdi/share; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class Build(build_py):
    """Python files, and beside them what the checkout has at its top."""

    def run(self) -> None:
        """Copy all."""
        super().run()
        if self.editable_mode:  # the checkout itself is used
            return
        share = Path(self.build_lib, "gmsdi", "share")
        shutil.rmtree(share, ignore_errors=True)
        for name in ("workflow", "config", "envs"):
            shutil.copytree(name, share / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))


setup(cmdclass={"build_py": Build})
