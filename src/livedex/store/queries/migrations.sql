-- name: lock
-- One process migrates at a time. Held by the session until it ends, over all its transactions.
SELECT pg_advisory_lock(hashtextextended('livedex.migrations', 0));

-- name: schema_exists
-- CREATE SCHEMA IF NOT EXISTS would ask for the right to create one even where it exists.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'livedex');

-- name: create_schema
-- Where livedex keeps its tables.
CREATE SCHEMA livedex;

-- name: table_exists
-- Whether any migration was ever recorded.
SELECT to_regclass('livedex.migrations') IS NOT NULL;

-- name: create_table
-- Which migrations were applied, from what text and when.
CREATE TABLE livedex.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: applied
-- Every migration that this database has, in order.
SELECT number, name, checksum FROM livedex.migrations ORDER BY number;

-- name: record
-- Note a migration as applied, in its own transaction.
INSERT INTO livedex.migrations (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s);
