"""The keys that capture passes over."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from livedex.model import Change
from livedex.rules.forgetting import Place, pass_over
from livedex.store.entries import key_hash
from livedex.store.statements import load

SQL = load("purge")


class Forgotten:
    """The forgotten keys of one source, as one holder of its lease sees them.

    Read once: whoever changes them ends all leases on the source, so that the next holder reads them anew.
    """

    def __init__(self, connection: AsyncConnection[Any], source_id: int) -> None:
        self._connection = connection
        self._source_id = source_id
        self._hashes: set[bytes] | None = None
        self._hash_key = b""
        self._followed: set[Place] = set()

    async def pass_over(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What is left of some changes. Keys that forgotten rows moved to are remembered until `follow`."""
        if self._hashes is None:
            self._hashes = await self._read()
        if not self._hashes:
            return changes
        passed = pass_over(changes, self._is_forgotten)
        self._followed |= passed.followed
        self._hashes |= {self._hashed(place) for place in passed.followed}
        return passed.changes

    async def follow(self) -> None:
        """Forget the keys that forgotten rows moved to, in the transaction that stores the position after it."""
        if self._followed:
            values = {"source_id": self._source_id, "key_hashes": [key_hash(place) for place in self._followed]}
            await self._connection.execute(SQL["follow"], values)
            self._followed.clear()

    async def _read(self) -> set[bytes]:
        async with self._connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(SQL["forgotten"], {"source_id": self._source_id})
            rows = await cursor.fetchall()
        self._hash_key = bytes(rows[0][0])
        return {bytes(hashed) for _, hashed in rows if hashed is not None}

    def _is_forgotten(self, place: Place) -> bool:
        assert self._hashes is not None
        return self._hashed(place) in self._hashes

    def _hashed(self, place: Place) -> bytes:
        """`livedex.forgotten_hash`."""
        source = self._source_id.to_bytes(4, "big", signed=True)
        return sha256(self._hash_key + source + key_hash(place)).digest()[:16]
