"""Writers to the source's table: every way in which rows change, told to the history as it happens."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import psycopg
from tests.chaos.history import Content, History, Revision, Transaction
from tests.chaos.servers import Server

from livedex.adapters.sources.postgres.lsn import parse_lsn

TABLES = """
CREATE TABLE documents (
    doc_id text PRIMARY KEY, revision bigint NOT NULL, title text, content text, category text, tenant text,
    updated_at timestamptz DEFAULT now());
CREATE TABLE unrelated (number bigint PRIMARY KEY, said text);
"""
DOCUMENTS = 250
BULK = 1200
WORDS = ("parcel", "refund", "letter", "garden", "window", "carrier", "invoice", "station", "market", "bridge")
TENANTS = (None, None, None, "north", "south")
PAUSE_SECONDS = 0.12
RETRY_SECONDS = 0.2
INSERT_INTO = (
    "INSERT INTO documents (doc_id, revision, title, content, category, tenant) VALUES (%s, %s, %s, %s, %s, %s)"
)
UPDATE = "UPDATE documents SET revision = %s, title = %s, content = %s, category = %s, tenant = %s WHERE doc_id = %s"


class Gate:
    """Many may pass together, or one alone; and all may be kept out. Keys that somebody holds are in `taken`."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._inside = 0
        self._alone = False
        self._closed = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def passing(self, *, alone: bool = False) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._alone or self._closed or (alone and self._inside)))
            self._inside += 1
            self._alone = alone
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._alone = False
                self._changed.notify_all()

    async def close(self) -> None:
        """Let nobody in any more, and wait until those inside have left."""
        async with self._changed:
            self._closed = True
            await self._changed.wait_for(lambda: not self._inside)

    async def open(self) -> None:
        async with self._changed:
            self._closed = False
            self._changed.notify_all()


