"""`livedex init` on real databases of many shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from livedex import config
from livedex.errors import NotFound, SourceUnavailable
from livedex.model import TableMapping
from livedex.setup.draft import Draft, check, draft
from livedex.store.embedded import EmbeddedServer

PROSE = "'The parcel left our warehouse on Monday and will be with you by Wednesday. ' || i"
BLOG = f"""
CREATE TABLE authors (id int PRIMARY KEY, name text);
INSERT INTO authors SELECT i, 'Author ' || i FROM generate_series(1, 3) i;
CREATE TABLE posts (
    id serial PRIMARY KEY, slug text, title text, excerpt text, body text, status text,
    author_id int REFERENCES authors, published boolean, updated_at timestamptz DEFAULT now());
INSERT INTO posts (slug, title, excerpt, body, status, author_id, published)
    SELECT 'post-' || i, 'Post ' || i, {PROSE}, repeat({PROSE}, 20), (ARRAY['draft', 'live'])[1 + i % 2], 1 + i % 3,
           true FROM generate_series(1, 40) i;
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE VIEW recent AS SELECT * FROM posts;
CREATE TABLE loose (body text);
"""
TICKETS = f"""
CREATE TYPE priority AS ENUM ('low', 'high');
CREATE TABLE tickets (
    tenant_id uuid NOT NULL, number int, subject text, description text, priority priority, readers text[],
    version int NOT NULL DEFAULT 1, modified_at timestamp, PRIMARY KEY (tenant_id, number));
INSERT INTO tickets SELECT gen_random_uuid(), i, 'Ticket ' || i, repeat({PROSE}, 3), 'low', '{{*}}', 1, now()
    FROM generate_series(1, 30) i;
