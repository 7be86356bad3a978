"""Environments of their own for the peers, below `.bench/`: one per file of requirements in `benchmarks/peers/`.

They are made once (`python -m benchmarks.environments`, a few minutes) and again when their file changes. So what is
measured is what the file pins, whatever this process itself has installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["ENVIRONMENTS", "NODE", "PEERS", "ROOT", "is_made", "make", "pins", "python_of"]

ROOT: Final = Path(__file__).parents[1]
PEERS: Final = ROOT / "benchmarks" / "peers"
HOME: Final = ROOT / ".bench"
NODE: Final = HOME / "node"
ENVIRONMENTS: Final = tuple(sorted(path.stem for path in PEERS.glob("*.txt")))


def python_of(name: str) -> Path:
    """The interpreter of an environment. Raises FileNotFoundError if it isn't made."""
    if not is_made(name):
        raise FileNotFoundError(f"the environment {name!r} isn't there: run `make bench-environments` first")
    return HOME / name / "bin" / "python"


def is_made(name: str) -> bool:
    """Whether an environment is there and as its file says."""
    stamp = HOME / name / "made-from.txt"
    return stamp.exists() and stamp.read_text() == _wanted(name)


def make(name: str) -> None:
    """Make an environment, unless it is there. Raises CalledProcessError if a package can't be installed."""
    if is_made(name):
        return
    folder = HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    if name == "node":
        folder.mkdir(parents=True)
        shutil.copy(PEERS / "node" / "package.json", folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", _file(name))
        subprocess.run(pip, cwd=ROOT, check=True)
    (folder / "made-from.txt").write_text(_wanted(name))


def _file(name: str) -> Path:
    return PEERS / "node" / "package.json" if name == "node" else PEERS / f"{name}.txt"


def _wanted(name: str) -> str:
    """What an environment's stamp has to say: its requirements, and of our own its extras and the interpreter too."""
    own = (ROOT / "setup.cfg").read_text() if name == "jwtguard" else ""
    return f"{sys.version}\n{_file(name).read_text()}{own}"


def pins() -> dict[str, str]:
    """The versions that the peers' files ask for, by package; several where environments differ."""
    found: dict[str, set[str]] = {}
    for name in ENVIRONMENTS:
        for package, number in re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)$", _file(name).read_text(), re.MULTILINE):
            found.setdefault(package, set()).add(number)
    found["fast-jwt"] = {json.loads(_file("node").read_text())["dependencies"]["fast-jwt"]}
    return {package: " and ".join(sorted(numbers)) for package, numbers in sorted(found.items(), key=str)}


def main() -> None:
    failed = []
    for name in (*ENVIRONMENTS, "node"):
        print(name, flush=True)
        try:
            make(name)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            failed.append(f"{name}: {error}")
    if failed:
        sys.exit("not made, so what needs them is left out:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
