"""`livedex doctor` finds what was broken on purpose, on real servers, and its remedies mend it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import run_apart
from tests.world import World

import livedex
from livedex.app import open_index
from livedex.doctor import Check, Report, State, examine
from livedex.store.embedded import EmbeddedServer

PASSWORD = "hunter2"


@pytest.fixture
def world(database_on: Callable[[EmbeddedServer], str], server: EmbeddedServer, tmp_path: Path) -> World:
    made = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    made.execute("INSERT INTO documents VALUES ('a', 'A', 'Some text about parcels.', 'faq')")
    return made


@pytest.fixture
def role(server: EmbeddedServer, world: World) -> Iterator[str]:
    """DSN of the source as a role that may do nothing yet."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE patient LOGIN PASSWORD '{PASSWORD}'")
    try:
        yield make_conninfo(world.source_dsn, user="patient", password=PASSWORD)
    finally:
        world.execute("DROP OWNED BY patient")
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("DROP ROLE patient")


@contextmanager
def running(**settings: str) -> Iterator[EmbeddedServer]:
    """A server of its own, to be broken."""
    directory = Path(tempfile.mkdtemp(prefix="livedex-tests-doctor-"))
    directory.chmod(0o711)
    try:
        server = run_apart(
            EmbeddedServer.start(directory, settings={"fsync": "off", "shared_buffers": "32MB", **settings})
        )
        try:
            yield server
        finally:
            run_apart(server.stop())
            shutil.rmtree(server.data)
    finally:
        shutil.rmtree(directory)


async def examined(world: World, **environ: str) -> Report:
    return await examine(world.config, {**world.environ, **environ})


def checks(report: Report, title: str) -> dict[str, Check]:
    (group,) = [group for group in report.groups if group.title == title]
    return {check.name: check for check in group.checks}


def failures(report: Report) -> dict[tuple[str, str], Check]:
    return {(g.title, c.name): c for g in report.groups for c in g.checks if c.state is State.FAILED}


async def synced(world: World) -> None:
    async with world.open() as index:
        await index.sync()


async def test_nothing_fails_before_the_first_sync(world: World) -> None:
    report = await examined(world)
    assert failures(report) == {}
    assert checks(report, "Store")["schema"].message == "the first livedex sync makes it"


async def test_nothing_is_made_by_looking(world: World) -> None:
    await examined(world)
    found = world.stored("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'livedex'")
    found += world.stored("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")
    with psycopg.connect(world.source_dsn) as connection:
        found += connection.execute("SELECT count(*) FROM pg_publication").fetchall()
    assert found == [(0,), (0,), (0,)]


async def test_a_synced_view_is_fine_and_its_capture_rests(world: World) -> None:
    await synced(world)
    report = await examined(world)
    assert failures(report) == {}
    assert checks(report, "View handbook")["recipe"].state is State.OK
    assert checks(report, "View handbook")["index"].state is State.OK
    assert checks(report, "View handbook")["freshness"].remedy == "livedex up"
    assert "nobody reads from it now" in checks(report, "Source kb")["slot"].message


async def test_a_followed_view_is_fine_while_it_is_followed(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        stop = asyncio.Event()
        following = asyncio.create_task(index.up(stop))
        try:
            async with asyncio.timeout(30):
                while not (await index.status()).views[0].capturing:  # noqa: ASYNC110  # the store sets no event
                    await asyncio.sleep(0.05)
            report = await examined(world)
        finally:
            stop.set()
            await following
    assert failures(report) == {}
    assert "followed" in checks(report, "Source kb")["slot"].message


# The source


async def test_server_that_cannot_be_followed(world: World) -> None:
    with running(wal_level="replica", max_replication_slots="1") as lame:
        with psycopg.connect(lame.dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_create_physical_replication_slot('taken')")
        report = await examined(world, KB_DATABASE_URL=lame.dsn)
    source = checks(report, "Source kb")
    assert source["wal_level"].remedy == "ALTER SYSTEM SET wal_level = 'logical';"
    assert source["free slot"].remedy == "ALTER SYSTEM SET max_replication_slots = 6;"
    assert 'Table "documents" does not exist' in source["table documents"].message
    assert source["version"].state is State.OK


async def test_unreachable_source_leaves_the_others_checked(world: World) -> None:
    await synced(world)
    report = await examined(world, KB_DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/kb")
    assert [name for _, name in failures(report)] == ["connection"]
    assert checks(report, "View handbook")["recipe"].state is State.OK
    assert PASSWORD not in str(report)


async def test_old_servers_are_followed(
    world: World, server_15: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]
) -> None:
    dsn = database_on(server_15)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE documents (doc_id text PRIMARY KEY, title text, content text, category text,"
                           " updated_at timestamptz)")  # fmt: skip
    assert failures(await examined(world, KB_DATABASE_URL=dsn)) == {}


async def test_rights_are_mended_by_the_remedies(world: World, role: str) -> None:
    """Every remedy is run as it stands, until nothing fails but the publication, which the tables' owner makes."""
    said = []
    for _ in range(6):
        report = await examined(world, KB_DATABASE_URL=role)
        found = failures(report)
        remedies = [check.remedy for check in found.values() if check.remedy]
        if not remedies:
            break
        for remedy in remedies:
            if remedy not in said:
                world.execute(remedy)
                said.append(remedy)
        if list(found) == [("Source kb", "publication")]:
            break
    assert 'ALTER ROLE "patient" REPLICATION;' in said
    assert 'GRANT SELECT ON "public"."documents" TO "patient";' in said
    assert any(remedy.startswith("CREATE PUBLICATION ") for remedy in said)
    named = world.config.read_text().replace("    tables:", "    publication: livedex_kb\n    tables:")
    world.config.write_text(named)
    assert failures(await examined(world, KB_DATABASE_URL=role)) == {}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("ALTER TABLE documents DROP COLUMN category", 'has no column "category"'),
        ("ALTER TABLE documents DROP CONSTRAINT documents_pkey", "has no primary key"),
        ("ALTER TABLE documents REPLICA IDENTITY NOTHING", "REPLICA IDENTITY NOTHING"),
        ("ALTER TABLE documents RENAME TO document", "Did you mean document"),
    ],
)
async def test_table_that_will_not_do(world: World, fault: str, says: str) -> None:
    world.execute(fault)
    found = failures(await examined(world))
    assert says in found["Source kb", "table documents"].message


