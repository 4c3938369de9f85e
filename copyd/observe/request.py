"""What a client asks over HTTP: bytes in, a request or a refusal out. No socket is touched."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_HEAD = 8192
"""Bytes of a request's first line and headers together."""

_LINE = re.compile(r"([A-Z]{1,20}) (\S{1,2000}) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class Refusal(Exception):
    """A request that is answered with a status and a sentence alone."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or a HEAD. ``host``: as the client names us, without the port; None in HTTP/1.0."""

    is_head: bool
    path: str
    host: str | None
    accept: str


def parse(head: bytes) -> Request:
    """Read the lines before the empty one.

    Raises Refusal where they are no request that we answer.
    """
    line, *rest = head.decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Refusal(400, "this is not an HTTP/1.1 request")
    method, target, minor = found.groups()
    headers = _headers(rest)
    host = _host(headers.get("host", []), is_optional=minor == "0")
    if method not in {"GET", "HEAD"}:
        raise Refusal(405, "only GET and HEAD are answered, nothing can be changed here",
                      Allow="GET, HEAD")  # fmt: skip
    if not target.startswith("/"):
        raise Refusal(400, "the target of a request begins with a slash")
    return Request(
        method == "HEAD", target.partition("?")[0], host, ", ".join(headers.get("accept", []))
    )


def is_ours(host: str | None, *, names: frozenset[str], local_address: str) -> bool:
    """Whether a client that names us `host` means us.

    A web page of somebody else's whose name was made to lead here does not: its browser sends
    that name. ``local_address`` is the address that the client has reached.
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
    """An address as the client wrote it: IPv4 that reached an IPv6 socket is IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _headers(lines: list[str]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Refusal(400, "a header of this request cannot be read")
        headers.setdefault(found[1].lower(), []).append(found[2])
    return headers


def _host(given: list[str], *, is_optional: bool) -> str | None:
    if not given and is_optional:
        return None
    if len(given) != 1:
        raise Refusal(400, "a request names its host once")
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{1,5})?", given[0])
    if found is None:
        raise Refusal(400, "the host of this request cannot be read")
    return found[1]
