"""For all tests."""

from __future__ import annotations

import jwtguard.testing

jwtguard.testing.StoreContract  # noqa: B018 - before anything imports the suite itself, so that its asserts explain themselves
