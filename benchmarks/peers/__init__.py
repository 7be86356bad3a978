"""What jwtguard is measured beside. Each peer is an app in a module of `apps`, and runs in a process and an environment of
its own, because their requirements differ. `PEERS` lists them."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PEERS", "Peer"]


class Peer(NamedTuple):
    """An app with a guard, and the same app without.

    `environment`: that of `benchmarks/peers/NAME.txt` which has its packages. `module`, `variant`: of `apps`, and what that
    is asked for. `family`: what the app is written in. `needs_redis`: it talks to a server.
    """

    name: str
    environment: str
    module: str
    variant: str
    family: str
    needs_redis: bool = False

    @property
    def label(self) -> str:
        return f"{self.family}: {self.name}"


def _own(family: str, *stores: str) -> list[Peer]:
    return [
        Peer(f"jwtguard, {store}", "jwtguard", "own", f"{family} {store}", family, needs_redis=store == "redis")
        for store in stores
    ]


def _naive(environment: str, name: str) -> list[Peer]:
    return [
        Peer(f"dict + {name}", environment, "naive", "pure", "Starlette"),
        Peer(f"dict + {name}, BaseHTTPMiddleware", environment, "naive", "base", "Starlette"),
        Peer(f"AuthenticationMiddleware + {name}, no registry", environment, "naive", "backend", "Starlette"),
        Peer(f"dict + {name}", environment, "naive", "flask", "Flask"),
    ]


PEERS: Final = (
    Peer("floor, keyed by the header", "jwtguard", "floor", "asgi header", "ASGI"),
    Peer("floor, keyed by SHA-256", "jwtguard", "floor", "asgi digest", "ASGI"),
    *_own("ASGI", "memory", "redis", "sqlite"),
    Peer("floor, keyed by the header", "jwtguard", "floor", "wsgi header", "WSGI"),
    Peer("floor, keyed by SHA-256", "jwtguard", "floor", "wsgi digest", "WSGI"),
    *_own("WSGI", "memory", "redis", "sqlite"),
    *_own("Starlette", "memory", "redis", "sqlite"),
    *_own("FastAPI", "memory"),
    Peer("jwtguard, memory, require()", "jwtguard", "own", "FastAPI+require memory", "FastAPI"),
    *_own("Litestar", "memory"),
    *_own("Flask", "memory", "redis"),
    *_own("Django REST", "memory"),
    *_naive("pyjwt", "PyJWT 2.15"),
    *_naive("pyjwt-2.13", "PyJWT 2.13"),
    Peer("JWTAuth + revoked-token handler", "litestar", "litestar_jwt", "", "Litestar"),
    Peer("fastapi-users, JWT", "fastapi-users", "fastapi_users_", "jwt", "FastAPI"),
    Peer("fastapi-users, Redis", "fastapi-users", "fastapi_users_", "redis", "FastAPI", needs_redis=True),
    Peer("AuthX + set blocklist", "authx", "authx_", "", "FastAPI"),
    Peer("Authlib ResourceProtector, no registry", "authlib", "authlib_", "", "Flask"),
    Peer("flask-jwt-extended, no registry", "flask-jwt-extended", "flask_jwt_extended_", "none", "Flask"),
    Peer("flask-jwt-extended, set blocklist", "flask-jwt-extended", "flask_jwt_extended_", "set", "Flask"),
    Peer(
        "flask-jwt-extended, Redis blocklist",
        "flask-jwt-extended",
        "flask_jwt_extended_",
        "redis",
        "Flask",
        needs_redis=True,
    ),
    Peer("simplejwt, no registry", "simplejwt", "simplejwt_", "", "Django REST"),
    Peer("fast-jwt, cached verify", "node", "fast_jwt.mjs", "", "Node"),
)
