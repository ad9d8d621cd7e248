"""Which rows are not as their producer was held to, as far as that takes the log: near duplicates, and judging again
what stands when something else is expected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.model import Op
from livedex.rules.expectations import NearDuplicates
from livedex.rules.folding import Effect
from livedex.rules.mapping import render
from livedex.rules.near_duplicates import are_near, bands, distance_of, fingerprint, probes, signed, unsigned
from livedex.store.entries import Entry, Resolved, SourceRow
from livedex.store.statements import load

SQL = load("expectations")
PAGE = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that stands or is to stand, by what it says. `index`: its row's among those to be written."""

    table: str
    text: str
    document: int | None
    index: int | None = None


class Crowd:
    """How many documents of a source say almost the same. Looks at nothing where that is not limited."""

    def __init__(self, connection: AsyncConnection[Any], source: SourceRow) -> None:
        self._connection = connection
        self._source = source
        self.is_limited = any(expected.near_duplicates for expected in source.expects.values())

    async def judge(self, resolved: Resolved, standing: Sequence[Candidate] = ()) -> dict[int, str]:
        """Refuse rows of which enough stand already. Says why of those documents of `standing` of which there are too
        many; the others get places, in the order in which they come."""
        if not self.is_limited:
            return {}
        candidates = [*standing, *_rows(resolved, self._source)]
        leaving = [row["document"] for row in resolved.rows if row["document"] is not None]
        leaving += [each.document for each in standing if each.document is not None]
        prints = await asyncio.to_thread(
            lambda: [(each, found) for each in candidates if (found := self._print(each)) is not None]
        )
        if not prints:
            return {}
        near = await self._near([found for _, found in prints], [self._limit(each) for each, _ in prints], leaving)
        taken: list[int] = []
        crowded: dict[int, str] = {}
        for (each, own), others in zip(prints, near, strict=True):
            limit = self._limit(each)
            distance = distance_of(limit.similarity)
            count = len(others) + sum(are_near(own, other, distance) for other in taken)
            if count < limit.limit:
                taken.append(own)
                if each.index is not None:
                    resolved.fingerprints[each.index] = own
                elif each.document is not None:
                    resolved.settled[each.document] = own
            elif each.index is not None:
                resolved.refuse(each.index, self._reason(each.table, limit))
            elif each.document is not None:
                crowded[each.document] = self._reason(each.table, limit)
        return crowded

    async def settle(self, resolved: Resolved, written: Sequence[Mapping[str, Any]]) -> None:
        """Give places to what was written, and free those of what is not there any more."""
        if not self.is_limited:
            return
        await self._execute("leave", documents=[row["document"] for row in written])
        places = {written[index]["document"]: found for index, found in resolved.fingerprints.items()}
        rows = [
            {"band": band, "value": value, "document": document, "fingerprint": signed(found)}
            for document, found in {**resolved.settled, **places}.items()
            for band, value in enumerate(bands(found))
        ]
        await self._execute("settle", rows=Jsonb(rows))

    async def clear(self) -> None:
        """Forget all places, to give them anew or not at all."""
        await self._execute("clear")

    def _reason(self, table: str, limit: NearDuplicates) -> str:
        most = "One document" if limit.limit == 1 else f"{limit.limit} documents"
        return (
            f'Not as expected of table "{table}": {most} of source {self._source.name} already say almost the same '
            f"(similarity {limit.similarity:.0%} or more)."
        )

    def _limit(self, candidate: Candidate) -> NearDuplicates:
        limit = self._source.expects[candidate.table].near_duplicates
        assert limit is not None  # `_print` lets no other through
        return limit

    def _print(self, candidate: Candidate) -> int | None:
        expected = self._source.expects.get(candidate.table)
        return None if expected is None or expected.near_duplicates is None else fingerprint(candidate.text)

    async def _near(
        self, prints: Sequence[int], limits: Sequence[NearDuplicates], leaving: Sequence[int]
    ) -> list[set[int]]:
        """Per fingerprint the documents that stand near it."""
        asked = [
            {"ordinal": ordinal, "band": band, "near": values}
            for ordinal, (found, limit) in enumerate(zip(prints, limits, strict=True))
            for band, values in probes(found, distance_of(limit.similarity))
        ]
        near: list[set[int]] = [set() for _ in prints]
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            values = {"probes": Jsonb(asked), "leaving": list(leaving), "source_id": self._source.source_id}
            await cursor.execute(SQL["near"], values)
            for row in await cursor.fetchall():
                own, distance = prints[row["ordinal"]], distance_of(limits[row["ordinal"]].similarity)
                if are_near(own, unsigned(row["fingerprint"]), distance):
                    near[row["ordinal"]].add(row["document"])
        return near

    async def _execute(self, name: str, **values: Any) -> None:
        await self._connection.execute(SQL[name], {"source_id": self._source.source_id, **values})