class Writer:
    """Writes one transaction after the other. What happened to one whose connection broke is found out before it goes
    on: a row of its own tells."""

    def __init__(self, number: int, server: Server, history: History, gate: Gate, seed: int) -> None:
        self._number = number
        self._server = server
        self._history = history
        self._gate = gate
        self._dice = random.Random(seed * 1000 + number)
        self._serial = 0
        self._mine: set[str] = set()
        self.committed: Counter[str] = Counter()
        self.rolled_back = 0
        self.in_doubt = 0

    async def run(self) -> None:
        kinds: list[tuple[Callable[[Work], Awaitable[None]], float]] = [
            (insert, 12), (edit, 40), (edit_several, 8), (change_title, 8), (change_metadata, 8), (change_tenant, 3),
            (change_nothing, 4), (write_elsewhere, 4), (delete, 7), (change_key, 6), (write_again, 3),
            (truncate, 0.15), (reload, 0.4), (write_many, 0.7), (delete_many, 0.7),
        ]  # fmt: skip
        verbs, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        while True:
            verb = self._dice.choices(verbs, weights)[0]
            alone = verb in (truncate, reload, write_many, delete_many)
            async with self._gate.passing(alone=alone):
                await self._transaction(verb)
            await asyncio.sleep(self._dice.uniform(0.2, 1.8) * PAUSE_SECONDS)

    async def _transaction(self, verb: Callable[[Work], Awaitable[None]]) -> None:
        self._serial += 1
        token = self._number * 1_000_000 + self._serial
        transaction = Transaction(self._history)
        try:
            landed = await self._try(verb, transaction, token)
        except psycopg.OperationalError:
            self.in_doubt += 1
            landed = await self._find_out(token)
        finally:
            self._gate.taken -= self._mine
        if landed is None:
            transaction.refused()
            self.rolled_back += 1
        else:
            transaction.landed(landed, time.time())
            self.committed[verb.__name__] += 1
        self._gate.taken -= self._mine
        self._mine = set()

    async def _try(self, verb: Callable[[Work], Awaitable[None]], told: Transaction, token: int) -> int | None:
        """A mark after the commit; None if it was rolled back on purpose."""
        connection = await psycopg.AsyncConnection.connect(
            self._server.dsn, application_name="chaos", connect_timeout=5, autocommit=False
        )
        async with connection:
            await connection.execute("INSERT INTO unrelated VALUES (%s, 'a mark')", (token,))
            await verb(Work(connection, told, self._history, self._dice, self._take))
            if self._dice.random() < 0.1:
                await asyncio.sleep(self._dice.uniform(0.1, 0.6))  # others commit meanwhile
            told.begins_to_commit(await mark(connection))
            if self._dice.random() < 0.04:
                await connection.rollback()
                return None
            await connection.commit()
            after = await mark(connection)
            await connection.commit()
            return after

    def _take(self, key: str) -> bool:
        if key in self._gate.taken:
            return False
        self._gate.taken.add(key)
        self._mine.add(key)
        return True

    async def _find_out(self, token: int) -> int | None:
        """A mark after the transaction if it was committed. Its own session may still be about to."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._server.dsn, application_name="chaos", connect_timeout=5, autocommit=True
                ) as connection:
                    # Waits for a transaction that is still under way, whose row is in the way.
                    row = await (
                        await connection.execute(
                            "INSERT INTO unrelated VALUES (%s, 'it did not') ON CONFLICT (number) DO UPDATE "
                            "SET said = unrelated.said RETURNING said",
                            (token,),
                        )
                    ).fetchone()
                    after = await mark(connection)
            except psycopg.OperationalError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return after if row == ("a mark",) else None


async def mark(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    row = await (await connection.execute("SELECT pg_current_wal_insert_lsn()::text")).fetchone()
    assert row is not None
    return parse_lsn(str(row[0]))


class Work:
    """What the verbs below work with: a transaction in the source, and the same one in the history."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[tuple[object, ...]],
        told: Transaction,
        history: History,
        dice: random.Random,
        take: Callable[[str], bool],
    ) -> None:
        self.connection = connection
        self.told = told
        self.history = history
        self.dice = dice
        self.take = take

    def standing(self, count: int = 1, prefix: str = "doc-") -> list[Revision]:
        """Documents that nobody else is about to write."""
        keys = sorted(key for key in self.history.live if key.startswith(prefix))
        self.dice.shuffle(keys)
        found: list[Revision] = []
        for key in keys:
            if len(found) == count:
                break
            if self.take(key):
                found.append(self.history.live[key])
        return found

    def free_key(self) -> str | None:
        """A key under which nothing stands; now and then one under which something stood."""
        dead = sorted(key for key in self.history.dead if key.startswith("doc-"))
        keys = [self.dice.choice(dead)] if dead and self.dice.random() < 0.4 else []
        keys.append(f"doc-{self.dice.randrange(10**9)}")
        return next((key for key in keys if key not in self.history.live and self.take(key)), None)

    async def insert(self, key: str, content: Content | None = None) -> None:
        number = self.history.next_number()
        says = content or written(self.dice, number)
        await self.connection.execute(INSERT_INTO, (key, number, says.title, says.content, says.category, says.tenant))
        self.told.put(number, key, says)

    async def update(self, revision: Revision, content: Content, number: int | None = None) -> None:
        number = number or self.history.next_number()
        values = (number, content.title, content.content, content.category, content.tenant, revision.key)
        await self.connection.execute(UPDATE, values)
        self.told.put(number, revision.key, content)

    async def delete(self, revisions: Sequence[Revision]) -> None:
        keys = [revision.key for revision in revisions]
        await self.connection.execute("DELETE FROM documents WHERE doc_id = ANY(%s)", (keys,))
        for key in keys:
            self.told.delete(key)


def section(dice: random.Random, number: int, part: int) -> str:
    """A part of a text with a word that occurs nowhere else, in one chunk or two."""
    words = [f"{dice.choice(WORDS)}{dice.randrange(40)}" for _ in range(dice.choice((6, 12, 12, 24)))]
    return f"## Part {dice.randrange(9)}\n\n{word_of(number, part)} {' '.join(words)}."


def word_of(number: int, part: int) -> str:
    return f"w{number}x{part}"


def written(dice: random.Random, number: int) -> Content:
    parts = [section(dice, number, part) for part in range(dice.randint(1, 5))]
    return Content(f"Title {number}", "\n\n".join(parts), dice.choice(("policy", "faq")), dice.choice(TENANTS))


