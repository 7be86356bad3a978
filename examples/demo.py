"""`make demo`: the FastAPI example on the embedded store, and what to type to use it."""

import os
import secrets
import tempfile

HOST, PORT = "127.0.0.1", 8000

COMMANDS = """
A guarded app runs on http://{host}:{port} (its OpenAPI page: /docs). In another terminal:

  # log in, and keep the tokens
  curl -s {url}/login -H 'Content-Type: application/json' \\
       -d '{{"username": "alice", "password": "wonderland"}}' | tee tokens.json
  ACCESS=$(python3 -c 'import json; print(json.load(open("tokens.json"))["access_token"])')
  REFRESH=$(python3 -c 'import json; print(json.load(open("tokens.json"))["refresh_token"])')

  # call
  curl -s {url}/me -H "Authorization: Bearer $ACCESS"

  # list your sessions
  curl -s {url}/auth/sessions -H "Authorization: Bearer $ACCESS"

  # refresh
  curl -s {url}/auth/refresh -H 'Content-Type: application/json' -d "{{\\"refresh_token\\": \\"$REFRESH\\"}}"

  # log out: the token is dead at once
  curl -s -X POST {url}/auth/logout -H "Authorization: Bearer $ACCESS"
  curl -s {url}/me -H "Authorization: Bearer $ACCESS"

Ctrl-C ends it.
"""


def main() -> None:
    """Serve until interrupted. The secret and the sessions are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="jwtguard-demo-") as folder:
        os.environ["JWTGUARD_SECRET"] = secrets.token_urlsafe(48)
        os.environ.setdefault("JWTGUARD_STORE", f"sqlite:///{folder}/sessions.db")
        import uvicorn

        print(COMMANDS.format(host=HOST, port=PORT, url=f"http://{HOST}:{PORT}"), flush=True)
        uvicorn.run("examples.fastapi_app:app", host=HOST, port=PORT, log_level="warning")


if __name__ == "__main__":
    main()
