"""What every request passes before anything reads it: where it claims to go and to come from, and how large it is.

There are no keys yet, so a door is open to whoever can reach it: the programs of this machine. A web page is one of
those who can: by a name of its own that it lets resolve to 127.0.0.1 (DNS rebinding), which the Host header betrays, or
by sending a form across, which the Origin header betrays.
"""

from __future__ import annotations

import ipaddress
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from livedex.serve.wire import REFUSAL, Failure
from livedex.store.database import masked

MOST_BODY_BYTES = 1 << 20
UNFORESEEN = "livedex did not expect this. Its log says what happened."

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class Guard:
    """Wraps an ASGI application. `host` is a name under which it is reached besides the loopback's."""

    def __init__(self, app: App, host: str = "localhost", most_body_bytes: int = MOST_BODY_BYTES) -> None:
        self._app = app
        self._host = host.lower()
        self._most_body_bytes = most_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        failure = self._refused(scope)
        if failure is None:
            body, failure = await self._read(scope, receive)
            if failure is None:
                await self._answered(scope, _replayed(body, receive), send)
                return
        await refuse(failure, send)

    def _refused(self, scope: Scope) -> Failure | None:
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if host is None or not self._is_own(_name(f"//{host}")):
            return Failure.named(421, "The Host header names another machine. Ask by 127.0.0.1 or localhost.")
        if origin is not None and not self._is_own(_name(origin)):
            return Failure.named(403, "Pages of other machines may not ask. The Origin header must be this machine's.")
        return None

    def _is_own(self, name: str | None) -> bool:
        return name is not None and (name == self._host or is_loopback(name))

    async def _read(self, scope: Scope, receive: Receive) -> tuple[deque[Message], Failure | None]:
        """The messages of the body, which is read here to its end so that nothing has to be interrupted later."""
        too_large = Failure.named(413, f"The request is larger than {self._most_body_bytes:,} bytes.")
        declared = _header(scope, b"content-length")
        if declared is not None and declared.isdecimal() and int(declared) > self._most_body_bytes:
            return deque(), too_large
        messages: deque[Message] = deque()
        size, more = 0, True
        while more:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
            if size > self._most_body_bytes:
                return deque(), too_large
        return messages, None

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. An error that nobody foresaw is told to the log alone: it may quote what is secret."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log_unforeseen(f"{scope['method']} {scope['path']}", error)
            if begun:
                raise
            await refuse(Failure.named(500, UNFORESEEN), send)


def is_loopback(name: str) -> bool:
    """Whether a host's name or address can only mean the machine that reads it."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def log_unforeseen(where: str, error: Exception) -> None:
    """Write down an error of livedex's own, without the passwords that it may quote."""
    _log.error("%s: %s", where, masked("".join(traceback.format_exception(error))))


async def refuse(failure: Failure, send: Send) -> None:
    body = REFUSAL.dump_json(failure.refusal)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **failure.headers}
    written = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": failure.status, "headers": written})
    await send({"type": "http.response.body", "body": body})


def _replayed(messages: deque[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        return messages.popleft() if messages else await receive()

    return replay


def _header(scope: Scope, name: bytes) -> str | None:
    """A header's value; None when it is missing, empty when it stands there twice and so means nothing."""
    values = [value for key, value in scope["headers"] if key == name]
    if not values:
        return None
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""


def _name(url: str) -> str | None:
    """The host of a URL in lower case, without port and brackets."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
