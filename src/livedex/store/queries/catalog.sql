-- name: store
SELECT store_id::text AS store_id, hash_key FROM livedex.store;

-- name: source
SELECT source_id, name, kind, mapping FROM livedex.sources WHERE name = %(name)s;

-- name: sources
SELECT source_id, name, kind, mapping FROM livedex.sources ORDER BY name;

-- name: note_heartbeat
UPDATE livedex.sources SET heartbeat = make_interval(secs => %(seconds)s)
WHERE source_id = %(source_id)s AND heartbeat <> make_interval(secs => %(seconds)s);

-- name: add_source
INSERT INTO livedex.sources (name, kind, mapping) VALUES (%(name)s, %(kind)s, %(mapping)s)
ON CONFLICT (name) DO NOTHING;

-- name: remap_source
UPDATE livedex.sources SET mapping = %(mapping)s WHERE source_id = %(source_id)s;

-- name: reset_partitions
-- Forget the positions, and with them the watermarks: the source is read again from the start, in a new epoch.
WITH forgotten AS (DELETE FROM livedex.watermarks WHERE source_id = %(source_id)s)
UPDATE livedex.partitions SET position = NULL, state = 'new', error = NULL WHERE source_id = %(source_id)s;

-- name: add_partition
INSERT INTO livedex.partitions (source_id, partition) VALUES (%(source_id)s, %(partition)s)
ON CONFLICT (source_id, partition) DO NOTHING;

-- name: partition
SELECT position, epoch, state, error FROM livedex.partitions WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: pause_partition
-- An error that a person must deal with.
UPDATE livedex.partitions SET state = 'paused', error = %(error)s
WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: note_partition_error
UPDATE livedex.partitions SET error = %(error)s WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: partitions
SELECT s.source_id, s.name AS source, s.kind, p.partition, p.state, p.error, p.position, p.position_time,
    p.heartbeat_at, p.clock_offset_seconds, (SELECT count(*) FROM livedex.documents d WHERE d.source_id = s.source_id AND NOT d.deleted)
        AS documents,
    (SELECT format('%%s.%%s was %%s', c.table_name, c.column_name, c.kind) FROM livedex.schema_changes c
     WHERE c.source_id = s.source_id AND c.resolved_at IS NULL ORDER BY c.schema_change_id DESC LIMIT 1) AS schema_change
FROM livedex.sources s LEFT JOIN livedex.partitions p USING (source_id) ORDER BY s.name, p.partition;

-- name: stands
-- Whether an index or extended statistics of this name stands.
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'livedex'::regnamespace AND relname = %(name)s)
    OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxnamespace = 'livedex'::regnamespace AND stxname = %(name)s) AS stands;

-- name: metadata_index
-- One a declared metadata column. A prefix, since a B-tree entry is limited; conditions repeat the whole value.
CREATE INDEX IF NOT EXISTS {index} ON livedex.documents (left(metadata ->> {name}, 64))
WHERE left(metadata ->> {name}, 64) IS NOT NULL;

-- name: metadata_list_index
-- For values that are lists, of which any element may be asked for.
CREATE INDEX IF NOT EXISTS {index} ON livedex.documents USING gin ((metadata -> {name}))
WHERE jsonb_typeof(metadata -> {name}) = 'array';

-- name: metadata_statistics
-- For plain SQL on a view, whose conditions are on the whole value.
CREATE STATISTICS IF NOT EXISTS livedex.{index} ON (metadata ->> {name}) FROM livedex.documents;

-- name: lock
-- Two processes that start together declare the same things one after the other.
SELECT pg_advisory_xact_lock(hashtext('livedex.catalog'));

-- name: add_model
INSERT INTO livedex.models (name, identity, dimensions) VALUES (%(name)s, %(identity)s, %(dimensions)s)
ON CONFLICT (name) DO NOTHING;

-- name: model_id
SELECT model_id FROM livedex.models WHERE name = %(name)s;

-- name: add_view
INSERT INTO livedex.views (name, target_lag) VALUES (%(name)s, make_interval(secs => %(target_lag)s))
ON CONFLICT (name) DO UPDATE SET target_lag = excluded.target_lag RETURNING view_id;

-- name: add_generation
INSERT INTO livedex.generations (view_id, state, recipe, model_id, shards, source_ids)
VALUES (%(view_id)s, 'active', %(recipe)s, %(model_id)s, %(shards)s, %(source_ids)s) RETURNING generation;

-- name: functions_digest
SELECT functions FROM livedex.generations WHERE generation = %(generation)s;

-- name: note_functions
UPDATE livedex.generations SET functions = %(digest)s WHERE generation = %(generation)s;

-- name: add_cursors
INSERT INTO livedex.cursors (generation, shard) SELECT %(generation)s, generate_series(0, %(shards)s - 1);

