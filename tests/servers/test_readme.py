"""The README's apps, served by the commands that it gives, and used by the curl commands that it gives."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from test_readme import CURLS, SERVED, Block, commands, params

from servers.serving import PATIENCE, Site, serving

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="the commands are for bash and curl"),
]

PORT = "8000"


@pytest.mark.parametrize("block", params(SERVED))
def test_an_app_is_served_and_used_as_it_says(block: Block, site: Site, tmp_path: Path) -> None:
    assert block.file is not None
    assert block.command is not None
    (use,) = CURLS
    (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    assert PORT in block.command
    here = str(tmp_path)
    more = ("--no-control-socket", "--chdir", here) if block.command.startswith("gunicorn") else ("--app-dir", here)
    with serving(site, *shlex.split(block.command.replace(PORT, "{port}")), *more) as server:
        script = commands(use).replace(f"http://127.0.0.1:{PORT}", server.url)
        done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    me, (session,), refused = map(json.loads, filter(None, done.stdout.splitlines()))
    assert me["sub"] == "alice"
    assert session["current"]
    assert (refused["status"], refused["code"]) == (401, "session_revoked")