async def test_everything_wrong_with_a_table_is_said_at_once(world: World) -> None:
    world.execute("ALTER TABLE documents DROP COLUMN category, DROP COLUMN title, DROP CONSTRAINT documents_pkey")
    report = await examined(world)
    messages = [c.message for g in report.groups for c in g.checks if c.name == "table documents"]
    assert [sum(part in message for message in messages) for part in ('"category"', '"title"', "primary key")] == [
        1,
        1,
        1,
    ]


async def test_row_level_security_is_found(world: World, role: str) -> None:
    world.execute("GRANT SELECT ON documents TO patient")
    world.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    found = failures(await examined(world, KB_DATABASE_URL=role))
    assert found["Source kb", "table documents"].remedy == 'ALTER ROLE "patient" BYPASSRLS;'


async def test_bytes_as_content_are_remarked_upon(world: World) -> None:
    world.execute("ALTER TABLE documents ALTER COLUMN content TYPE bytea USING content::bytea")
    found = checks(await examined(world), "Source kb")["table documents"]
    assert (found.state, "hexadecimal" in found.message) == (State.WARNING, True)


async def test_given_publication_that_leaves_a_table_out(world: World) -> None:
    world.execute("CREATE PUBLICATION mine")
    world.config.write_text(world.config.read_text().replace("    tables:", "    publication: mine\n    tables:"))
    found = failures(await examined(world))
    remedy = found["Source kb", "publication"].remedy
    assert remedy == 'ALTER PUBLICATION "mine" ADD TABLE "public"."documents";'


async def test_given_slot_that_is_missing(world: World) -> None:
    world.config.write_text(world.config.read_text().replace("    tables:", "    slot: mine\n    tables:"))
    found = failures(await examined(world))
    assert found["Source kb", "slot"].remedy == "SELECT pg_create_logical_replication_slot('mine', 'pgoutput');"


def fill_log(world: World, *, segments: int) -> None:
    """Have the source write as many segments of 16 MB."""
    for _ in range(segments):
        world.execute("INSERT INTO documents (doc_id) VALUES (gen_random_uuid())")
        world.execute("SELECT pg_switch_wal()")


async def test_slot_is_watched_until_it_is_lost(
    database_on: Callable[[EmbeddedServer], str], server: EmbeddedServer, tmp_path: Path
) -> None:
    with running(max_slot_wal_keep_size="64MB") as tight:
        world = World.make(tight.dsn, database_on(server), tmp_path, shards=1)
        await synced(world)
        assert checks(await examined(world), "Source kb")["slot"].state is State.OK
        fill_log(world, segments=3)
        near = checks(await examined(world), "Source kb")["slot"]
        fill_log(world, segments=4)
        world.execute("CHECKPOINT")
        lost = checks(await examined(world), "Source kb")["slot"]
    assert (near.state, near.remedy) == (State.WARNING, "livedex up")
    assert (lost.state, lost.remedy) == (State.FAILED, "livedex source resync kb")


async def test_paused_source_fails_with_its_reason(world: World) -> None:
    await synced(world)
    world.execute("ALTER TABLE documents DROP COLUMN category")
    world.execute("INSERT INTO documents VALUES ('b', 'B', 'More text.')")
    with pytest.raises(livedex.errors.LivedexError):
        await synced(world)
    found = failures(await examined(world))
    assert 'Column "category" of table "documents" is gone' in found["Source kb", "capture"].message


