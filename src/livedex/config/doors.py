"""The section `serve`: the doors through which others search."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from livedex.config.values import Section, Text, Texts


def _loopback(host: str) -> str:
    try:
        reached_from_here_only = ipaddress.ip_address(host).is_loopback
    except ValueError:
        reached_from_here_only = host == "localhost"
    if not reached_from_here_only:
        raise PydanticCustomError(
            "loopback",
            "must be 127.0.0.1, ::1 or localhost: without keys, which livedex does not have yet, other machines must"
            " not reach it. To let them, put a proxy that asks for a password in front",
        )
    return host


def _switched(written: Any) -> Any:
    return written if written is None or isinstance(written, Mapping) else {"enabled": written}


class McpDoor(Section):
    """On whose behalf models search over MCP. A model cannot choose: what it may see is not for it to say."""

    tenant: Text | None = None
    """The tenant whose documents are found, besides those of no tenant."""
    principals: Texts = ()
    """The users and groups whose documents are found, besides those that everybody may see."""


class Serve(Section):
    """The doors: HTTP, with the extra `serve`, and on the same port MCP, with the extra `mcp`. `serve: false` closes
    them. There are no keys yet, so they are open to every program on this machine and to nothing else."""

    enabled: bool = True
    """Whether `livedex up` opens them. Without a word about `serve` it does so when the extra is installed."""
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    """The address to listen on: `127.0.0.1`, `::1` or `localhost`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8484
    """The port to listen on; 0 for any that is free."""
    mcp: McpDoor = McpDoor()
    """On whose behalf models search over MCP."""


Doors = Annotated[Serve, BeforeValidator(_switched)]
"""`Serve`, for which the file may have true or false alone."""
