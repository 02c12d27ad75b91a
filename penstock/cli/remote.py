"""The server of a project, as commands see it: found by its file, asked over HTTP with the project's token."""

from __future__ import annotations

import getpass
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from penstock.errors import DoorError, WorkflowError, WorkflowErrors

__all__ = ["Remote", "author"]

_TIMEOUT_S: Final = 60.0


def author() -> str:
    """Who acts, for the record."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"


class Remote:
    """Asks the server of a project.

    Args:
        project: its folder; `.penstock/run/server.json` says where the server is.

    Raises:
        DoorError: no server was ever started there.
    """

    def __init__(self, project: Path) -> None:
        state = project.resolve() / ".penstock"
        try:
            self.url = json.loads((state / "run" / "server.json").read_text())["url"]
            self._token = (state / "token").read_text().strip()
        except (OSError, ValueError, KeyError) as error:
            raise _down(project) from error
        self.project = project

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET."""
        return self.ask("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON that answers a POST."""
        return self.ask("POST", path, {} if body is None else body)

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer.

        Raises:
            WorkflowError: the server refuses; what it says.
            DoorError: it does not answer.
        """
        with self._open(method, path, body, query or {}) as response:
            return json.loads(response.read() or b"null")

    def lines(self, path: str, **query: Any) -> Iterator[bytes]:
        """An answer as it comes, piece by piece."""
        with self._open("GET", path, None, query, timeout_s=None) as response:
            while piece := response.read1(65_536):
                yield piece

    @contextmanager
    def _open(
        self, method: str, path: str, body: Any, query: dict[str, Any], *, timeout_s: float | None = _TIMEOUT_S
    ) -> Iterator[http.client.HTTPResponse]:
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
        asked = {key: value for key, value in query.items() if value is not None}
        target = "/v1/" + "/".join(quote(part, safe="") for part in path.split("/"))
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target + (f"?{urlencode(asked)}" if asked else ""), data, headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise _refused(response.status, response.read())
            yield response
        except (ConnectionError, TimeoutError) as error:
            raise _down(self.project, str(error)) from error
        finally:
            connection.close()


def _down(project: Path, found: str = "none") -> DoorError:
    return DoorError(
        f"a server of {project.resolve().name}", found=found, remedy="start it: `penstock up`", where=str(project)
    )


def _refused(status: int, body: bytes) -> WorkflowError | DoorError:
    try:
        data = json.loads(body)
    except ValueError:
        data = {}
    errors = tuple(
        WorkflowError(e["asked"], found=e["found"], remedy=e["remedy"], where=e["where"] or None)
        for e in data.get("errors", ())
    )
    if len(errors) > 1:
        return WorkflowErrors(errors)
    if errors:
        return errors[0]
    detail = data.get("detail")
    if isinstance(detail, dict):
        return DoorError(detail["asked"], found=detail["found"], remedy=detail["remedy"])
    return DoorError(f"the server answers {status}", found=str(detail or body[:200]), remedy="see the server's log")
