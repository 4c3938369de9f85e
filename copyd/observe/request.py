"""Parses HTTP requests: bytes in, a request or a refusal out; knows no sockets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_HEAD = 8192  # bytes of the request line and the headers

_LINE = re.compile(r"([A-Z]{1,20}) (\S{1,2000}) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class Refusal(Exception):
    """The response to a bad request: a status and a sentence."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD. ``host``: the Host header without the port; None only in HTTP/1.0."""

    is_head: bool
    path: str
    host: str | None
    accept: str


def parse(head: bytes) -> Request:
    """Parse the lines before the empty line; raises Refusal for anything but GET and HEAD."""
    line, *rest = head.decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Refusal(400, "this is not an HTTP/1.1 request")
    method, target, minor = found.groups()
    headers = _headers(rest)
    host = _host(headers.get("host", []), is_optional=minor == "0")
    if method not in {"GET", "HEAD"}:
        raise Refusal(405, "only GET and HEAD are supported: these pages are read-only",
                      Allow="GET, HEAD")  # fmt: skip
    if not target.startswith("/"):
        raise Refusal(400, "the request target must begin with a slash")
    return Request(
        method == "HEAD", target.partition("?")[0], host, ", ".join(headers.get("accept", []))
    )


def is_ours(host: str | None, *, names: frozenset[str], local_address: str) -> bool:
    """Whether the Host header `host` names this server; ``local_address``: the socket's.

    This stops DNS rebinding: a foreign web page whose name resolves to this server sends its own
    name.
    """
    if host is None:
        return True
    name = host.lower().rstrip(".")
    if name == "localhost" or name in names:
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
        return address.is_loopback or address == _unmapped(local_address)
    except ValueError:
        return False


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # IPv4 clients reach an IPv6 socket as ::ffff:a.b.c.d, but write a.b.c.d in Host.
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _headers(lines: list[str]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Refusal(400, "a header of this request is malformed")
        headers.setdefault(found[1].lower(), []).append(found[2])
    return headers


def _host(given: list[str], *, is_optional: bool) -> str | None:
    if not given and is_optional:
        return None
    if len(given) != 1:
        raise Refusal(400, "a request must have one Host header")
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{1,5})?", given[0])
    if found is None:
        raise Refusal(400, "the Host header of this request is malformed")
    return found[1]
