"""The REST of workflows: one application over `Control`, with OpenAPI at /v1/openapi.json."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import penstock
from penstock.errors import PenstockError, StoreError, WorkflowError, WorkflowErrors
from penstock.server.control import (
    routes_facts,
    routes_jobs,
    routes_logs,
    routes_runs,
    routes_values,
    routes_workflows,
)
from penstock.server.control.access import COOKIE, Access
from penstock.store.meta.rows_store import ConflictError
from penstock.workflows.control import Control

__all__ = ["make_app"]


class Login(BaseModel):
    """What a browser shows once."""

    token: str


def make_app(control: Control, token: str) -> FastAPI:
    """The application; it starts and closes `control` with itself.

    Args:
        control: not yet started.
        token: what requests must show.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        control.start()
        yield
        control.close()

    app = FastAPI(
        title="Penstock",
        version=penstock.__version__,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    access = Access(token)

    @app.get("/v1/health", tags=["server"])
    def health() -> dict[str, Any]:
        """Whether the server is there; needs no token."""
        return {"status": "up", "version": penstock.__version__}

    @app.post("/v1/login", tags=["server"])
    def login(given: Login, request: Request, response: Response) -> dict[str, Any]:
        """Logs a browser in by the token: sets a cookie that no script reads."""
        if not access.is_token(given.token):
            raise WorkflowError("log in by the token", found="another", remedy="it stands in .penstock/token")
        response.set_cookie(
            COOKIE, access.session, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return {"status": "in"}

    for routes in (routes_workflows, routes_jobs, routes_runs, routes_logs, routes_facts, routes_values):
        app.include_router(routes.make_router(control), prefix="/v1", dependencies=[Depends(access)])
    app.add_exception_handler(PenstockError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    return app


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PenstockError)
    status = 409 if isinstance(error, ConflictError) else 503 if isinstance(error, StoreError) else 422
    if isinstance(error, StoreError) and "someone else" in error.remedy:
        status = 409
    parts = error.errors if isinstance(error, WorkflowErrors) else (error,)
    return JSONResponse({"errors": [_plain(part) for part in parts]}, status)


def _malformed(request: Request, error: Exception) -> JSONResponse:
    """A request that does not fit its form; what came with a secret is not said again."""
    assert isinstance(error, RequestValidationError)
    is_secret = request.url.path.startswith("/v1/secrets")
    found = [
        {
            "code": WorkflowError.code,
            "asked": f"{'.'.join(map(str, e['loc']))}: {e['msg']}",
            "found": "" if is_secret else repr(e.get("input"))[:200],
            "remedy": "GET /v1/openapi.json says what each field may be",
            "where": request.url.path,
        }
        for e in error.errors()
    ]
    return JSONResponse({"errors": found}, 422)


def _plain(error: PenstockError) -> dict[str, str]:
    where = str(error.where or "")
    return {"code": error.code, "asked": error.asked, "found": error.found, "remedy": error.remedy, "where": where}
