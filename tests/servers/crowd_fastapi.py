"""The FastAPI example with a crowd of users; each answer tells the process that gave it."""

from examples import fastapi_app
from servers.crowd import CROWD
from servers.fastapi_worker import app

__all__ = ["app"]

fastapi_app.USERS |= CROWD