-- name: activate
UPDATE livedex.views SET active_generation = %(generation)s WHERE view_id = %(view_id)s;

-- name: active_generation
SELECT g.generation, v.name AS view, g.state, g.recipe, g.model_id, g.shards, g.source_ids,
    g.indexed_at IS NOT NULL AS indexed,
    ARRAY(SELECT least(v.ttl, s.ttl) FROM unnest(g.source_ids) WITH ORDINALITY AS o(source_id, place)
          JOIN livedex.sources s USING (source_id) ORDER BY o.place) AS max_ages
FROM livedex.views v JOIN livedex.generations g ON g.generation = v.active_generation WHERE v.name = %(view)s;

-- name: generations
SELECT g.generation, v.name AS view, g.state, g.recipe, g.model_id, g.shards, g.source_ids,
    g.indexed_at IS NOT NULL AS indexed,
    ARRAY(SELECT least(v.ttl, s.ttl) FROM unnest(g.source_ids) WITH ORDINALITY AS o(source_id, place)
          JOIN livedex.sources s USING (source_id) ORDER BY o.place) AS max_ages
FROM livedex.generations g JOIN livedex.views v USING (view_id) WHERE g.state NOT IN ('retired', 'failed')
ORDER BY g.generation;

-- name: counters
SELECT g.generation, sum(c.documents_added)::bigint AS added, sum(c.documents_updated)::bigint AS updated,
    sum(c.documents_deleted)::bigint AS deleted, sum(c.texts_embedded)::bigint AS texts_embedded,
    sum(c.chunks_inserted)::bigint AS chunks_inserted,
    (SELECT count(*) FROM livedex.documents d WHERE d.source_id = ANY(g.source_ids) AND NOT d.deleted) AS documents,
    (SELECT count(*) FROM livedex.quarantine q JOIN livedex.documents d USING (document)
     WHERE q.generation IN (0, g.generation) AND d.source_id = ANY(g.source_ids)) AS quarantined
FROM livedex.generations g JOIN livedex.cursors c USING (generation) WHERE g.generation = %(generation)s
GROUP BY g.generation;

-- name: backlog
-- Documents that a generation has yet to read, per shard.
SELECT c.shard, c.error, c.seq, count(d.document) AS documents
FROM livedex.cursors c JOIN livedex.generations g USING (generation)
LEFT JOIN livedex.documents d ON d.seq > c.seq AND d.source_id = ANY(g.source_ids) AND d.slot %% g.shards = c.shard
WHERE c.generation = %(generation)s GROUP BY c.shard, c.error, c.seq ORDER BY c.shard;

-- name: marks
-- How far each shard of a generation has followed each partition, and what capture knows of that right now.
SELECT v.active_generation, clock_timestamp() AS now, coalesce(l.expires_at >= clock_timestamp(), false) AS followed,
    s.name AS source, array_position(g.source_ids, s.source_id) AS place, p.partition, w.position,
    w.position_time AS time, coalesce(w.position_serial, 0) AS serial, p.heartbeat_at, g.shards,
    extract(epoch FROM v.target_lag)::double precision AS target_seconds, p.state, p.error IS NOT NULL AS failing,
    extract(epoch FROM s.heartbeat)::double precision AS heartbeat_seconds, p.position_time AS captured_time,
    p.position_serial AS captured_serial
FROM livedex.generations g
JOIN livedex.views v USING (view_id)
JOIN livedex.cursors c USING (generation)
LEFT JOIN livedex.sources s ON s.source_id = ANY(g.source_ids)
LEFT JOIN livedex.partitions p ON p.source_id = s.source_id
LEFT JOIN livedex.leases l ON l.resource = 'source:' || p.source_id || ':' || p.partition
LEFT JOIN livedex.watermarks w ON w.generation = g.generation AND w.shard = c.shard
    AND w.source_id = p.source_id AND w.partition = p.partition
WHERE g.generation = %(generation)s;

-- name: prune_embeddings
DELETE FROM livedex.embeddings WHERE rested_at < clock_timestamp() - interval '30 days';

-- name: prune_spending
DELETE FROM livedex.spending WHERE hour < clock_timestamp() - interval '400 days';

-- name: quarantined
SELECT q.quarantine_id, s.name AS source, d.document_id, d.document, v.name AS view, q.generation, q.stage, q.reason,
    q.version, q.attempts, q.first_at, q.last_at
FROM livedex.quarantine q JOIN livedex.documents d USING (document) JOIN livedex.sources s USING (source_id)
LEFT JOIN livedex.generations g ON g.generation = q.generation LEFT JOIN livedex.views v USING (view_id)
ORDER BY q.quarantine_id;
