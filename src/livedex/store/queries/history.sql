-- name: holder
-- The document that has one of these keys, or had it last and went with it.
SELECT * FROM (
    SELECT d.document, d.document_id, d.deleted, d.expired, d.seq FROM livedex.documents d
    WHERE d.source_id = %(source_id)s AND d.key_hash = ANY(%(key_hashes)s::bytea[]) AND NOT d.deleted
    UNION ALL
    SELECT d.document, d.document_id, d.deleted, d.expired, d.seq FROM livedex.documents d
    WHERE d.source_id = %(source_id)s AND d.key_hash = ANY(%(key_hashes)s::bytea[]) AND d.deleted
) AS holders ORDER BY deleted, seq DESC LIMIT 1;

-- name: former_holder
-- The document that had one of these keys before it was given another, or whose tombstone is gone. There is no index for
-- it: it is asked for seldom, and every change would have to be entered.
SELECT c.document, coalesce(d.document_id, %(document_id)s) AS document_id, coalesce(d.deleted, true) AS deleted,
    coalesce(d.expired, false) AS expired
FROM livedex.changes c LEFT JOIN livedex.documents d USING (document)
WHERE c.source_id = %(source_id)s AND c.key_hash = ANY(%(key_hashes)s::bytea[])
ORDER BY c.seq DESC LIMIT 1;

-- name: is_forgotten
SELECT coalesce(bool_or(livedex.is_forgotten(%(source_id)s, key_hash)), false) AS forgotten
FROM unnest(%(key_hashes)s::bytea[]) AS key_hash;

-- name: states
-- Every state of a document that the history has.
SELECT seq, before, op::text AS op, version, source_position AS position, source_time AS committed_at, captured_at,
    expired
FROM livedex.changes WHERE document = %(document)s ORDER BY seq, before DESC;

-- name: samples
SELECT generation, seq, searchable_at, embedded_at, chunks_written FROM livedex.lag_samples
WHERE document = %(document)s AND seq IS NOT NULL AND NOT deleted ORDER BY searchable_at;

-- name: kept_since
-- Since when it is known what became searchable when: a store of an earlier livedex did not say of which state.
SELECT greatest(clock_timestamp() - make_interval(secs => %(keep)s),
    (SELECT applied_at FROM livedex.migrations WHERE number = 7)) AS since;

-- name: reader
-- How a generation stands to a document.
SELECT g.created_at AS since, v.active_generation = g.generation AS active,
    coalesce((SELECT c.seq FROM livedex.cursors c JOIN livedex.documents d ON d.slot %% g.shards = c.shard
              WHERE c.generation = g.generation AND d.document = %(document)s), 0) AS cursor,
    a.seq AS applied, a.embedded_at,
    (SELECT q.reason FROM livedex.quarantine q
     WHERE q.document = %(document)s AND q.generation IN (0, g.generation) ORDER BY q.generation LIMIT 1) AS refused
FROM livedex.generations g JOIN livedex.views v USING (view_id)
LEFT JOIN {g}.applied a ON a.document = %(document)s
WHERE g.generation = %(generation)s;

-- name: quarantined
SELECT v.name AS view, q.stage, q.reason, q.version, q.first_at, q.last_at
FROM livedex.quarantine q LEFT JOIN livedex.generations g ON g.generation = q.generation LEFT JOIN livedex.views v USING (view_id)
WHERE q.document = %(document)s ORDER BY q.quarantine_id;
