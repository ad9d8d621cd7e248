-- name: lock
-- One process at a time looks after a store. Session lock: it goes with the connection.
SELECT pg_try_advisory_lock(hashtext('livedex.upkeep')) AS locked;

-- name: gently
-- In the background: what waits for a page does not hurry.
SELECT set_config('vacuum_cost_delay', '1ms', false);

-- name: tables
-- A generation's tables, with the log's, which every generation reads.
SELECT format('%%I.%%I', n.nspname, c.relname) AS name, coalesce(s.n_live_tup, 0) AS live_rows,
    coalesce(s.n_dead_tup, 0) AS dead_rows, pg_table_size(c.oid) AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND (n.nspname = %(schema)s OR n.nspname = 'livedex' AND c.relname IN ('documents', 'embeddings'))
ORDER BY 1;

-- name: indexes
-- Of a generation's tables. Only an index over chunks is compared with what it took: the others are small.
SELECT format('%%I.%%I', n.nspname, i.relname) AS name, format('%%I.%%I', n.nspname, t.relname) AS table,
    CASE WHEN t.relname IN ('chunks', 'vectors', 'terms') THEN size.chunks ELSE 0 END AS rows,
    pg_relation_size(i.oid) AS bytes, b.bytes_per_row AS usual_bytes_per_row, x.indisvalid AS valid
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN (SELECT coalesce(sum(chunks), 0)::bigint AS chunks FROM livedex.cursors
            WHERE generation = %(generation)s) AS size
LEFT JOIN livedex.index_baselines b ON b.generation = %(generation)s
    AND b.index_name = format('%%I.%%I', n.nspname, i.relname)
WHERE n.nspname = %(schema)s ORDER BY 1;

-- name: is_building
-- Whether some index of the store is being built or rebuilt right now: what is not valid may be its work.
SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database()) AS building;

-- name: note_baselines
-- What indexes take now is what they take when compact; of those that have no baseline yet, or of a rebuilt one.
INSERT INTO livedex.index_baselines (generation, index_name, bytes_per_row)
SELECT %(generation)s, name, bytes_per_row
FROM unnest(%(names)s::text[], %(bytes_per_row)s::float8[]) AS measured(name, bytes_per_row)
ON CONFLICT (generation, index_name) DO UPDATE SET bytes_per_row = excluded.bytes_per_row,
    measured_at = clock_timestamp();

-- name: self_recall
-- Of some chunks, picked at random, how many the vector index finds by their own vectors.
WITH reach AS (
    SELECT min(chunk) AS low, max(chunk) AS high FROM {g}.vectors
), picked AS MATERIALIZED (
    SELECT reach.low + floor(random() * (reach.high - reach.low + 1))::bigint AS at
    FROM reach CROSS JOIN generate_series(1, %(sample)s::integer)
), sampled AS MATERIALIZED (
    SELECT DISTINCT v.chunk, v.embedding FROM picked
    CROSS JOIN LATERAL (SELECT chunk, embedding FROM {g}.vectors WHERE chunk >= picked.at ORDER BY chunk LIMIT 1) AS v
    WHERE NOT EXISTS (SELECT FROM {g}.strays s WHERE s.chunk = v.chunk)
)
SELECT count(*) AS asked, count(*) FILTER (WHERE (
    SELECT o.embedding <=> s.embedding FROM {g}.vectors o ORDER BY o.embedding <=> s.embedding LIMIT 1) <= 1e-5) AS found
FROM sampled s;

-- name: vacuum
VACUUM (INDEX_CLEANUP ON, PARALLEL 0, ANALYZE) {target};

-- name: reindex
REINDEX INDEX CONCURRENTLY {target};

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {target};

-- name: bytes
SELECT pg_total_relation_size(%(target)s::regclass) AS bytes;

-- name: probe_again
-- After a rebuild other chunks may be those that the index does not find: those that it finds now need no measuring
-- beside it, and all are looked up once more.
WITH found AS (
    DELETE FROM {g}.strays s USING {g}.vectors v WHERE v.chunk = s.chunk AND (
        SELECT o.embedding <=> v.embedding FROM {g}.vectors o ORDER BY o.embedding <=> v.embedding LIMIT 1) <= 1e-5
)
UPDATE livedex.generations SET probed_chunk = -1 WHERE generation = %(generation)s;

-- name: note
INSERT INTO livedex.upkeep (generation, action, target, reason, began_at, bytes_before, bytes_after)
VALUES (%(generation)s, %(action)s, %(target)s, %(reason)s, %(began_at)s, %(bytes_before)s, %(bytes_after)s);

-- name: now
SELECT clock_timestamp() AS now;

-- name: forget_upkeep
DELETE FROM livedex.upkeep WHERE ended_at < clock_timestamp() - make_interval(secs => %(seconds)s);

-- name: past_partitions
-- Partitions of the history whose week ended before that long ago.
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'livedex.changes'::regclass AND c.relname ~ '^changes_\d{8}$'
  AND to_date(right(c.relname, 8), 'YYYYMMDD') + 7 < (clock_timestamp() - make_interval(secs => %(seconds)s))::date
ORDER BY 1;

-- name: lock_briefly
-- Dropping a partition keeps writers waiting, so it gives up rather than wait for readers.
SET LOCAL lock_timeout = '200ms';

-- name: drop_partition
DROP TABLE livedex.{name};

-- name: prune_history
DELETE FROM livedex.changes_other WHERE captured_at < clock_timestamp() - make_interval(secs => %(seconds)s);

-- name: old_tombstones
-- Tombstones that everybody has read. One that stands for something else than a row that is gone has a reason to stay.
WITH read AS (
    SELECT coalesce(min(c.seq), 0) AS seq FROM livedex.cursors c JOIN livedex.generations g USING (generation)
    WHERE g.state NOT IN ('retired', 'failed')
)
SELECT d.document FROM livedex.documents d CROSS JOIN read
WHERE d.deleted AND NOT d.expired AND d.seq <= read.seq AND d.captured_at < clock_timestamp() - make_interval(secs => %(seconds)s)
  AND NOT EXISTS (SELECT FROM livedex.partitions p WHERE p.source_id = d.source_id AND p.state <> 'streaming')
LIMIT %(limit)s;

-- name: drop_tombstones
DELETE FROM livedex.documents WHERE deleted AND NOT expired AND document = ANY(%(documents)s::bigint[]);

-- name: summary
-- What a generation takes, and when it was last looked after.
SELECT (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s AND c.relkind = 'r') AS bytes,
    (SELECT coalesce(pg_relation_size(to_regclass(%(vector_index)s)), 0)) AS vector_index_bytes,
    (SELECT coalesce(pg_relation_size(to_regclass(%(text_index)s)), 0)) AS text_index_bytes,
    (SELECT coalesce(s.n_dead_tup::float8 / nullif(s.n_live_tup + s.n_dead_tup, 0), 0) FROM pg_stat_user_tables s
     WHERE s.schemaname = %(schema)s AND s.relname = 'vectors') AS dead_share,
    (SELECT max(ended_at) FROM livedex.upkeep WHERE generation = %(generation)s OR generation IS NULL) AS maintained_at;
