-- name: existing
-- What the log holds under some keys: at most one live row and any number of tombstones each.
SELECT d.document, d.key_hash, d.deleted, d.seq, d.raw_hash,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = 0) AS refused,
    CASE WHEN d.key_hash = ANY(%(with_raw)s::bytea[]) THEN d.raw END AS raw, false AS expired,
    d.content_bytes
FROM livedex.documents d
WHERE d.source_id = %(source_id)s AND NOT d.deleted AND d.key_hash = ANY(%(key_hashes)s::bytea[])
UNION ALL
SELECT d.document, d.key_hash, d.deleted, d.seq, d.raw_hash, false,
    CASE WHEN d.expired AND d.key_hash = ANY(%(with_raw)s::bytea[]) THEN d.raw END, d.expired, 0
FROM livedex.documents d
WHERE d.source_id = %(source_id)s AND d.deleted AND d.key_hash = ANY(%(key_hashes)s::bytea[]);

-- name: write
-- Take the lock, hand out seq and write rows and history in one statement. `ordinal` counts from 1. A tombstone may have
-- been dropped since it was looked up: what was to come back in its place is a new document then.
WITH head AS (
    UPDATE livedex.log_head SET seq = seq + %(count)s RETURNING seq - %(count)s AS base
), incoming AS MATERIALIZED (
    SELECT i.*, head.base + i.ordinal AS seq, head.base + i.last_ordinal AS commit_seq, clock_timestamp() AS captured_at
    FROM head, jsonb_to_recordset(%(rows)s) AS i(
        ordinal bigint, last_ordinal bigint, document bigint, op text, deleted boolean, key text, key_hash bytea,
        collection text, document_id text, slot smallint, tenant text, acl text[], title text, metadata jsonb,
        updated_at timestamptz, version text, raw_hash bytea, content_hash bytea, content_bytes integer, raw jsonb,
        source_position text, source_time timestamptz, passed jsonb)
), updated AS (
    UPDATE livedex.documents d SET
        key = i.key, key_hash = i.key_hash, collection = i.collection, document_id = i.document_id, seq = i.seq,
        commit_seq = i.commit_seq, epoch = %(epoch)s, deleted = i.deleted, expired = false, tenant = i.tenant, acl = i.acl,
        title = i.title, metadata = i.metadata, updated_at = i.updated_at, version = i.version,
        raw_hash = i.raw_hash, content_hash = i.content_hash, content_bytes = i.content_bytes, raw = i.raw,
        source_position = i.source_position, source_time = i.source_time, captured_at = i.captured_at,
        revived_seq = CASE WHEN d.deleted AND NOT i.deleted THEN i.seq ELSE d.revived_seq END
    FROM incoming i WHERE d.document = i.document
    RETURNING d.document
), inserted AS (
    INSERT INTO livedex.documents (source_id, key, key_hash, collection, document_id, seq, commit_seq, slot, epoch,
        deleted, tenant, acl, title, metadata, updated_at, version, raw_hash, content_hash, content_bytes, raw,
        source_position, source_time, captured_at)
    SELECT %(source_id)s, key, key_hash, collection, document_id, seq, commit_seq, slot, %(epoch)s,
        deleted, tenant, acl, title, metadata, updated_at, version, raw_hash, content_hash, content_bytes, raw,
        source_position, source_time, captured_at
    FROM incoming i WHERE document IS NULL OR NOT EXISTS (SELECT FROM updated u WHERE u.document = i.document)
    RETURNING document, seq
), history AS (
    INSERT INTO livedex.changes (seq, source_id, document, key_hash, op, version, source_position, source_time,
        captured_at)
    SELECT i.seq, %(source_id)s, coalesce(n.document, i.document), i.key_hash, i.op::"char", i.version,
        i.source_position, i.source_time, i.captured_at
    FROM incoming i LEFT JOIN inserted n ON n.seq = i.seq
), passed AS (
    -- What came before within the same changes, and stood in no log.
    INSERT INTO livedex.changes (seq, source_id, document, key_hash, op, version, source_position, source_time,
        captured_at, before)
    SELECT i.seq, %(source_id)s, coalesce(n.document, i.document), p.key_hash, p.op::"char", p.version,
        p.source_position, p.source_time, i.captured_at, p.before
    FROM incoming i LEFT JOIN inserted n ON n.seq = i.seq
    CROSS JOIN LATERAL jsonb_to_recordset(i.passed) AS p(before integer, op text, key_hash bytea, version text,
        source_position text, source_time timestamptz)
    WHERE i.passed IS NOT NULL
)
SELECT i.ordinal, coalesce(n.document, i.document) AS document
FROM incoming i LEFT JOIN inserted n ON n.seq = i.seq ORDER BY i.ordinal;

