"""Parts of URLs, hosts, mail and IP addresses. Whatever is malformed has no parts: null."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from penstock.plan.expr.registry import Family

__all__ = ["URLS"]

URLS = Family("url", "URLs and addresses")
_add = URLS.add


def _split(value: str) -> SplitResult | None:
    try:
        found = urlsplit(value)
        found.port  # noqa: B018 refuses a malformed port
    except ValueError:
        return None
    return found if found.scheme and found.netloc else None


def _part(read: Callable[[SplitResult], Any]) -> Callable[[str], Any]:
    def run(value: str) -> Any:
        found = _split(value)
        return None if found is None else read(found)

    return run


def _query(value: str, name: str) -> str | None:
    found = _split(value)
    if found is None:
        return None
    return next((held for key, held in parse_qsl(found.query, keep_blank_values=True) if key == name), None)


def _add_part(name: str, doc: str, read: Callable[[SplitResult], Any], result: str = "text") -> None:
    _add(f"{name}(text) -> {result}", doc, row=_part(read), nulls="maybe", duckdb=None)


_add_part("url_scheme", "Scheme, in lower case.", lambda u: u.scheme)
_add_part("url_host", "Host, in lower case.", lambda u: u.hostname)
_add_part("url_port", "Port, null if none is written.", lambda u: u.port, "int")
_add_part("url_path", "Path, as written.", lambda u: u.path)
_add_part("url_query", "Query, as written, without the ?.", lambda u: u.query)
_add_part("url_fragment", "Fragment, as written, without the #.", lambda u: u.fragment)
_add(
    "url_param(text, text) -> text",
    "Value of a query parameter, decoded; the first of several.",
    row=_query,
    nulls="maybe",
    duckdb=None,
)
_add(
    "url_decode(text) -> text",
    "With %XX escapes read as UTF-8.",
    row=lambda v: unquote(v, errors="replace"),
    duckdb=None,
)
_add(
    "url_encode(text) -> text",
    "With all but letters, digits and -_.~ as %XX of UTF-8.",
    row=lambda v: quote(v, safe="~"),
    duckdb="url_encode({0})",
)


def _host_suffix(host: str, labels: int) -> str | None:
    parts = host.strip(".").lower().split(".")
    return ".".join(parts[-labels:]) if labels > 0 and parts != [""] else None


_add(
    "host_suffix(text, int) -> text",
    "The last n labels of a host: host_suffix('a.b.co', 2) is 'b.co'.",
    row=_host_suffix,
    nulls="maybe",
    duckdb=None,
)


def _email_domain(value: str) -> str | None:
    user, at, host = value.strip().rpartition("@")
    return host.lower() if at and user and "." in host.strip(".") else None


_add(
    "email_domain(text) -> text",
    "What follows the last @ of a mail address, in lower case.",
    row=_email_domain,
    nulls="maybe",
    duckdb=None,
)


def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value.strip())
    except ValueError:
        return None


def _ip_version(value: str) -> int | None:
    found = _address(value)
    return None if found is None else found.version


def _ip_private(value: str) -> bool | None:
    found = _address(value)
    return None if found is None else found.is_private


def _ip_network(value: str, bits: int) -> str | None:
    found = _address(value)
    if found is None or not 0 <= bits <= found.max_prefixlen:
        return None
    return str(ipaddress.ip_network((found, bits), strict=False))


_add("ip_version(text) -> int", "4 or 6.", row=_ip_version, nulls="maybe", duckdb=None)
_add(
    "ip_is_private(text) -> bool",
    "True for addresses not routed in public.",
    row=_ip_private,
    nulls="maybe",
    duckdb=None,
)
_add(
    "ip_network(text, int) -> text",
    "The network of the first n bits: ip_network('10.1.2.3', 8) is '10.0.0.0/8'.",
    row=_ip_network,
    nulls="maybe",
    duckdb=None,
)
