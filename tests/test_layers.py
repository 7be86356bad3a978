"""Imports run one way: each module only from its own floor or those below, and never in a circle."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import django_kit  # noqa: F401 - Django has settings from here on
import pytest

import jwtguard

PACKAGE = Path(jwtguard.__file__).parent

FLOORS = (
    (
        "_version",
        "clock",
        "driving",
        "environment",
        "errors",
        "forks",
        "model",
        "mutex",
        "patterns",
        "settings",
        "values",
        "variables",
    ),
    (
        "answers",
        "bearer",
        "context",
        "cookies",
        "document",
        "head",
        "inputs",
        "jws",
        "keyfiles",
        "keys",
        "origins",
        "page",
        "policy",
        "rules",
        "tokens",
        "transitions",
        "stores",
    ),
    ("commits", "flow", "health", "push", "recall", "registry", "rotation", "telemetry"),
    ("authentication", "core", "endpoints", "gate", "guard", "live", "openapi", "operations", "watch"),
    ("asgi", "exchange", "wsgi"),
    ("_django_backend", "django", "fastapi", "flask", "forward", "metrics", "otel", "prometheus", "starlette"),
    ("_contract", "_contract_kit", "_contract_push", "_world", "cli", "testing"),
    ("",),  # jwtguard itself
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}

UPWARDS = {("guard", "wsgi"), ("guard", "asgi")}
"""`guard.wrap(app)`: one line is enough to guard an app, so the guard must find its face; it does when it is called."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."), path


def imports_of(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """The modules of jwtguard that a module imports, and whether it does so when it is imported itself."""
    tree = ast.parse(path.read_text())
    deferred = {
        id(node)
        for holder in ast.walk(tree)
        if isinstance(holder, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(holder, ast.If) and ast.unparse(holder.test) == "TYPE_CHECKING")
        for node in ast.walk(holder)
    }
    parents = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parents[: len(parents) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                found = ".".join([*base, alias.name])
                yield (found if found in NAMES else ".".join(base)), id(node) not in deferred
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("jwtguard") for alias in node.names), f"{name}: import relatively"
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("jwtguard"), f"{name}: import relatively"


NAMES = {name for name, _ in modules()}


def floor(name: str) -> int:
    return FLOOR_OF[name.split(".")[0]]


def test_every_module_has_a_floor() -> None:
    assert {name.split(".")[0] for name in NAMES} <= set(FLOOR_OF)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_a_module_imports_only_from_its_own_floor_or_below(name: str, path: Path) -> None:
    upwards = {(name, other) for other, _ in imports_of(name, path) if floor(other) > floor(name)}
    assert upwards <= UPWARDS


def test_decision_1_names_modules_of_the_floor_that_they_are_on() -> None:
    page = (Path(__file__).parents[1] / "docs" / "decisions" / "0001-modules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9]) \| (.+?) \|", page, re.MULTILINE)
    named = {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert named
    assert {name: FLOOR_OF.get(name) for name in named} == named


def test_no_imports_in_a_circle() -> None:
    graph = {name: {other for other, at_once in imports_of(name, path) if at_once} for name, path in modules()}
    list(TopologicalSorter(graph).static_order())


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


FRAMEWORKS = {"werkzeug", "starlette", "flask", "fastapi", "django", "anyio"}
DRIVERS = {"sqlite3", "redis", "sqlalchemy"}


def test_a_bare_import_imports_no_framework_and_no_driver() -> None:
    assert not imported_by("import jwtguard") & (FRAMEWORKS | DRIVERS)


def test_the_wsgi_face_needs_no_starlette_and_the_asgi_face_no_werkzeug() -> None:
    guard = "jwtguard.Settings(secret='kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi'), store=MemoryStore()"
    begin = f"import jwtguard\nfrom jwtguard.stores.memory import MemoryStore\nguard = jwtguard.{{}}({guard})\n"
    wsgi = begin.format("Guard") + (
        "environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/'}\n"
        "list(guard.wrap(lambda *_: [])(environ, lambda status, headers, exc_info=None: None))"
    )
    asgi = begin.format("AsyncGuard") + (
        "import asyncio\nasync def nothing(message=None): pass\n"
        "scope = {'type': 'http', 'method': 'GET', 'path': '/', 'headers': []}\n"
        "asyncio.run(guard.wrap(lambda scope, receive, send: nothing())(scope, nothing, nothing))"
    )
    assert "werkzeug" in imported_by(wsgi)
    assert "starlette" not in imported_by(wsgi)
    assert "starlette" in imported_by(asgi)
    assert "werkzeug" not in imported_by(asgi)


def test_a_missing_extra_is_named_in_one_line() -> None:
    needed = {"flask": "flask", "fastapi": "fastapi", "prometheus_client": "prometheus", "opentelemetry": "otel"}
    for framework, extra in ({"django.conf": "django"} | needed).items():
        code = f"import sys\nsys.modules['{framework}'] = None\nimport jwtguard.{extra}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"pip install 'jwtguard-middleware[{extra}]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_all_names_is_there(name: str) -> None:
    """That it is sorted too is for the linter to see (RUF022)."""
    module = importlib.import_module("jwtguard" + (f".{name}" if name else ""))
    assert all(hasattr(module, each) for each in getattr(module, "__all__", []))