-- name: tombstone
-- Documents that no longer exist: of truncated tables, or not seen by a finished snapshot. Those in `survivors` stay.
-- What could not be mapped of them waits for nothing any more; generations take theirs out when they come by. Tombstones
-- that were made by age become ordinary ones, since their rows are gone.
WITH released AS (
    UPDATE livedex.documents SET expired = false, raw = NULL, raw_hash = ''
    WHERE source_id = %(source_id)s AND deleted AND expired AND document <> ALL(%(survivors)s::bigint[])
      AND epoch < %(before_epoch)s
      AND (collection = ANY(%(tables)s::text[]) OR collection <> ALL(%(mapped)s::text[]))
), gone AS MATERIALIZED (
    SELECT document, row_number() OVER (ORDER BY document) AS ordinal FROM livedex.documents
    WHERE source_id = %(source_id)s AND NOT deleted AND document <> ALL(%(survivors)s::bigint[])
      AND epoch < %(before_epoch)s
      AND (collection = ANY(%(tables)s::text[]) OR collection <> ALL(%(mapped)s::text[]))
), head AS (
    UPDATE livedex.log_head SET seq = seq + (SELECT count(*) FROM gone)
    RETURNING seq - (SELECT count(*) FROM gone) AS base, seq AS last
), changed AS (
    UPDATE livedex.documents d SET
        seq = head.base + gone.ordinal, commit_seq = head.last, deleted = true, title = '', metadata = '{}',
        raw = NULL, raw_hash = '', content_hash = '', content_bytes = 0, version = '',
        source_position = %(position)s, source_time = %(time)s, captured_at = clock_timestamp()
    FROM gone, head WHERE d.document = gone.document
    RETURNING d.document, d.seq, d.key_hash, d.captured_at
), accepted AS (
    DELETE FROM livedex.quarantine q USING gone WHERE q.generation = 0 AND q.document = gone.document
), history AS (
    INSERT INTO livedex.changes (seq, source_id, document, key_hash, op, version, source_position, source_time,
        captured_at)
    SELECT seq, %(source_id)s, document, key_hash, %(op)s::"char", '', %(position)s, %(time)s, captured_at FROM changed
)
SELECT count(*) AS gone, (array_agg(document))[:10] AS examples FROM changed;

-- name: see
-- A snapshot saw these documents as the log has them.
UPDATE livedex.documents SET epoch = %(epoch)s WHERE document = ANY(%(documents)s::bigint[]) AND epoch < %(epoch)s;

-- name: release
-- Tombstones made by age whose rows are gone.
UPDATE livedex.documents SET expired = false, raw = NULL, raw_hash = ''
WHERE document = ANY(%(documents)s::bigint[]) AND deleted AND expired;

-- name: touch
-- Give documents a new seq, so that every generation reads them again.
WITH wanted AS MATERIALIZED (
    SELECT document, row_number() OVER (ORDER BY document) AS ordinal FROM livedex.documents
    WHERE document = ANY(%(documents)s::bigint[])
), head AS (
    UPDATE livedex.log_head SET seq = seq + (SELECT count(*) FROM wanted)
    RETURNING seq - (SELECT count(*) FROM wanted) AS base, seq AS last
)
UPDATE livedex.documents d SET seq = head.base + wanted.ordinal, commit_seq = head.base + wanted.ordinal
FROM wanted, head WHERE d.document = wanted.document;

-- name: stage
INSERT INTO livedex.staged (source_id, partition, ordinal, change)
SELECT %(source_id)s, %(partition)s, %(after)s + ordinality, value
FROM jsonb_array_elements(%(changes)s) WITH ORDINALITY
ON CONFLICT (source_id, partition, ordinal) DO UPDATE SET change = excluded.change;

-- name: staged_facts
SELECT count(*) AS count, coalesce(bool_or(change ->> 'old_key' IS NOT NULL), false) AS moves_keys
FROM livedex.staged WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: staged_after
SELECT ordinal, change FROM livedex.staged
WHERE source_id = %(source_id)s AND partition = %(partition)s AND ordinal > %(after)s ORDER BY ordinal LIMIT %(limit)s;

