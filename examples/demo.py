"""`make demo`: the FastAPI example on the embedded store, and what to type to use it. DEMO_PORT may name a port."""

import os
import secrets
import signal
import sys
import tempfile

HOST = "127.0.0.1"

COMMANDS = """
A guarded app runs on {url} (its OpenAPI page: /docs). In another terminal:

  # log in, and keep the tokens
  curl -sw '\\n' {url}/login -H 'Content-Type: application/json' \\
       -d '{{"username": "alice", "password": "wonderland"}}' | tee tokens.json
  ACCESS=$(python3 -c 'import json; print(json.load(open("tokens.json"))["access_token"])')
  REFRESH=$(python3 -c 'import json; print(json.load(open("tokens.json"))["refresh_token"])')

  # call
  curl -sw '\\n' {url}/me -H "Authorization: Bearer $ACCESS"

  # list your sessions
  curl -sw '\\n' {url}/auth/sessions -H "Authorization: Bearer $ACCESS"

  # refresh: the next pair, and the same one again if you repeat it
  curl -sw '\\n' {url}/auth/refresh -H 'Content-Type: application/json' \\
       -d "{{\\"refresh_token\\": \\"$REFRESH\\"}}" | tee tokens.json
  ACCESS=$(python3 -c 'import json; print(json.load(open("tokens.json"))["access_token"])')

  # log out: the token is dead at once
  curl -sw '\\n' -X POST {url}/auth/logout -H "Authorization: Bearer $ACCESS"
  curl -sw '\\n' {url}/me -H "Authorization: Bearer $ACCESS"

Ctrl-C ends it.
"""


def main() -> None:
    """Serve until interrupted. The secret and the sessions are gone afterwards."""
    port = os.environ.get("DEMO_PORT", "8000")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        sys.exit(f"DEMO_PORT is {port!r}: expected a port, 1 to 65535")
    with tempfile.TemporaryDirectory(prefix="jwtguard-demo-") as folder:
        os.environ.pop("JWTGUARD_SECRET_FILE", None)
        os.environ["JWTGUARD_SECRET"] = secrets.token_urlsafe(48)
        os.environ.setdefault("JWTGUARD_STORE", f"sqlite:///{folder}/sessions.db")
        import uvicorn

        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes then, too
        print(COMMANDS.format(url=f"http://{HOST}:{port}"), flush=True)
        uvicorn.run("examples.fastapi_app:app", host=HOST, port=int(port), log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