async def test_what_kept_a_source_from_being_read_fails_once_and_no_more_when_mended(world: World) -> None:
    world.execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey")
    with pytest.raises(livedex.errors.LivedexError):
        await synced(world)
    assert [name for _, name in failures(await examined(world))] == ["table documents"]
    world.execute("ALTER TABLE documents ADD PRIMARY KEY (doc_id)")
    report = await examined(world)
    capture = checks(report, "Source kb")["capture"]
    assert (failures(report), capture.state, capture.remedy) == ({}, State.WARNING, "livedex sync")


# The store


async def test_store_without_pgvector(world: World, server_15: EmbeddedServer) -> None:
    found = failures(await examined(world, LIVEDEX_DATABASE_URL=server_15.dsn))
    assert "needs pgvector 0.8.4 or newer; this server has none" in found["Store", "pgvector"].message


async def test_store_in_another_encoding(world: World, server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
        try:
            found = failures(await examined(world, LIVEDEX_DATABASE_URL=make_conninfo(server.dsn, dbname="latin")))
        finally:
            admin.execute("DROP DATABASE latin WITH (FORCE)")
    (check,) = found.values()
    assert check.remedy == "CREATE DATABASE livedex ENCODING 'UTF8' TEMPLATE template0;"


async def test_store_whose_user_may_create_nothing(world: World, role: str) -> None:
    poor = make_conninfo(world.store_dsn, user="patient", password=PASSWORD)
    found = failures(await examined(world, LIVEDEX_DATABASE_URL=poor))
    assert {name for _, name in found} == {"pgvector", "schema"}
    assert found["Store", "pgvector"].remedy == "CREATE EXTENSION IF NOT EXISTS vector;"
    assert (found["Store", "schema"].remedy or "").startswith("GRANT CREATE ON DATABASE")


async def test_unreachable_store_leaves_source_and_embedder_checked(world: World) -> None:
    report = await examined(world, LIVEDEX_DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/index")
    assert list(failures(report)) == [("Store", "connection")]
    assert checks(report, "Source kb")["wal_level"].state is State.OK
    assert checks(report, "View handbook")["built"].state is State.NOT_CHECKED
    assert PASSWORD not in str(report)


async def test_embedded_store_is_looked_at_and_rests_again(world: World) -> None:
    environ = {name: value for name, value in world.environ.items() if name != "LIVEDEX_DATABASE_URL"}
    async with open_index(world.config, environ=environ) as index:
        await index.sync()
        directory = index.settings.store_directory
    report = await examine(world.config, environ)
    assert failures(report) == {}
    assert checks(report, "View handbook")["recipe"].state is State.OK
    assert not (directory / "data" / "postmaster.pid").exists()
    shutil.rmtree((directory / "data").resolve(), ignore_errors=True)


# Views and embedders


async def test_changed_recipe_fails_with_what_to_do(world: World) -> None:
    await synced(world)
    world.config.write_text(world.config.read_text().replace("max_tokens: 40", "max_tokens: 60"))
    found = failures(await examined(world))
    assert "give the changed view a new name" in found["View handbook", "recipe"].message


async def test_quarantine_is_counted(world: World) -> None:
    world.config.write_text(
        world.config.read_text().replace("metadata: [category]", "metadata: [category], acl: readers")
    )
    world.execute("ALTER TABLE documents ADD COLUMN readers text DEFAULT '[1'")
    await synced(world)
    found = checks(await examined(world), "View handbook")["quarantine"]
    assert (found.state, found.remedy) == (State.WARNING, "livedex quarantine list")


async def test_endpoint_with_other_dimensions_fails(world: World) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"data": [{"index": 0, "embedding": [1.0, 2.0]}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                     + f"content-length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
        await writer.drain()
        writer.close()

    endpoint = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with endpoint:
        port = endpoint.sockets[0].getsockname()[1]
        world.config.write_text(
            world.config.read_text().replace("embedder: hashing", "embedder: remote")
            + f"embedders: {{remote: {{kind: api, base_url: 'http://127.0.0.1:{port}', model: m, dimensions: 3,"
            f" api_key: {PASSWORD}}}}}\n"
        )
        report = await examined(world)
    assert "returned vectors of 2 dimensions, but 3" in failures(report)["Embedder remote", "endpoint"].message
    assert PASSWORD not in str(report)


async def test_missing_weights_fail_with_the_command(world: World) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    world.config.write_text(world.config.read_text().replace("embedder: hashing", "embedder: local"))
    found = failures(await examined(world))
    assert found["Embedder local", "model"].remedy == "livedex models fetch"