-- name: unstage
DELETE FROM livedex.staged WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: refuse
-- A row that capture could not map, or that is not as was expected. Its document is kept, visible to nobody until it is
-- mended.
INSERT INTO livedex.quarantine (document, generation, stage, reason, version)
SELECT document, 0, stage, reason, version
FROM jsonb_to_recordset(%(rows)s) AS r(document bigint, stage text, reason text, version text)
ON CONFLICT (document, generation) DO UPDATE SET stage = excluded.stage, reason = excluded.reason, version = excluded.version,
    attempts = livedex.quarantine.attempts + 1, last_at = clock_timestamp();

-- name: accept
DELETE FROM livedex.quarantine WHERE generation = 0 AND document = ANY(%(documents)s::bigint[]);

-- name: advance
-- By the source's clock, less what that is ahead, and no later than now: a clock that is ahead must not make old data look
-- fresh. What the way from there to here takes makes it look less ahead than it is, never more.
UPDATE livedex.partitions p SET position = %(position)s, position_serial = p.position_serial + 1,
    position_time = least(%(time)s - make_interval(secs => greatest(0, coalesce(clock.ahead, 0))), clock_timestamp()),
    clock_offset_seconds = clock.ahead, heartbeat_at = clock_timestamp(), state = 'streaming', error = NULL
FROM (SELECT coalesce(extract(epoch FROM %(clock)s::timestamptz - clock_timestamp()), clock_offset_seconds)
          ::double precision AS ahead
      FROM livedex.partitions WHERE source_id = %(source_id)s AND partition = %(partition)s) AS clock
WHERE p.source_id = %(source_id)s AND p.partition = %(partition)s;

-- name: begin_epoch
-- Where a position stood, everything up to it stays searchable while the snapshot is read: a folder begins each time with
-- one. Where none did, what was searchable is no statement about the source until the snapshot is complete.
WITH forgotten AS (
    DELETE FROM livedex.watermarks w USING livedex.partitions p
    WHERE w.source_id = %(source_id)s AND w.partition = %(partition)s
        AND p.source_id = w.source_id AND p.partition = w.partition AND p.position IS NULL
)
UPDATE livedex.partitions SET epoch = epoch + 1, state = 'snapshot', position = NULL, position_time = NULL,
    position_serial = position_serial + 1, heartbeat_at = clock_timestamp(), error = NULL
WHERE source_id = %(source_id)s AND partition = %(partition)s RETURNING epoch;

-- name: alive
UPDATE livedex.partitions SET heartbeat_at = clock_timestamp()
WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: hold
SELECT livedex.hold(%(resource)s, %(epoch)s, %(seconds)s);

-- name: listen
LISTEN livedex_log;

-- name: notify
-- Who wrote, and in which slots; no slots: in any.
SELECT pg_notify('livedex_log', %(news)s);

-- name: ensure_history
-- One partition of the history a week; what has none goes to the default one.
DO $$
DECLARE
    monday date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('livedex.changes'));
    FOREACH monday IN ARRAY ARRAY[date_trunc('week', now())::date, date_trunc('week', now())::date + 7] LOOP
        IF to_regclass('livedex.changes_' || to_char(monday, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE IF NOT EXISTS livedex.%I PARTITION OF livedex.changes FOR VALUES FROM (%L) TO (%L)',
                'changes_' || to_char(monday, 'YYYYMMDD'), monday, monday + 7);
        END IF;
    END LOOP;
END $$;

-- name: lock_head
-- The last document, too: what has a higher number was not there before.
SELECT seq, (SELECT coalesce(max(document), 0) FROM livedex.documents) AS document FROM livedex.log_head FOR UPDATE;

-- name: stillborn
-- Documents that a transaction brought and took away again.
SELECT count(*) AS documents FROM livedex.documents
WHERE source_id = %(source_id)s AND document > %(after)s AND deleted;

-- name: commit_together
-- Parts of one source transaction, which were written one after another, share its last seq.
UPDATE livedex.documents SET commit_seq = (SELECT seq FROM livedex.log_head)
WHERE seq > %(after)s AND source_id = %(source_id)s;

-- name: flush
-- A transaction of its own, waited for: what was committed before it is on disk with it. It has to write something to
-- the server's log; for one that has no more than a number the server would not wait.
SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'livedex', '');
