-- name: unfinished
-- Purges after which the files were not written anew yet.
SELECT purge_id, removed FROM livedex.purges WHERE finished_at IS NULL ORDER BY purge_id;

-- name: lock
-- Session lock: one at a time; it goes with the connection.
SELECT pg_advisory_lock(hashtext('livedex.erase'));

-- name: wait_briefly
-- While a statement waits for a table, searches wait behind it.
SET lock_timeout = '3s';

-- name: tables
-- Which of some tables there are, partitions in place of what is partitioned.
SELECT n.nspname AS schema, c.relname AS table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (n.nspname || '.' || c.relname = ANY(%(tables)s::text[]) OR c.oid IN (
    SELECT i.inhrelid FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace m ON m.oid = p.relnamespace
    WHERE m.nspname || '.' || p.relname = ANY(%(tables)s::text[])))
ORDER BY 1, 2;

-- name: partitioned
SELECT n.nspname AS schema, c.relname AS table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND n.nspname = 'livedex';

-- name: analyze
-- Partitions' statistics are not those of the whole.
ANALYZE {of}.{table};

-- name: running
-- Transactions of this database, readers included. Those of VACUUM hold nothing back.
SELECT l.virtualxid AS transaction FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database() AND l.pid <> pg_backend_pid()
    AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum);

-- name: still_running
SELECT virtualxid FROM pg_locks
WHERE locktype = 'virtualxid' AND granted AND virtualxid = ANY(%(transactions)s::text[]);

-- name: generations
SELECT generation FROM livedex.generations g WHERE to_regclass(format('livedex_g%%s.chunks', g.generation)) IS NOT NULL;

-- name: rewrite
-- Nothing else makes PostgreSQL overwrite what rows that are gone leave in pages and indexes. Nobody reads meanwhile.
VACUUM (FULL) {of}.{table};

-- name: clean
-- pgvector overwrites the vectors of elements that it takes out of its graph; the table's own space is used again.
VACUUM (ANALYZE, INDEX_CLEANUP ON, PARALLEL 0) {of}.{table};

-- name: rights
-- Whether statistics may be removed, catalogs rewritten, and a checkpoint made.
SELECT r.rolsuper AS superuser, r.rolsuper OR pg_has_role(d.datdba, 'USAGE') AS owner,
    r.rolsuper OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' AND pg_has_role(oid, 'USAGE')) AS checkpoint,
    current_setting('server_version_num')::integer AS version
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database();

-- name: remove_statistics
-- Of tables and their indexes. Those that ANALYZE finds no row for it would leave as they are.
WITH ours AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = ANY(%(tables)s::text[])
), statistics AS (
    DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM ours)
        OR starelid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM ours))
)
DELETE FROM pg_statistic_ext_data
WHERE stxoid IN (SELECT oid FROM pg_statistic_ext WHERE stxrelid IN (SELECT oid FROM ours));

-- name: clear_statistics
-- The same for who is no superuser, from PostgreSQL 18 on.
SELECT pg_clear_attribute_stats(s.schemaname::text, s.tablename::text, s.attname::text, s.inherited)
FROM pg_stats s WHERE s.schemaname || '.' || s.tablename = ANY(%(tables)s::text[])
    OR (s.schemaname, s.tablename) IN (
        SELECT n.nspname, i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname || '.' || c.relname = ANY(%(tables)s::text[]));

-- name: statistics_of_nothing
-- Statistics of tables or partial indexes that have no row any more: nothing replaces them.
SELECT DISTINCT s.schemaname || '.' || s.tablename AS table FROM pg_stats s
JOIN pg_namespace n ON n.nspname = s.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
WHERE (s.schemaname = 'livedex' OR s.schemaname LIKE 'livedex\_g%%') AND c.reltuples = 0;

-- name: rewrite_statistics
VACUUM (FULL) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data;

-- name: sweep_strays
-- A worker that had looked up a chunk just before it was forgotten may have noted it just after.
DELETE FROM {g}.strays s WHERE NOT EXISTS (SELECT FROM {g}.vectors v WHERE v.chunk = s.chunk);

-- name: checkpoint
CHECKPOINT;

-- name: finish
UPDATE livedex.purges SET finished_at = clock_timestamp(), remains = %(remains)s
WHERE purge_id = ANY(%(purge_ids)s::bigint[]);

-- name: elsewhere
-- Where this server keeps or sends copies of what it wrote.
SELECT current_setting('archive_mode') <> 'off' AS archives,
    current_setting('max_wal_size') AS wal_size,
    (SELECT count(*) FROM pg_stat_replication) AS replicas,
    (SELECT count(*) FROM pg_replication_slots) AS slots,
    (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical') AS logical_slots,
    current_setting('log_parameter_max_length') <> '0' AND (current_setting('log_statement') IN ('mod', 'all')
        OR (SELECT setting::integer >= 0 FROM pg_settings WHERE name = 'log_min_duration_statement')) AS logs;
