"""Freshness tokens: what a writer names so that a search covers what it wrote.

Two kinds. A position, `7391406215:1:0/16B3748`, with the LSN from pg_current_wal_insert_lsn() after the commit. Or a
transaction, `7391406215:xid:748`, from within it; which position that has is asked of the server, not followed.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from livedex.adapters.sources.postgres import catalog
from livedex.adapters.sources.postgres.connection import Session
from livedex.adapters.sources.postgres.lsn import Position, end_of_written
from livedex.errors import SourceError, TokenRefused

REMEMBERED = 1024
_POSITION = re.compile(r"(\d{1,20}):(\d{1,10}):([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_TRANSACTION = re.compile(r"(\d{1,20}):xid:(\d{1,19})")
_BEHIND_A_HEADER = (24, 40)
_SMALLEST_PAGE = 1024
_ENDED = {"aborted": "was rolled back", "not begun": "has never begun"}


class Tokens:
    """Finds the positions of tokens; asks the server only where it has to."""

    def __init__(self, session: Session, source: str) -> None:
        self._session = session
        self._source = source
        self._layout: tuple[int, int] | None = None
        self._positions: OrderedDict[tuple[str, int], str] = OrderedDict()

    async def locate(self, token: str, near: str | None) -> str | None:
        """See `livedex.ports.Source.locate`."""
        stands = None if near is None else self._position(near)
        if match := _TRANSACTION.fullmatch(token):
            return await self._of_transaction(token, match[1], int(match[2]), stands)
        if not _POSITION.fullmatch(token):
            raise TokenRefused(
                f'"{token}" is no token of source {self._source}: it is neither system:timeline:LSN nor '
                f"system:xid:transaction. Make one: livedex token {self._source}"
            )
        position = Position.parse(token)
        if stands is not None:
            self._check_system(token, position.system, stands.system)
            if position.timeline < stands.timeline:
                raise TokenRefused(
                    f"Token {token} is from timeline {position.timeline}; source {self._source} is on timeline "
                    f"{stands.timeline} since a failover, which may have lost what came last. Read the row again at "
                    "the source, and make a new token."
                )
        return str(await self._reachable(position))

    async def _of_transaction(self, token: str, system: str, xid: int, stands: Position | None) -> str | None:
        if stands is not None:
            self._check_system(token, system, stands.system)
        if (system, xid) in self._positions:
            self._positions.move_to_end((system, xid))
            return self._positions[system, xid]
        status, written = await catalog.transaction_status(self._session, xid)
        self._check_system(token, system, written.position.system)
        if status == "in progress":
            return None
        if status != "committed":
            how = _ENDED.get(status or "", "is too old to tell whether it was committed")
            raise TokenRefused(f"Transaction {xid} of {token} {how}. Write again, and make a new token.")
        # Its commit record lies before what was written when it was seen to be committed.
        found = self._positions[system, xid] = str(written.position)
        if len(self._positions) > REMEMBERED:
            self._positions.popitem(last=False)
        if written.flushed < written.position.lsn:
            await catalog.request_flush(self._session)
        return found

    def _check_system(self, token: str, named: str, ours: str) -> None:
        if named != ours:
            raise TokenRefused(
                f"Token {token} is of server {named}, source {self._source} follows server {ours}. Make the token "
                "on the server that the source follows."
            )

    def _position(self, near: str) -> Position:
        try:
            return Position.parse(near)
        except SourceError as error:
            raise TokenRefused(
                f"Source {self._source} stands at {near}, which is no position of a PostgreSQL server."
            ) from error

    async def _reachable(self, position: Position) -> Position:
        """Without an empty page header at its end, which no reader of the log gets behind on an idle server."""
        if position.lsn % _SMALLEST_PAGE not in _BEHIND_A_HEADER:
            return position
        if self._layout is None:
            self._layout = await catalog.log_layout(self._session)
        return position.at(end_of_written(position.lsn, *self._layout))
