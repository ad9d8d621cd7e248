-- name: declare_view
UPDATE livedex.views SET debounce = %(debounce)s, debounce_at_most = %(at_most)s, tokens_per_day = %(tokens_per_day)s,
    when_spent = %(when_spent)s, ttl = %(ttl)s
WHERE name = %(view)s;

-- name: max_ages
-- How old documents of a generation's sources may be, in their order; NULL is no bound.
SELECT least(v.ttl, s.ttl) FROM livedex.generations g JOIN livedex.views v USING (view_id)
CROSS JOIN LATERAL unnest(g.source_ids) WITH ORDINALITY AS o(source_id, place)
JOIN livedex.sources s ON s.source_id = o.source_id
WHERE g.generation = %(generation)s ORDER BY o.place;

-- name: declare_source
UPDATE livedex.sources SET ttl = %(ttl)s
WHERE source_id = %(source_id)s AND ttl IS DISTINCT FROM %(ttl)s::interval;

-- name: release_expired
-- Where documents may become older than before, those that were taken away for their age come back when the source is
-- read again.
UPDATE livedex.documents d SET expired = false, raw = NULL, raw_hash = ''
FROM livedex.sources s
WHERE s.source_id = %(source_id)s AND s.ttl < coalesce(%(ttl)s::interval, interval '100000 years')
  AND d.source_id = s.source_id AND d.deleted AND d.expired;

-- name: index_dates
-- What is oldest is looked for once a minute.
CREATE INDEX IF NOT EXISTS {index} ON livedex.documents (coalesce(updated_at, source_time))
WHERE NOT deleted AND source_id = {source_id};

-- name: expire
-- The oldest of a source's documents become tombstones. One that was changed meanwhile has another seq, and stays. `raw`
-- and its hash stay, as long as the row does in the source: a change may name only some of its columns, and the same
-- version must be known again.
WITH gone AS MATERIALIZED (
    SELECT o.document, o.seq, row_number() OVER (ORDER BY o.document) AS ordinal
    FROM (SELECT document, seq FROM livedex.documents
          WHERE NOT deleted AND source_id = {source_id} AND coalesce(updated_at, source_time) < now() - %(ttl)s::interval
          ORDER BY coalesce(updated_at, source_time) LIMIT %(limit)s) AS o
), head AS (
    UPDATE livedex.log_head SET seq = seq + (SELECT count(*) FROM gone) WHERE EXISTS (SELECT FROM gone)
    RETURNING seq - (SELECT count(*) FROM gone) AS base
), changed AS (
    UPDATE livedex.documents d SET
        seq = head.base + gone.ordinal, commit_seq = head.base + gone.ordinal, deleted = true, expired = true,
        title = '', metadata = '{}', content_hash = '', content_bytes = 0, version = '',
        source_time = NULL, captured_at = clock_timestamp()
    FROM gone, head WHERE d.document = gone.document AND d.seq = gone.seq AND NOT d.deleted
    RETURNING d.document, d.seq, d.key_hash, d.source_position, d.captured_at
), accepted AS (
    DELETE FROM livedex.quarantine q USING changed WHERE q.generation = 0 AND q.document = changed.document
), history AS (
    INSERT INTO livedex.changes (seq, source_id, document, key_hash, op, version, source_position, source_time,
        captured_at, expired)
    SELECT seq, {source_id}, document, key_hash, 'd', '', source_position, NULL, captured_at, true FROM changed
)
SELECT count(*) AS gone FROM changed;

-- name: revive
-- Documents that waited because they were too old, and are not by the ages of now.
UPDATE livedex.deferred w SET reason = 'debounce', due = now()
FROM livedex.documents d
WHERE w.generation = %(generation)s AND w.shard = %(shard)s AND w.reason = 'expired' AND d.document = w.document
  AND coalesce(d.updated_at, d.source_time, 'infinity') >= coalesce(
    now() - (%(max_ages)s::interval[])[array_position(%(source_ids)s::integer[], d.source_id)], '-infinity');

-- name: any_deferred
SELECT EXISTS (SELECT FROM livedex.deferred WHERE generation = %(generation)s AND shard = %(shard)s) AS deferred;

-- name: begin
-- That the budget is spent a shard may have said on another day; it has not said so now.
UPDATE livedex.cursors SET error = NULL
WHERE generation = %(generation)s AND shard = %(shard)s AND starts_with(error, %(said)s);

-- name: paused
-- Of the shards with documents that wait for the budget: what they say, and how many are still at work.
SELECT min(c.error) AS said, count(*) FILTER (WHERE c.error IS NULL) AS busy
FROM livedex.cursors c WHERE c.generation = %(generation)s AND EXISTS (
    SELECT FROM livedex.deferred d WHERE d.generation = c.generation AND d.shard = c.shard AND d.reason = 'budget');

-- name: deferral
-- How a shard's waiting documents stand, and what its view has embedded today; a row a source.
SELECT clock_timestamp() AS now,
    (SELECT coalesce(sum(p.tokens), 0)::bigint FROM livedex.generations g JOIN livedex.generations o USING (view_id)
     JOIN livedex.spending p ON p.generation = o.generation
     WHERE g.generation = %(generation)s AND p.hour >= date_trunc('day', now(), 'UTC')) AS spent,
    EXISTS (SELECT FROM livedex.deferred d WHERE d.generation = %(generation)s AND d.shard = %(shard)s
            AND d.reason = 'budget') AS held,
    s.source_id,
    (SELECT min(d.since_seq) FROM livedex.deferred d WHERE d.generation = %(generation)s AND d.shard = %(shard)s
     AND d.source_id = s.source_id AND d.reason IN ('debounce', 'budget')) AS oldest
