"""Calls a web address."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from penstock.components.contract import BatchComponent, BatchContext, Parameters
from penstock.errors import WorkflowError

__all__ = ["Http", "HttpParameters"]

_LARGEST: Final = 256 << 10
_SHOWN: Final = 500


class HttpParameters(Parameters):
    """Parameters of `http`."""

    url: str = Field(pattern=r"^(https?://|\{\{)", examples=["https://example.org/hook"])
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    headers: dict[str, str] = Field(default={}, description="Sent as they are")
    secrets: dict[str, str] = Field(default={}, description="Header -> name of the secret that is its value")
    body: JsonValue = Field(default=None, title="Body", description="Sent as JSON; text as it is")
    timeout_s: float = Field(default=30.0, gt=0, description="For connecting, and for each wait of the answer")
    codes: tuple[int, ...] = Field(default=(), description="Answers that count as done; any 2xx if empty")


class Http(BatchComponent):
    """Sends one request; its answer is the output `body`: JSON, text, or, above 256 KiB, the file `file`.

    Every attempt carries the same `Idempotency-Key`, so that a service that knows it acts once.
    """

    name = "http"
    parameters = HttpParameters
    outputs: ClassVar[dict[str, str]] = {"status": "integer", "body": "json", "file": "file"}

    def run(self, context: BatchContext, parameters: HttpParameters) -> None:
        """Sends it and takes the answer."""
        if not parameters.url.startswith(("http://", "https://")):
            raise WorkflowError("an address of the web", found=repr(parameters.url), remedy="write http://host/path")
        request = urllib.request.Request(  # noqa: S310  of the web, as just seen
            parameters.url, data=_body(parameters.body), method=parameters.method, headers=_headers(context, parameters)
        )
        try:
            with urllib.request.urlopen(request, timeout=parameters.timeout_s) as answer:  # noqa: S310  of the web
                self._take(context, parameters, answer.status, answer)
        except urllib.error.HTTPError as error:
            with error:
                self._take(context, parameters, error.code, error)
        except OSError as error:
            raise WorkflowError(
                f"{parameters.url} answers", found=str(getattr(error, "reason", error)), remedy="look at the network"
            ) from error

    def _take(self, context: BatchContext, parameters: HttpParameters, status: int, answer: Any) -> None:
        context.put("status", status)
        good = status in parameters.codes if parameters.codes else 200 <= status < 300
        head = answer.read(_LARGEST + 1)
        if not good:
            shown = head[:_SHOWN].decode(errors="replace")
            wanted = ", ".join(map(str, parameters.codes)) or "2xx"
            raise WorkflowError(f"{parameters.url} answers with {wanted}", found=f"{status}: {shown}")
        if len(head) > _LARGEST:
            with context.output("file").open("wb") as file:
                file.write(head)
                shutil.copyfileobj(answer, file)
            return
        text = head.decode(errors="replace")
        try:
            context.put("body", json.loads(text))
        except ValueError:
            context.put("body", text)


def _body(body: JsonValue) -> bytes | None:
    if body is None:
        return None
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _headers(context: BatchContext, parameters: HttpParameters) -> dict[str, str]:
    headers = {"User-Agent": "penstock", "Idempotency-Key": context.idempotency_key}
    if parameters.body is not None and not isinstance(parameters.body, str):
        headers["Content-Type"] = "application/json"
    return headers | parameters.headers | {name: context.secret(key) for name, key in parameters.secrets.items()}
