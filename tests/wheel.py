"""The distribution as users get it: the wheel, built from a copy of the sources, in an environment outside the clone.

The environment borrows the packages of the one that the tests run in, so that nothing is downloaded; but not this
package, which is found there by a hook that a borrowed folder does not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

CLONE = Path(__file__).parents[1]


def sources() -> list[Path]:
    """Return the files of the packages of the distribution."""
    patterns = tomllib.loads((CLONE / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]
    folders = [folder for pattern in patterns for folder in CLONE.glob(pattern) if (folder / "__init__.py").exists()]
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return sorted(file.relative_to(CLONE) for file in files if "__pycache__" not in file.parts)


def build(folder: Path) -> Path:
    """Build the wheel in a folder and return its path."""
    copy = folder / "sources"
    for file in [*map(Path, ("pyproject.toml", "README.md", "LICENSE")), *sources()]:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLONE / file, copy / file)
    _pip(sys.executable, "wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel in a new environment and return its command `adapt`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    _pip(str(python), "install", "--ignore-installed", str(wheel))
    return folder / "bin" / "adapt"


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "--quiet", *arguments]
    subprocess.run([*command, "--no-index", "--no-deps"], check=True, timeout=300)
