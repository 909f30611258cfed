"""What pyproject.toml cannot say: records and ledger travel with the package, so that an installed bnlib draws the figures anywhere."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithRecords(build_py):
    """Copies results/ to bnlib/results, and the ledger beside it. An editable install finds them where they lie."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "bnlib" / "results"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / "results", target, ignore=shutil.ignore_patterns(".*"))
            for name in ("claims.yml", "verdicts.json"):
                shutil.copy(Path(__file__).parent / "book" / name, target.parent)


setup(cmdclass={"build_py": WithRecords})
