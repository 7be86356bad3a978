"""The FastAPI example, with Swagger UI's files from a package: the page would fetch them from elsewhere."""

from importlib.util import find_spec
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.fastapi_app import app as guarded

_package = find_spec("swagger_ui")
assert _package is not None
assert _package.origin is not None


def page(request: Request) -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="docs",
        swagger_js_url="/assets/swagger-ui-bundle.js",
        swagger_css_url="/assets/swagger-ui.css",
        swagger_favicon_url="/assets/favicon-32x32.png",
    )


assets = StaticFiles(directory=Path(_package.origin).parent / "static")
app = Starlette(routes=[Route("/docs", page), Mount("/assets", assets), Mount("/", guarded)])
