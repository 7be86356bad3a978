"""`make demo` prints commands, and they do what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from servers.conftest import Start
from servers.serving import PATIENCE, Site

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="the commands are for bash and curl"),
]


def test_the_commands_that_it_prints(site: Site, start: Start, tmp_path: Path) -> None:
    server = start("jwtguard", "demo", "--port", "{port}")
    found = re.search(r"In another terminal:\n(.*)\nCtrl-C", server.output, re.DOTALL)
    assert found is not None, server.output
    assert server.url in server.output
    script = re.sub(r"^ *# (.*)$", r"echo '== \1'", found[1], flags=re.MULTILINE)
    run = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert run.stderr == ""
    answers = {
        name: [json.loads(line) for line in lines.splitlines() if line]
        for name, lines in re.findall(r"== (.*)\n((?:(?!== ).*\n)*)", run.stdout)
    }
    assert [name.split()[0].rstrip(":,") for name in answers] == ["log", "call", "list", "refresh", "log"]
    (pair,), (me,), ((session,),), (newer,), (refusal,) = answers.values()
    assert json.loads((tmp_path / "tokens.json").read_text()) == newer
    assert me == {"sub": "alice", "sid": pair["session_id"], "scopes": []}
    assert (session["id"], session["current"]) == (pair["session_id"], True)
    assert newer["session_id"] == pair["session_id"]
    assert newer["refresh_token"] != pair["refresh_token"]
    assert (refusal["status"], refusal["code"]) == (401, "session_revoked")