@dataclass(frozen=True, slots=True)
class Page:
    """Some living documents, as if each had changed into what it is."""

    effects: tuple[Effect, ...]
    entries: tuple[Entry, ...]

    def only(self, documents: Container[int]) -> Page:
        """Some of them, as if they were not in the log as they are."""
        chosen = [
            (effect, replace(entry, raw_hash=b""))
            for effect, entry in zip(self.effects, self.entries, strict=True)
            if entry.document in documents
        ]
        return Page(tuple(effect for effect, _ in chosen), tuple(entry for _, entry in chosen))

    def candidates(self, resolved: Resolved, source: SourceRow) -> list[Candidate]:
        """Those that stay as they are, in the order in which they came."""
        found: list[Candidate] = []
        seen = set(resolved.seen)
        for effect, entry in zip(self.effects, self.entries, strict=True):
            if entry.document in seen and not entry.refused:
                assert effect.place is not None
                table = effect.place[0]
                found.append(Candidate(table, render(source.mapping[table], effect.columns).content, entry.document))
        return found


async def living(connection: AsyncConnection[Any], source: SourceRow) -> AsyncIterator[Page]:
    """The documents of a source, in pages."""
    after = 0
    while True:
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL["living"], {"source_id": source.source_id, "after": after, "limit": PAGE})
            rows = await cursor.fetchall()
        if not rows:
            return
        yield Page(tuple(_effect(row, number) for number, row in enumerate(rows)), tuple(_entry(row) for row in rows))
        after = rows[-1]["document"]


async def judged(connection: AsyncConnection[Any], source: SourceRow, partition: str) -> str | None:
    """The digest of the expectations by which the log was judged; None when it is to be judged again."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["judged"], {"source_id": source.source_id, "partition": partition})
        row = await cursor.fetchone()
    return "" if row is None else row["judged"]


async def note_judged(connection: AsyncConnection[Any], source: SourceRow, partition: str) -> None:
    values = {"source_id": source.source_id, "partition": partition, "judged": source.expected}
    await connection.execute(SQL["note_judged"], values)


def _rows(resolved: Resolved, source: SourceRow) -> list[Candidate]:
    return [
        Candidate(
            row["collection"], render(source.mapping[row["collection"]], row["raw"]).content, row["document"], index
        )
        for index, row in enumerate(resolved.rows)
        if not row["deleted"] and index not in resolved.refusals
    ]


def _effect(row: Mapping[str, Any], number: int) -> Effect:
    table, *key = json.loads(row["key"])
    place = (table, tuple(key))
    return Effect(
        place, place, Op.UPDATE, row["raw"], frozenset(), row["source_position"], row["source_time"], number
    )  # fmt: skip


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        document=row["document"],
        key_hash=bytes(row["key_hash"]),
        deleted=False,
        seq=row["seq"],
        raw_hash=bytes(row["raw_hash"]),
        refused=row["refused"],
        raw=row["raw"],
        content_bytes=row["content_bytes"],
    )
