"""Who may talk to the server: a token, shown with each request or once to log a browser in."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from fastapi import HTTPException, Request

__all__ = ["COOKIE", "TOKEN_FILE", "Access", "read_or_make_token"]

TOKEN_FILE: Final = "token"  # noqa: S105  the name of a file
COOKIE: Final = "penstock_session"


def read_or_make_token(state: Path) -> str:
    """The deployment's token: from PENSTOCK_TOKEN, else from `.penstock/token`, made at first (mode 0600)."""
    if given := os.environ.get("PENSTOCK_TOKEN"):
        return given
    file = state / TOKEN_FILE
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    with os.fdopen(fd, "w") as opened:
        opened.write(secrets.token_urlsafe(32) + "\n")
    return file.read_text().strip()


class Access:
    """Lets in who shows the token, or the cookie that a login with it has set."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.session = hashlib.blake2b(b"session", key=self._token[:64], digest_size=32).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether it is the token; takes as long whatever was given."""
        return hmac.compare_digest(given.encode(), self._token)

    def __call__(self, request: Request) -> None:
        """Refuses a request that shows neither, and one of a page from elsewhere that rides on the cookie."""
        bearer = request.headers.get("authorization", "")
        if bearer.startswith("Bearer ") and self.is_token(bearer.removeprefix("Bearer ")):
            return
        cookie = request.cookies.get(COOKIE, "")
        if hmac.compare_digest(cookie.encode(), self.session.encode()) and _same_site(request):
            return
        raise HTTPException(
            401,
            {
                "asked": "a request shows the token",
                "found": "none, or another",
                "remedy": "send `Authorization: Bearer TOKEN`; it stands in .penstock/token",
            },
            headers={"WWW-Authenticate": "Bearer"},
        )


def _same_site(request: Request) -> bool:
    origin = request.headers.get("origin")
    return request.method == "GET" or origin is None or origin == str(request.base_url).rstrip("/")
