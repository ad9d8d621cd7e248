"""Whatever happens to a source, in whatever order, and wherever livedex is stopped: once it is up to date, its view is
what building it from scratch would give."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import drop_database, make_database
from tests.world import World, check_view

from livedex.faults import Faults, NoFaults
from livedex.store.embedded import EmbeddedServer
from livedex.testing.faults import Crash, CrashAt

KEYS = [f"doc-{number}" for number in range(8)]
FAULTS = [
    "capture.received",
    "capture.before_commit",
    "capture.after_commit",
    "capture.before_acknowledge",
    "materialize.read",
    "materialize.embedded",
    "materialize.half_written",
    "materialize.before_commit",
    "materialize.after_commit",
    "snapshot.after_slot",
    "snapshot.rows",
    "snapshot.before_finished",
    "stream.received",
    "index.before_weigh",
    "index.before_build",
    "index.before_mark",
]
keys = st.sampled_from(KEYS)
paragraphs = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), min_size=1, max_size=30)
sections = st.lists(paragraphs, max_size=4)


def markdown(parts: list[list[str]]) -> str:
    return "\n\n".join(f"## Part {number}\n\n{' '.join(words)}." for number, words in enumerate(parts))


def incompressible(seed: int) -> str:
    """Long enough, and random enough, that PostgreSQL keeps it out of the row."""
    source = random.Random(seed)
    return "# Long\n\n" + " ".join("".join(source.choices("abcdefghijklmnop", k=9)) for _ in range(900))


class Machine(RuleBasedStateMachine):
    server_dsn: ClassVar[str]
    shards: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.world = World.make(
            make_database(self.server_dsn), make_database(self.server_dsn), Path(self._folder.name), shards=self.shards
        )
        # Whole tables go here, and no person is there to agree.
        self.plain = self.world.config.read_text().replace("kind: postgres\n", "kind: postgres\n    brake: off\n")
        self.world.config.write_text(self.plain)
        self.connection = psycopg.connect(self.world.source_dsn, autocommit=True)

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.connection.close()
            self._folder.cleanup()
            for dsn in (self.world.source_dsn, self.world.store_dsn):
                drop_database(self.server_dsn, str(conninfo_to_dict(dsn)["dbname"]))

    @initialize(parts=sections)
    def some_documents(self, parts: list[list[str]]) -> None:
        for key in KEYS[:3]:
            self.write(key, markdown(parts) + key)

    @rule(key=keys, parts=sections)
    def write_document(self, key: str, parts: list[list[str]]) -> None:
        self.write(key, markdown(parts))

    @rule(key=keys, seed=st.integers(0, 3))
    def write_long_document(self, key: str, seed: int) -> None:
        self.write(key, incompressible(seed))

    @rule(key=keys, page=st.sampled_from(["one", "two"]))
    def write_link(self, key: str, page: str) -> None:
        """The embedding does not see where a link leads; the text that is shown does."""
        self.write(key, f"## Links\n\nSee [the page](https://example.org/{page}) for more.")

    @rule(key=keys, title=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8))
    def change_title_alone(self, key: str, title: str) -> None:
        self.connection.execute("UPDATE documents SET title = %s WHERE doc_id = %s", (title, key))

    @rule(key=keys, category=st.sampled_from(["policy", "faq"]))
    def change_metadata_alone(self, key: str, category: str) -> None:
        self.connection.execute("UPDATE documents SET category = %s WHERE doc_id = %s", (category, key))

    @rule(key=keys)
    def change_nothing(self, key: str) -> None:
        self.connection.execute("UPDATE documents SET title = title WHERE doc_id = %s", (key,))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.connection.execute("DELETE FROM documents WHERE doc_id = %s", (key,))

    @rule(old=keys, new=keys)
    def change_key(self, old: str, new: str) -> None:
        with self.connection.transaction():
            if not self.connection.execute("SELECT 1 FROM documents WHERE doc_id = %s", (new,)).fetchone():
                self.connection.execute("UPDATE documents SET doc_id = %s WHERE doc_id = %s", (new, old))

    @rule(one=keys, other=keys)
    def swap_keys(self, one: str, other: str) -> None:
        with self.connection.transaction():
            for old, new in ((one, "between"), (other, one), ("between", other)):
                if not self.connection.execute("SELECT 1 FROM documents WHERE doc_id = %s", (new,)).fetchone():
                    self.connection.execute("UPDATE documents SET doc_id = %s WHERE doc_id = %s", (new, old))

    @rule()
    def truncate(self) -> None:
        self.connection.execute("TRUNCATE documents")

    @rule(key=keys)
    def reload_in_one_transaction(self, key: str) -> None:
        with self.connection.transaction():
            self.connection.execute("CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM documents")
            self.connection.execute("TRUNCATE documents")
            self.connection.execute("INSERT INTO documents SELECT * FROM kept WHERE doc_id <> %s", (key,))

    @rule(count=st.sampled_from([30, 1500]), word=st.sampled_from(["red", "blue"]))
    def large_transaction(self, count: int, word: str) -> None:
        self.connection.execute(
            "INSERT INTO documents SELECT 'bulk-' || n, 'Bulk', %s || n, 'faq' FROM generate_series(1, %s) n "
            "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
            (word, count),
        )

    @precondition(lambda self: self.connection.execute("SELECT count(*) FROM documents").fetchone()[0] > 30)
    @rule()
    def delete_the_bulk(self) -> None:
        self.connection.execute("DELETE FROM documents WHERE doc_id LIKE 'bulk-%'")

    @rule(limit=st.sampled_from(["", "debounce: {quiet: 100ms, at_most: 300ms}, "]))
    def configure(self, limit: str) -> None:
        self.world.config.write_text(self.plain.replace("handbook: {", f"handbook: {{{limit}"))

    @rule()
    def settle(self) -> None:
        asyncio.run(self._run(NoFaults()))
        asyncio.run(check_view(self.world))

    @rule(point=st.sampled_from(FAULTS), nth=st.integers(1, 3))
    def crash(self, point: str, nth: int) -> None:
        asyncio.run(self._run(CrashAt(point, nth)))

    @rule(point=st.sampled_from(["snapshot.rows", "snapshot.before_finished", "capture.after_commit"]), key=keys)
    def crash_in_a_resync_and_delete(self, point: str, key: str) -> None:
        asyncio.run(self._run(CrashAt(point), resync=True))
        self.delete(key)

    def write(self, key: str, content: str) -> None:
        self.connection.execute(
            "INSERT INTO documents VALUES (%s, 'A title', %s, 'policy') "
            "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
            (key, content),
        )

    async def _run(self, faults: Faults, *, resync: bool = False) -> None:
        try:
            async with self.world.open(faults) as index:
                if resync:
                    await index.prepare()
                    await index.resync("kb")
                async with asyncio.timeout(60):
                    await index.sync()
        except Crash:
            return


@pytest.mark.parametrize("shards", [1, 2])
def test_view_equals_a_build_from_scratch_after_any_history(server: EmbeddedServer, shards: int) -> None:
    machine = type("BoundMachine", (Machine,), {"server_dsn": server.dsn, "shards": shards})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
