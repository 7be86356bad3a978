"""docs/security.md says of each item of the checklist what is so: "Tested" exactly where a test carries its id."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
ANSWERS = dict(re.findall(r"^\| (C[0-9]{2}) \| .+? \| (.+) \|$", PAGE, re.MULTILINE))


def ids() -> set[str]:
    """The ids in the names of tests, and of the rows of tables."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'def test_\w+|"C[0-9]{2} .*?"', text):
            found |= {item.upper() for item in re.findall(r"(?<![^\W_])[Cc][0-9]{2}(?![^\W_])", name)}
    return found


def test_every_item_has_an_answer() -> None:
    assert list(ANSWERS) == [f"C{number:02}" for number in range(1, 81)]
    assert [answer for answer in ANSWERS.values() if not re.match(r"Tested\b|Does not apply: .|Not yet: .", answer)] == []


def test_what_is_called_tested_is_and_nothing_else() -> None:
    assert sorted(item for item, answer in ANSWERS.items() if answer.startswith("Tested")) == sorted(ids())


def test_every_test_that_is_named_exists() -> None:
    names = {name for path in TESTS.rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= names
