"""The dictionary, resources, secrets."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, JsonValue

from penstock.components.values import secret_names, set_secret
from penstock.workflows.control import Control
from penstock.workflows.dictionary import readers
from penstock.workflows.resources import users

__all__ = ["make_router"]


class ValueBody(BaseModel):
    """A value for a key; `expect` is the version it follows."""

    model_config = ConfigDict(extra="forbid")

    value: JsonValue
    type: str | None = None
    description: str | None = None
    author: str = ""
    reason: str = ""
    expect: int | None = None


class SecretBody(BaseModel):
    """The value of a secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    value: str


def make_router(control: Control) -> APIRouter:
    """The routes over a deployment's dictionary, resources and secrets."""
    router = APIRouter(tags=["values"])

    @router.get("/dictionary")
    def entries() -> list[dict[str, Any]]:
        """Every key with its value, type, version and who reads it."""
        specs = [version.spec for version in control.workflows()]
        return [_plain(entry) | {"readers": readers(entry.key, specs)} for entry in control.dictionary.list()]

    @router.get("/dictionary/{key}")
    def entry(key: str) -> dict[str, Any]:
        """A key with its history."""
        history = [_plain(version) for version in control.dictionary.history(key)]
        return _plain(control.dictionary.get(key)) | {"history": history}

    @router.put("/dictionary/{key}")
    def put(key: str, body: ValueBody) -> dict[str, Any]:
        """Sets a key; tasks and streams read it from now on, and a fact `snapshot(dict.KEY)` tells of it."""
        made = control.dictionary.put(
            key,
            body.value,
            type=body.type,
            description=body.description,
            author=body.author,
            reason=body.reason,
            expect=body.expect,
        )
        control.fact(f"dict.{key}", "snapshot", made.version)
        return _plain(made)

    @router.delete("/dictionary/{key}")
    def remove(key: str, author: str = "", reason: str = "") -> dict[str, Any]:
        """Takes a key away; its versions stay."""
        made = control.dictionary.remove(key, author=author, reason=reason)
        control.fact(f"dict.{key}", "snapshot", made.version)
        return _plain(made)

    @router.get("/resources")
    def resources() -> list[dict[str, Any]]:
        """Every resource with its newest version and who uses it."""
        specs = [version.spec for version in control.workflows()]
        return [_plain(r) | {"uri": r.uri, "users": users(r.name, specs)} for r in control.resources.list()]

    @router.get("/resources/{name}")
    def resource(name: str) -> dict[str, Any]:
        """A resource with its versions."""
        found = control.resources.get(name)
        return _plain(found) | {"uri": found.uri, "history": [_plain(r) for r in control.resources.history(name)]}

    @router.put("/resources/{name}")
    async def put_resource(name: str, request: Request, author: str = "", reason: str = "") -> dict[str, Any]:
        """Adds a version of the request's body."""
        found = control.resources.put(name, await request.body(), author=author, reason=reason)
        return _plain(found) | {"uri": found.uri}

    @router.get("/secrets")
    def secrets() -> list[str]:
        """The names of the secrets that are kept here; a value is never given out."""
        return secret_names(control.state)

    @router.put("/secrets/{name}")
    def put_secret(name: str, body: SecretBody, author: str = "", reason: str = "") -> dict[str, Any]:
        """Keeps a secret; the record says who and why, not what."""
        set_secret(control.state, name, body.value)
        control.meta.add_audit("secret", name, "set", author=author, reason=reason)
        return {"name": name}

    @router.delete("/secrets/{name}")
    def remove_secret(name: str, author: str = "", reason: str = "") -> dict[str, Any]:
        """Takes a secret away."""
        set_secret(control.state, name, None)
        control.meta.add_audit("secret", name, "removed", author=author, reason=reason)
        return {"name": name}

    return router


def _plain(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found
