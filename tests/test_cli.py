"""The command line: what each command prints, for people and for programs, and how it ends."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from jwtguard import Guard, Settings
from jwtguard.cli.app import app

if TYPE_CHECKING:
    from sql_kit import Server

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment with a secret and nothing else, in an empty folder."""
    for name in [name for name in os.environ if name.startswith(("JWTGUARD_", "WEB_", "GUNICORN_", "FORCE_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JWTGUARD_SECRET", SECRET)
    monkeypatch.setenv("JWTGUARD_STORE", "sqlite:///sessions.db")
    monkeypatch.setenv("JWTGUARD_STORE_TIMEOUT", "5s")
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger("jwtguard").handlers)
    yield
    logging.getLogger("jwtguard").handlers[:] = handlers


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=given)


def said(*arguments: str, code: int = 0, given: str | None = None) -> Any:
    """What a command answers programs."""
    result = run(*arguments, "--json", given=given)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def issued(*arguments: str) -> str:
    result = run("token", "issue", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


# -- init ------------------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_with_a_fresh_secret(tmp_path: Path) -> None:
    result = run("init")
    assert (result.exit_code, result.stderr) == (0, "")
    text = (tmp_path / ".env").read_text()
    secret = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("JWTGUARD_SECRET="))
    assert result.stdout == ".env has a fresh secret, and every setting with its default. Keep it out of version control.\n"
    assert secret not in result.output
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert said("init", "other.env") == {"file": "other.env"}
    assert secret not in (tmp_path / "other.env").read_text()


def test_init_with_every_line_in_force_is_the_default(tmp_path: Path) -> None:
    run("init")
    lines = [line.removeprefix("# ") for line in (tmp_path / ".env").read_text().splitlines()]
    environ = dict(line.split("=", 1) for line in lines if line.startswith("JWTGUARD_"))
    assert Settings.from_env(environ) == Settings.from_env({"JWTGUARD_SECRET": environ["JWTGUARD_SECRET"]})
    assert environ["JWTGUARD_ACCESS_TTL"] == "30m"
    assert environ["JWTGUARD_PUBLIC"] == ""


def test_init_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("precious")
    result = run("init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "jwtguard: '.env' exists already, and is left as it is: name another file\n"
    assert (tmp_path / ".env").read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert run("init", "link").exit_code == 1
    assert not (tmp_path / "elsewhere").exists()
    result = run("init", "no/such/folder/.env")
    assert (result.exit_code, "No such file or directory" in result.stderr) == (2, True)


# -- token -----------------------------------------------------------------------------------------------------------------


def test_a_token_is_issued_and_looked_into() -> None:
    token = issued("alice", "--scope", "read", "--scope", "write")
    found = said("token", "inspect", given=f"{token}\n")
    assert (found["accepted"], found["code"], found["header"]["typ"]) == (True, None, "at+jwt")
    assert (found["claims"]["sub"], found["claims"]["scope"]) == ("alice", "read write")
    result = run("token", "inspect", "-", given=token)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r'sub +"alice"', result.stdout)
    assert result.stdout.splitlines()[-1].startswith("Accepted: the session is active, and goes on for 25919")
    assert token not in result.output


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    token = issued("alice")
    assert "\x1b" not in run("token", "inspect", given=token).output
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    assert "\x1b[32mAccepted" in run("token", "inspect", given=token).output


def test_a_token_as_an_argument_comes_with_a_warning() -> None:
    result = run("token", "inspect", issued("alice"))
    assert result.exit_code == 0
    assert "in your shell's history" in result.stderr


