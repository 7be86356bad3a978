"""What README.md and the pages in docs/ show, works.

- A ```python block that begins with `# app.py: command` is an app, and the command serves it: see `servers/test_readme.py`.
  Here it is imported with a fresh secret and store. Its paths are guarded: a request without a token is a 401.
- One that begins with `# test_...py` is run by pytest, in a folder with the other named blocks of its page.
- Every other ```python block is executed.
- The commands (`$ ...`) of a ```console block, and a ```bash block as a whole, are run by bash. `make` only tells what it
  would do: one command serves until it is interrupted, and another runs these tests. Of `pip install` only the extra is
  looked at. Blocks with `curl` need a server: `servers/test_readme.py` runs them.
- The table of settings is that of `jwtguard.variables.VARIABLES`; links lead somewhere.
"""

from __future__ import annotations

import configparser
import inspect
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import jwtguard
from jwtguard.variables import PREFIX, VARIABLES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(jwtguard.__file__).parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (?P<file>\w+\.py)(?:: (?P<command>.+))?\n")
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
APPS = ("asgi", "application", "app")


class Block(NamedTuple):
    """A fenced block: its page, its number there (from 1), what its first line says, and its text."""

    page: Path
    number: int
    language: str
    text: str
    file: str | None
    command: str | None

    @property
    def id(self) -> str:
        return f"{self.page.stem}-{self.language}-{self.number}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page."""
    found = []
    for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
        named = NAMED.match(match["text"]) if match["language"] == "python" else None
        file, command = (named["file"], named["command"]) if named else (None, None)
        found.append(Block(page, number, match["language"], match["text"], file, command))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SERVED = [block for block in PYTHON if block.command]
TESTS = [block for block in PYTHON if block.file and block.file.startswith("test_")]
ELSEWHERE = [block for block in BLOCKS if block.language in ("nginx", "yaml")]
"""Run with the servers that they configure: `servers/test_forward.py`."""
SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]
CURLS = [block for block in SHELL if "curl " in block.text and "make" not in block.text]


def params(blocks: list[Block]) -> list[Any]:
    return [pytest.param(block, id=block.id) for block in blocks]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of someone who has done what the README says first."""
    found = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COV"))}
    found["PYTHONPATH"] = os.pathsep.join((str(tmp_path), str(ROOT)))
    found["JWTGUARD_SECRET"] = secrets.token_urlsafe(48)
    return found


def test_every_block_is_of_a_kind_that_can_be_checked() -> None:
    assert SERVED
    assert TESTS
    assert CURLS
    assert [block.id for block in BLOCKS if block not in PYTHON + SHELL + ELSEWHERE] == []


@pytest.mark.parametrize("block", params([block for block in PYTHON if not block.file]))
def test_a_snippet_runs(block: Block, tmp_path: Path, environ: dict[str, str]) -> None:
    run(["-c", block.text], tmp_path, environ)


@pytest.mark.parametrize("block", params(TESTS))
def test_the_tests_of_a_page_pass(block: Block, tmp_path: Path, environ: dict[str, str]) -> None:
    assert block.file is not None
    for other in PYTHON:
        if other.page == block.page and other.file:
            (tmp_path / other.file).write_text(other.text, encoding="utf-8")
    run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), block.file], tmp_path, environ)


def run(arguments: list[str], folder: Path, environ: dict[str, str]) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", params(SERVED))
def test_an_app_is_guarded(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_SECRET", secrets.token_urlsafe(48))
    monkeypatch.chdir(tmp_path)  # where the README says that its store will be
    module: dict[str, Any] = {"__name__": block.id}
    exec(compile(block.text, block.id, "exec", dont_inherit=True), module)
    app = next(module[name] for name in APPS if name in module and f":{name} " in f"{block.command} ")
    ask = ask_asgi if inspect.iscoroutinefunction(type(app).__call__) else ask_wsgi
    for path in ("/", "/me", "/admin", "/login"):
        status, headers = ask(app, path)
        assert status == 401, path
        assert headers["www-authenticate"].startswith("Bearer realm=")


def ask_wsgi(app: Any, path: str) -> tuple[int, dict[str, str]]:
    from werkzeug.test import Client

    answer = Client(app).get(path)
    return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}


def ask_asgi(app: Any, path: str) -> tuple[int, dict[str, str]]:
    from starlette.testclient import TestClient

    answer = TestClient(app).get(path)
    return answer.status_code, dict(answer.headers)


def commands(block: Block) -> str:
    """What a reader types for a block. In a console block, that is what follows a `$`; a line ending in `\\` goes on."""
    if block.language == "bash":
        return block.text
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)
    assert found, "a console block without a `$`"
    return "\n".join(found)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are for bash")
@pytest.mark.parametrize("block", params([block for block in SHELL if block not in CURLS]))
def test_a_command_runs(block: Block, tmp_path: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    known = {f"{what}[{extra}]" for what in (".", setup["metadata"]["name"]) for extra in setup["options.extras_require"]}
    assert {match[1] for match in re.finditer(r"^\$ pip install '(.+?)'", block.text, re.MULTILINE)} <= known
    script = f'make() {{ command make --dry-run -C "{ROOT}" "$@"; }}\npip() {{ true; }}\n{commands(block)}'
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where `jwtguard` is
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environ, check=True, timeout=60)


def test_the_table_of_settings() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Z_]+) \| (.+?) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    expected = [
        (variable.name.removeprefix(PREFIX), variable.default_text, variable.meaning) for variable in VARIABLES.values()
    ]
    assert rows == expected


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / link).resolve()
        if target.is_relative_to(ROOT / "jwtguard"):  # which need not be here, but installed
            target = PACKAGE / target.relative_to(ROOT / "jwtguard")
        assert target.exists(), link


def test_every_page_is_linked() -> None:
    linked = {(README.parent / link).resolve() for link in LINK.findall(README.read_text(encoding="utf-8"))}
    assert [page.name for page in PAGES if page != README and page.resolve() not in linked] == []


def test_c50_no_page_has_a_browser_keep_tokens_where_its_scripts_can_read_them() -> None:
    pages = [*PAGES, *(ROOT / "examples").glob("*")]
    texts = [page.read_text(encoding="utf-8") for page in pages if page.is_file()]
    assert [text for text in texts if re.search("localStorage|sessionStorage|document.cookie", text)] == []