def rewritten(dice: random.Random, number: int, revision: Revision) -> Content:
    """One part of the text changed, taken out, put in or moved."""
    parts = revision.content.split("\n\n## ")
    parts = [part if at == 0 else f"## {part}" for at, part in enumerate(parts)]
    place = dice.randrange(len(parts))
    what = dice.choice(("change", "change", "change", "add", "drop", "move"))
    if what == "drop" and len(parts) > 1:
        del parts[place]
    elif what == "move":
        parts.append(parts.pop(place))
    fresh = section(dice, number, 0)
    if what == "add":
        parts.insert(place, fresh)
    else:
        parts[min(place, len(parts) - 1)] = fresh
    return Content(revision.title, "\n\n".join(parts), revision.category, revision.tenant)


def as_it_was(revision: Revision, **changed: str | None) -> Content:
    said = {name: getattr(revision, name) for name in ("title", "content", "category", "tenant")}
    return Content(**(said | changed))


async def insert(work: Work) -> None:
    live = len(work.history.live)
    for _ in range(1 if live > DOCUMENTS else work.dice.randint(1, 6)):
        if (key := work.free_key()) is not None:
            await work.insert(key)


async def edit(work: Work) -> None:
    for revision in work.standing():
        number = work.history.next_number()
        await work.update(revision, rewritten(work.dice, number, revision), number)


async def edit_several(work: Work) -> None:
    for revision in work.standing(work.dice.randint(3, 20)):
        number = work.history.next_number()
        await work.update(revision, rewritten(work.dice, number, revision), number)


async def change_title(work: Work) -> None:
    for revision in work.standing():
        await work.update(revision, as_it_was(revision, title=f"Title {work.dice.randrange(10**6)}"))


async def change_metadata(work: Work) -> None:
    for revision in work.standing(work.dice.randint(1, 5)):
        await work.update(revision, as_it_was(revision, category=work.dice.choice(("policy", "faq", "note"))))


async def change_tenant(work: Work) -> None:
    for revision in work.standing():
        await work.update(revision, as_it_was(revision, tenant=work.dice.choice(TENANTS)))


async def change_nothing(work: Work) -> None:
    for revision in work.standing():
        await work.connection.execute("UPDATE documents SET title = title WHERE doc_id = %s", (revision.key,))


async def write_elsewhere(work: Work) -> None:
    await work.connection.execute("UPDATE unrelated SET said = said WHERE number % 7 = 0")


async def delete(work: Work) -> None:
    few = len(work.history.live) < DOCUMENTS
    await work.delete(work.standing(1 if few else work.dice.randint(1, 8)))


async def change_key(work: Work) -> None:
    revisions, key = work.standing(), work.free_key()
    if revisions and key is not None:
        number, old = work.history.next_number(), revisions[0]
        await work.connection.execute(
            "UPDATE documents SET doc_id = %s, revision = %s WHERE doc_id = %s", (key, number, old.key)
        )
        work.told.move(number, old.key, key, as_it_was(old))


async def write_again(work: Work) -> None:
    """Deleted and inserted anew in one transaction."""
    for revision in work.standing(2):
        await work.delete([revision])
        await work.insert(revision.key)


async def truncate(work: Work) -> None:
    await work.connection.execute("TRUNCATE documents")
    for key in list(work.history.live):
        work.told.delete(key)


async def reload(work: Work) -> None:
    """As a nightly job does it: the table emptied and filled in one transaction; some rows do not come back."""
    kept = [revision for revision in work.history.live.values() if work.dice.random() < 0.8]
    await truncate(work)
    for revision in kept:
        await work.insert(revision.key, as_it_was(revision))


async def write_many(work: Work) -> None:
    """More than one batch holds."""
    word = work.dice.randrange(10**6)
    rows = []
    for n in range(BULK):
        number = work.history.next_number()
        content = Content("Bulk", f"## Bulk\n\nbulk {word} of {n % 100} {work.dice.choice(WORDS)}", "faq")
        rows.append((f"bulk-{n}", number, content))
    await work.delete(work.standing(BULK, "bulk-"))
    async with work.connection.cursor().copy(
        "COPY documents (doc_id, revision, title, content, category) FROM STDIN"
    ) as copy:
        for key, number, content in rows:
            await copy.write_row((key, number, content.title, content.content, content.category))
    for key, number, content in rows:
        work.told.put(number, key, content)


async def delete_many(work: Work) -> None:
    await work.delete(work.standing(BULK, "bulk-"))
