"""What README.md shows, works.

- A ```python block that makes an app (`app`, `application` or `asgi`) is imported with a fresh secret and store. Its paths
  are guarded: a request without a token is a 401.
- Another ```python block is executed.
- The commands (`$ ...`) of a ```console block, and a ```bash block as a whole, are run by bash. `make` only tells what it
  would do: one of its commands serves until it is interrupted, and another runs these tests.
- A block below `<!-- shown only: reason -->` is not; the reasons are printed.
- The table of settings is that of `jwtguard.settings.VARIABLES`.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from jwtguard.settings import PREFIX, VARIABLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCK = re.compile(
    r"(?:^<!-- shown only: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUNNABLE = {"python", "console", "bash"}
APPS = ("asgi", "application", "app")


class Block(NamedTuple):
    """A fenced block: its number in the file, from 1."""

    number: int
    language: str
    text: str
    reason: str | None

    @property
    def makes_an_app(self) -> bool:
        return self.language == "python" and re.search(rf"^({'|'.join(APPS)}) = ", self.text, re.MULTILINE) is not None


BLOCKS = [
    Block(number, match["language"], match["text"], match["reason"])
    for number, match in enumerate(BLOCK.finditer(README), start=1)
]
SHOWN_ONLY = [block for block in BLOCKS if block.reason]
RUN = [block for block in BLOCKS if not block.reason]


def params(blocks: list[Block]) -> list[Any]:
    return [pytest.param(block, id=f"{block.language}-{block.number}") for block in blocks]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of someone who has done what the README says first."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JWTGUARD_SECRET", secrets.token_urlsafe(48))
    monkeypatch.setenv("JWTGUARD_STORE", f"sqlite:///{tmp_path}/sessions.db")


@pytest.fixture
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    """A block as a module."""
    name = f"readme_{request.param.number}"
    path = tmp_path / f"{name}.py"
    path.write_text(request.param.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def test_every_block_is_of_a_kind_that_can_be_checked() -> None:
    assert RUN
    assert [block for block in RUN if block.language not in RUNNABLE] == []
    for block in SHOWN_ONLY:
        print(f"README.md, block {block.number} ({block.language}) is shown only: {block.reason}")


@pytest.mark.parametrize("imported", params([block for block in RUN if block.makes_an_app]), indirect=True)
def test_an_app_is_guarded(imported: ModuleType) -> None:
    app = next(getattr(imported, name) for name in APPS if hasattr(imported, name))
    ask = ask_asgi if inspect.iscoroutinefunction(type(app).__call__) else ask_wsgi
    for path in ("/", "/me", "/admin"):
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


@pytest.mark.parametrize(
    "imported", params([b for b in RUN if b.language == "python" and not b.makes_an_app]), indirect=True
)
def test_a_snippet_runs(imported: ModuleType) -> None:
    assert imported


def commands(block: Block) -> str:
    """What a reader types for a block. In a console block, that is what follows a `$`; a line ending in `\\` goes on."""
    if block.language == "bash":
        return block.text
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)
    assert found, "a console block without a `$`"
    return "\n".join(found)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are for bash")
@pytest.mark.parametrize("block", params([block for block in RUN if block.language in ("bash", "console")]))
def test_a_command_runs(block: Block, tmp_path: Path) -> None:
    script = f'make() {{ command make --dry-run -C "{ROOT}" "$@"; }}\n{commands(block)}'
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=60)


def test_the_table_of_settings() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Z_]+) \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    expected = [
        (variable.name.removeprefix(PREFIX), variable.default_text, variable.meaning) for variable in VARIABLES.values()
    ]
    assert rows == expected