def test_to_inspect_a_token_is_no_use_of_its_session() -> None:
    pair = said("token", "issue", "alice")
    assert said("token", "inspect", given=pair["access_token"])["accepted"]
    guard = Guard.from_env()
    again = [guard.refresh(pair["refresh_token"]) for _ in range(2)]
    assert again[0] == again[1]
    (session,) = guard.sessions("alice")
    assert session.last_seen_at <= session.created_at + 60
    guard.close()


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(token: str, header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None) -> str:
    """A token with some of its header changed; or with some of its claims changed, and signed again."""
    old = [json.loads(base64.urlsafe_b64decode(text + "==")) for text in token.split(".")[:2]]
    if claims is None:
        return ".".join([part(old[0] | (header or {})), *token.split(".")[1:]])
    guard = Guard.from_env()
    key = guard.core.tokens.keyring.signing
    guard.close()
    signed = f"{part(old[0])}.{part({name: value for name, value in (old[1] | claims).items() if value is not None})}"
    return f"{signed}.{base64.urlsafe_b64encode(key.sign(signed.encode())).rstrip(b'=').decode()}"


REFUSED: list[tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = [
    ({"kid": "another"}, None, 'kid "another" is none of the keys here'),
    ({"alg": "none"}, None, 'alg is "none", and that isn\'t what its key'),
    ({"typ": "JWT"}, None, 'typ is "JWT"'),
    ({"typ": None}, None, "typ is null"),
    ({"typ": "rt+jwt"}, None, "a refresh token or a ticket"),
    ({"jwk": {}, "crit": []}, None, 'has ["crit", "jwk"], and may have'),
    (None, {"iss": "others"}, "its iss or aud isn't"),
    (None, {"aud": None}, "its iss or aud isn't"),
    (None, {"exp": None}, "exp or iat is missing"),
    (None, {"iat": 4_000_000_000}, "lies in the future"),
    (None, {"jti": "mine"}, "isn't a token of jwtguard"),
    (None, {"sid": "mine"}, "its sid isn't"),
    (None, {"sub": ""}, "its sub isn't"),
    (None, {"scope": None}, "sub or scope is missing"),
]


@pytest.mark.parametrize(("header", "claims", "why"), REFUSED, ids=lambda value: str(value)[:40])
def test_why_a_token_is_invalid(header: dict[str, Any] | None, claims: dict[str, Any] | None, why: str) -> None:
    found = said("token", "inspect", given=forged(issued("alice"), header, claims), code=1)
    assert (found["accepted"], found["code"]) == (False, "token_invalid")
    assert why in found["why"]


def test_why_other_texts_are_no_tokens() -> None:
    token = issued("alice")
    head, payload, signature = token.split(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    twice = base64.urlsafe_b64encode(b'{"alg":"HS256","alg":"HS256"}').rstrip(b"=").decode()
    for text, why in (
        ("", "three segments"),
        (f"{token}=", "three segments"),
        (f"{head}.{payload}.{changed}", "the signature is wrong"),
        (f"{head}.{payload}.{signature[:-1]}_", "canonical form"),
        (f"e30x.{payload}.{signature}", "isn't JSON"),
        (f"{part([])}.{payload}.{signature}", "isn't a JSON object"),
        (f"{twice}.{payload}.{signature}", "a name comes twice"),
        (f"{part({'alg': float('nan')})}.{payload}.{signature}", "isn't JSON"),
    ):
        found = said("token", "inspect", given=text, code=1)
        assert (found["code"], why in found["why"]) == ("token_invalid", True), found
    shown = run("token", "inspect", given="not.a.token")
    assert (shown.exit_code, shown.stdout.startswith("Refused (token_invalid): it")) == (1, True)


def test_why_a_good_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = said("token", "issue", "alice")
    guard = Guard.from_env()

    def code(token: str = pair["access_token"]) -> tuple[str, str]:
        found = said("token", "inspect", given=token, code=1)
        return found["code"], found["why"]

    newer = guard.refresh(pair["refresh_token"])
    assert guard.authenticate(newer.access_token).subject == "alice"
    monkeypatch.setenv("JWTGUARD_ROTATION_GRACE", "0s")
    assert code() == ("token_superseded", "a newer access token has taken this one's place")
    guard.revoke_all("alice")
    assert code(newer.access_token) == ("session_revoked", "the session was ended")
    monkeypatch.setenv("JWTGUARD_STORE", "sqlite:///restored.db")
    assert code(newer.access_token) == ("session_unknown", "the session is not known")
    old = forged(pair["access_token"], claims={"iat": 1_700_000_000, "exp": 1_700_000_100})
    assert code(old) == ("token_expired", "its exp has passed")
    guard.close()


def test_a_token_that_the_store_is_behind_of(monkeypatch: pytest.MonkeyPatch) -> None:
    token = issued("alice")
    sid = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sid"]
    found = said("token", "inspect", given=forged(token, claims={"jti": f"{sid}.7"}))
    assert "the store's, which must have lost writes" in found["why"]


def test_a_token_for_everyone_ended() -> None:
    token = issued("alice")
    assert said("sessions", "revoke-all", "--everyone") == {"revoked": None}
    assert said("token", "inspect", given=token, code=1)["code"] == "session_revoked"
    assert run("sessions", "revoke-all", "--everyone").stdout == "Every session of every user is over.\n"


def test_what_a_token_says_is_not_obeyed_by_the_terminal() -> None:
    claims = {"name": "\x1b[31m[red]\u2028\u202e", "iat": 10**30}
    result = run("token", "inspect", given=f"{part({'kid': chr(27)})}.{part(claims)}.x")
    assert "\x1b" not in result.output
    assert "[red]" in result.output
    assert "\u2028" not in result.output


# -- sessions --------------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended() -> None:
    assert run("sessions", "list", "alice").stdout == "alice has no active session.\n"
    issued("alice", "--scope", "read")
    issued("alice")
    second, first = said("sessions", "list", "alice")
    assert first["device"]["name"] == "jwtguard token issue"
    assert first["scopes"] == ["read"]
    assert "current" not in first
    shown = run("sessions", "list", "alice").stdout.splitlines()
    assert shown[0].split() == ["id", "device", "address", "opened", "last", "seen", "ends", "scopes"]
    assert [line.split()[0] for line in shown[1:]] == [second["id"], first["id"]]
    assert run("sessions", "revoke", "alice", first["id"]).stdout == "The session is over.\n"
    gone = run("sessions", "revoke", "alice", first["id"])
    assert (gone.exit_code, gone.stderr) == (1, "jwtguard: alice has no active session with this id\n")
    assert said("sessions", "revoke", "alice", first["id"], code=1) == {"revoked": 0}
    assert said("sessions", "revoke", "alice", "-" + second["id"][1:], code=1) == {"revoked": 0}, "which is no option"
    assert said("sessions", "revoke", "alice", second["id"]) == {"revoked": 1}
    assert run("sessions", "revoke-all", "alice").stdout == "0 sessions are over.\n"
    issued("alice")
    assert run("sessions", "revoke-all", "alice").stdout == "1 session is over.\n"


def test_purge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said("purge") == {"purged": None}
    assert run("purge").stdout == "This store drops what has expired by itself.\n"
    server: Server = request.getfixturevalue("postgres")
    monkeypatch.setenv("JWTGUARD_STORE", server.url())
    said("purge")
    assert said("purge") == {"purged": 0}
    assert run("purge").stdout == "0 expired documents deleted.\n"


# -- demo ------------------------------------------------------------------------------------------------------------------


def until_it_answers(client: httpx2.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            client.get("/")
        except httpx2.ConnectError:
            time.sleep(0.05)
        else:
            return


def test_the_demo_serves_until_it_is_ended() -> None:
    """What its commands do: `servers/test_demo.py`."""
    before = signal.getsignal(signal.SIGTERM)
    answers: list[int] = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def use_and_end() -> None:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
            try:
                until_it_answers(client)  # only then does it take the signal, and the process of these tests doesn't
                for username, password in (("alice", "wonderland"), ("alice", "x"), ("bob", "wonderland")):
                    answers.append(client.post("/login", json={"username": username, "password": password}).status_code)
                answers.extend(client.get(path).status_code for path in ("/", "/me"))
                pair = client.post("/login", json={"username": "alice", "password": "wonderland"}).json()
                known = {"Authorization": f"Bearer {pair['access_token']}"}
                answers.append(client.get("/me", headers=known).status_code)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

    user = threading.Thread(target=use_and_end)
    user.start()
    try:
        result = run("demo", "--port", str(port))
    finally:
        user.join()
        signal.signal(signal.SIGTERM, before)
    assert (answers, result.exit_code) == ([200, 401, 401, 200, 401, 200], 0)
    assert f"A guarded app runs on http://127.0.0.1:{port}" in result.stdout


@pytest.mark.parametrize(("missing", "why"), [("uvicorn", "pip install uvicorn"), ("fastapi", "[fastapi]'")])
def test_what_the_demo_needs(missing: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jwtguard.cli.demo_app", "jwtguard.fastapi"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    result = run("demo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.rstrip().endswith(why)


# -- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["sessions", "list", "a\tb"], "a subject is 1 to 255 bytes"),
        (["sessions", "revoke-all"], "name a user, or say --everyone"),
        (["sessions", "revoke-all", "alice", "--everyone"], "name a user, or say --everyone"),
        (["token", "issue", "alice", "--scope", "a b"], "a scope is printable ASCII"),
        (["token", "issue", ""], "name a user"),
        (["sessions", "drop"], "No such command 'drop'"),
        (["token", "issue"], "Missing argument"),
    ],
)
def test_wrong_arguments(arguments: list[str], why: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


EACH = [["sessions", "list", "alice"], ["token", "issue", "alice"], ["token", "inspect", "-"], ["purge"]]


@pytest.mark.parametrize("arguments", EACH, ids=" ".join)
def test_c74_wrong_settings_are_told_and_no_secret_is(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_SECRET", "hunter2")
    monkeypatch.setenv("JWTGUARD_ACCESS_TTL", "soon")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "JWTGUARD_SECRET: found a value of 7 bytes" in result.stderr
    assert "JWTGUARD_ACCESS_TTL: found 'soon'" in result.stderr
    assert "hunter2" not in result.stderr


def test_a_store_that_can_not_be_asked(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_bytes(b"this is no database" * 100)
    result = run("sessions", "list", "alice")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("jwtguard: the store can't be asked: SQLite store")
    assert len(result.stderr.splitlines()) == 1


def test_a_refusal_by_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_MAX_SESSIONS", "1")
    monkeypatch.setenv("JWTGUARD_ON_LIMIT", "deny")
    guard = Guard.from_env()
    guard.authenticate(guard.login("alice").access_token)
    guard.close()
    result = run("token", "issue", "alice")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The limit of active sessions is reached" in result.stderr


# -- as a program ----------------------------------------------------------------------------------------------------------


def as_a_program(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys\nfrom jwtguard.cli import main\nmain()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_the_program() -> None:
    program = Path(sys.executable).with_name("jwtguard")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "inspect" not in done.stdout
    for command in ("init", "check", "token", "sessions", "purge", "demo"):
        assert f"\n  {command} " in done.stdout + done.stderr
    issue = subprocess.run([program, "token", "issue", "alice"], capture_output=True, text=True, check=True)
    done = subprocess.run([program, "token", "inspect"], capture_output=True, text=True, check=True, input=issue.stdout)
    assert "Accepted" in done.stdout
    assert "\x1b" not in done.stdout, "no colours where there is no terminal"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_names_it(missing: str) -> None:
    done = as_a_program(code=f"import sys; sys.modules['{missing}'] = None")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs typer and rich: pip install 'jwtguard-middleware[cli]'\n"


def test_another_missing_module_is_an_error_of_its_own() -> None:
    done = as_a_program(code="import sys; sys.modules['jwtguard.cli.checks'] = None")
    assert "ModuleNotFoundError" in done.stderr


def test_the_same_within_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from jwtguard.cli import main

    monkeypatch.setattr(sys, "argv", ["jwtguard", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    monkeypatch.delitem(sys.modules, "jwtguard.cli.app")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "typer", None)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("[cli]'\n")
    monkeypatch.setitem(sys.modules, "jwtguard.cli.output", None)
    with pytest.raises(ImportError):
        main()