FROM unnest(%(source_ids)s::integer[]) AS s(source_id);

-- name: standing_after
-- Which of the documents of `read_after` wait already.
SELECT w.document, w.reason, w.since_seq, w.since, w.due, w.content_hash
FROM (SELECT document FROM livedex.documents
      WHERE seq > %(after)s AND source_id = ANY(%(source_ids)s::integer[]) AND slot %% %(shards)s = %(shard)s
      ORDER BY seq LIMIT %(limit)s) AS next JOIN livedex.deferred w USING (document)
WHERE w.generation = %(generation)s;

-- name: read_due
-- Documents whose wait is over, those that wait longest first. One that changed since then comes by in the log again.
WITH due AS (
    (SELECT document, since_seq FROM livedex.deferred
     WHERE generation = %(generation)s AND shard = %(shard)s AND reason = 'debounce'
       AND due <= CASE WHEN %(at_once)s THEN 'infinity'::timestamptz ELSE statement_timestamp() END
     ORDER BY since_seq LIMIT %(limit)s)
    UNION ALL
    (SELECT document, since_seq FROM livedex.deferred
     WHERE generation = %(generation)s AND shard = %(shard)s AND reason = ANY(%(reasons)s::text[])
     ORDER BY since_seq LIMIT %(limit)s)
), next AS MATERIALIZED (
    SELECT d.document, due.since_seq,
        sum(d.content_bytes::bigint) OVER (ORDER BY due.since_seq, d.document) - d.content_bytes AS bytes_before
    FROM due JOIN livedex.documents d USING (document) WHERE d.seq <= %(after)s
    ORDER BY due.since_seq, d.document LIMIT %(limit)s
)
SELECT d.document, d.source_id, d.collection, d.document_id, d.seq, d.commit_seq, d.version, d.title, d.deleted,
    d.content_hash, d.content_bytes, d.source_position, d.source_time, d.captured_at, d.raw,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = %(generation)s),
    coalesce(d.updated_at, d.source_time) AS dated
FROM next JOIN livedex.documents d USING (document) WHERE next.bytes_before < %(bytes)s
ORDER BY next.since_seq, d.document;

-- name: standing_of
SELECT document, reason, since_seq, since, due, content_hash FROM livedex.deferred
WHERE generation = %(generation)s AND document = ANY(%(documents)s::bigint[]);

-- name: applied_of
SELECT a.document, a.version, a.content_hash, a.chunks, a.lexical_only
FROM {g}.applied a WHERE a.document = ANY(%(documents)s::bigint[]);

-- name: recorded_of
SELECT c.document, c.chunk, c.text_hash, c.shown_hash, c.terms_hash, c.chunk_index, c.start_offset, c.end_offset, c.heading_path, c.section_type
FROM {g}.chunks c WHERE c.document = ANY(%(documents)s::bigint[]);

-- name: embedded_of
-- Which chunks of some documents have vectors.
SELECT v.chunk FROM {g}.vectors v WHERE v.document = ANY(%(documents)s::bigint[]);

-- name: defer
-- What a batch leaves waiting. A document that waited already has done so since its first version that was not searchable.
INSERT INTO livedex.deferred AS w (document, generation, shard, source_id, reason, since_seq, since, due, content_hash)
SELECT d.document, %(generation)s, %(shard)s, d.source_id, d.reason, d.since_seq, d.since, d.due, d.content_hash
FROM jsonb_to_recordset(%(deferred)s) AS d(document bigint, source_id integer, reason text, since_seq bigint,
    since timestamptz, due timestamptz, content_hash bytea)
ON CONFLICT (document, generation) DO UPDATE SET reason = excluded.reason, due = excluded.due,
    content_hash = excluded.content_hash,
    since_seq = CASE WHEN w.reason IN ('debounce', 'budget') THEN w.since_seq ELSE excluded.since_seq END,
    since = CASE WHEN w.reason IN ('debounce', 'budget') THEN w.since ELSE excluded.since END;

-- name: settle
DELETE FROM livedex.deferred WHERE generation = %(generation)s AND document = ANY(%(settled)s::bigint[]);

-- name: of_view
-- What a view declares, what it has embedded today, and how many documents wait for what.
SELECT extract(epoch FROM v.debounce)::double precision AS debounce_seconds, v.tokens_per_day, v.when_spent,
    (SELECT coalesce(sum(p.tokens), 0)::bigint FROM livedex.generations o JOIN livedex.spending p USING (generation)
     WHERE o.view_id = v.view_id AND p.hour >= date_trunc('day', now(), 'UTC')) AS tokens_today,
    extract(epoch FROM least(v.ttl, (SELECT max(s.ttl) FROM livedex.sources s WHERE s.source_id = ANY(g.source_ids))))
        ::double precision AS ttl_seconds,
    count(w.document) FILTER (WHERE w.reason = 'debounce') AS debounced,
    count(w.document) FILTER (WHERE w.reason = 'budget') AS paused,
    count(w.document) FILTER (WHERE w.reason = 'words') AS lexical_only,
    count(w.document) FILTER (WHERE w.reason = 'expired') AS expired,
    date_trunc('day', now(), 'UTC') + interval '1 day' AS goes_on_at
FROM livedex.generations g JOIN livedex.views v USING (view_id)
LEFT JOIN livedex.deferred w ON w.generation = g.generation
WHERE g.generation = %(generation)s GROUP BY v.view_id, g.generation;