"""
ODD = f'''
CREATE SCHEMA "Help Desk";
CREATE TABLE "Help Desk"."Ticket: Replies #1" ("No" int PRIMARY KEY, "Message ""Body""" text, "x{{y}}" text);
INSERT INTO "Help Desk"."Ticket: Replies #1" SELECT i, repeat({PROSE}, 3), 'x' FROM generate_series(1, 30) i;
CREATE TABLE "dotted.name" (id int PRIMARY KEY, body text);
INSERT INTO "dotted.name" SELECT i, repeat({PROSE}, 3) FROM generate_series(1, 30) i;
'''
PARTITIONED = f"""
CREATE TABLE articles (id int, written date, body text, PRIMARY KEY (id, written)) PARTITION BY RANGE (written);
CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
INSERT INTO articles SELECT i, '2024-01-01', repeat({PROSE}, 3) FROM generate_series(1, 30) i;
"""


def execute(dsn: str, script: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script.encode())


async def drafted(dsn: str, directory: Path, tables: Sequence[str] = ()) -> Draft:
    """A draft that loads."""
    made = await draft(dsn, directory, {}, tables=tables, embedder="hashing")
    check(made.text, directory / "livedex.yaml", {**made.environ, "HOME": str(directory)})
    return made


def mappings(made: Draft, directory: Path) -> dict[str, TableMapping]:
    """What livedex reads from the drafted file."""
    file = directory / "livedex.yaml"
    file.write_text(made.text)
    source = config.load(file, {**made.environ, "HOME": str(directory)}).sources[made.sources[0]]
    assert isinstance(source, config.PostgresSource)
    return dict(source.tables)


@pytest.mark.parametrize("version", ["server", "server_15"])
async def test_blog(
    version: str, request: pytest.FixtureRequest, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    dsn = database_on(request.getfixturevalue(version))
    execute(dsn, BLOG)
    made = await drafted(dsn, tmp_path)
    assert mappings(made, tmp_path) == {
        "posts": TableMapping(
            key=("id",),
            content="{excerpt}\n\n{body}",
            title="title",
            updated_at="updated_at",
            metadata=("status", "author_id", "published"),
        )
    }
    left_out = {each.table: each.reason for each in made.found.left_out}
    assert left_out.keys() == {"authors", "schema_migrations", "recent", "loose"}
    assert "primary key" in left_out["loose"]


async def test_tickets_of_tenants(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, TICKETS)
    made = await drafted(fresh_database, tmp_path)
    assert mappings(made, tmp_path) == {
        "tickets": TableMapping(
            key=("tenant_id", "number"),
            content="description",
            title="subject",
            updated_at="modified_at",
            metadata=("priority",),
            tenant="tenant_id",
        )
    }
    assert "# acl: readers" in made.text
    assert "# version: version" in made.text


async def test_quoted_names_other_schemas_and_dots(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, ODD)
    made = await drafted(fresh_database, tmp_path)
    assert mappings(made, tmp_path) == {
        "Help Desk.Ticket: Replies #1": TableMapping(key=("No",), content='Message "Body"'),
        "public.dotted.name": TableMapping(key=("id",), content="body"),
    }


async def test_partitioned_table_is_proposed_and_its_partitions_are_not(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, PARTITIONED)
    made = await drafted(fresh_database, tmp_path)
    assert mappings(made, tmp_path) == {"articles": TableMapping(key=("id", "written"), content="body")}
    assert made.found.left_out == ()


async def test_large_table_is_sampled_all_over(fresh_database: str, tmp_path: Path) -> None:
    execute(
        fresh_database,
        "CREATE TABLE documents (id int PRIMARY KEY, body text, status text);"
        "INSERT INTO documents SELECT i, CASE WHEN i > 1000 THEN repeat('a few words ', 10) END, 'new'"
        " FROM generate_series(1, 30000) i; ANALYZE documents;",
    )
    made = await drafted(fresh_database, tmp_path)
    assert mappings(made, tmp_path)["documents"].content == "body"


async def test_empty_database_is_an_error_that_asks_for_the_right_one(fresh_database: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Is it the right database"):
        await drafted(fresh_database, tmp_path)


async def test_database_without_documents_says_why_not(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, "CREATE TABLE prices (id int PRIMARY KEY, amount numeric); CREATE TABLE loose (body text)")
    with pytest.raises(NotFound, match=r"prices: it has no column of text") as caught:
        await drafted(fresh_database, tmp_path)
    assert "--tables" in str(caught.value)


async def test_only_table_of_people_is_followed_with_a_remark(fresh_database: str, tmp_path: Path) -> None:
    execute(
        fresh_database,
        "CREATE TABLE users (id int PRIMARY KEY, bio text);"
        f"INSERT INTO users SELECT i, {PROSE} FROM generate_series(1, 9) i",
    )
    made = await drafted(fresh_database, tmp_path)
    assert list(mappings(made, tmp_path)) == ["users"]
    assert "people" in made.text


async def test_chosen_tables_are_the_only_ones(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, BLOG)
    made = await drafted(fresh_database, tmp_path, ["authors"])
    assert mappings(made, tmp_path) == {"authors": TableMapping(key=("id",), content="name")}


async def test_chosen_table_without_a_key_is_refused_with_the_statement(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, BLOG)
    with pytest.raises(NotFound, match="ADD PRIMARY KEY"):
        await drafted(fresh_database, tmp_path, ["loose"])


async def test_view_is_not_named_like_a_table(fresh_database: str, tmp_path: Path) -> None:
    name = fresh_database.rpartition("dbname=")[2].split()[0]
    execute(
        fresh_database,
        f"CREATE TABLE {name} (id int PRIMARY KEY, body text); INSERT INTO {name} SELECT 1, repeat('some words ', 20)",
    )
    made = await drafted(fresh_database, tmp_path)
    assert (made.sources, made.view) == ((name,), f"{name}_view")


async def test_hostile_names_stay_names(fresh_database: str, tmp_path: Path) -> None:
    execute(
        fresh_database,
        'CREATE TABLE "x\nstore: {url: evil}" (id int PRIMARY KEY, body text); CREATE TABLE "y\n#" (a text);'
        f'INSERT INTO "x\nstore: {{url: evil}}" SELECT i, {PROSE} FROM generate_series(1, 9) i;'
        f'CREATE TABLE z (id int PRIMARY KEY, body text, "status\nevil: 1" boolean);'
        f"INSERT INTO z SELECT i, {PROSE} FROM generate_series(1, 9) i",
    )
    made = await drafted(fresh_database, tmp_path)
    assert mappings(made, tmp_path) == {
        "z": TableMapping(key=("id",), content="body", metadata=("status\nevil: 1",)),
    }


async def test_table_that_may_not_be_read_is_left_out(
    server: EmbeddedServer, fresh_database: str, tmp_path: Path
) -> None:
    execute(fresh_database, BLOG)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE init_reader LOGIN PASSWORD 'plain'")
    try:
        execute(fresh_database, "GRANT SELECT ON posts TO init_reader")
        made = await drafted(make_conninfo(fresh_database, user="init_reader", password="plain"), tmp_path)
        assert list(mappings(made, tmp_path)) == ["posts"]
        assert 'ALTER ROLE "init_reader" REPLICATION' in made.found.unready[0]
        assert "plain" not in made.text
    finally:
        execute(fresh_database, "DROP OWNED BY init_reader")
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("DROP ROLE init_reader")


async def test_unreachable_database_is_an_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        await drafted("postgresql://me:hunter2@127.0.0.1:1/shop", tmp_path)
    assert "hunter2" not in str(caught.value)


async def test_nothing_is_changed(fresh_database: str, tmp_path: Path) -> None:
    execute(fresh_database, BLOG)
    written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del), count(*) FROM pg_stat_user_tables"
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = connection.execute(written).fetchall()
        await drafted(fresh_database, tmp_path)
        connection.execute("SELECT pg_stat_clear_snapshot()")
        assert connection.execute(written).fetchall() == before
