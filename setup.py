"""What pyproject.toml cannot say: the records travel with the package, so that an installed bnlib draws the book's figures anywhere."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithRecords(build_py):
    """Copies results/ to bnlib/results. An editable install finds them where they lie."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "bnlib" / "results"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / "results", target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": WithRecords})
