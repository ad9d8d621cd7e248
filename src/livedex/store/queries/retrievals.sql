-- name: make_days
-- A table for each of these days. Columns that can hold text have no statistics there either.
DO $$
DECLARE
    parent text;
    day date;
    made text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('livedex.retrievals'));
    FOREACH parent IN ARRAY ARRAY['retrievals', 'retrieval_hits'] LOOP
        FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, 1) AS n LOOP
            made := parent || '_' || to_char(day, 'YYYYMMDD');
            IF to_regclass('livedex.' || made) IS NULL THEN
                EXECUTE format('CREATE TABLE livedex.%I PARTITION OF livedex.%I FOR VALUES FROM (%L) TO (%L)',
                    made, parent, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
                IF parent = 'retrievals' THEN
                    EXECUTE format('ALTER TABLE livedex.%I ALTER COLUMN query SET STATISTICS 0, '
                        'ALTER COLUMN tenant SET STATISTICS 0, ALTER COLUMN principals SET STATISTICS 0, '
                        'ALTER COLUMN filters SET STATISTICS 0, ALTER COLUMN violations SET STATISTICS 0', made);
                END IF;
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- name: past_days
-- Tables whose days lie longer back than records are kept.
SELECT c.relname AS name FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('livedex.retrievals'::regclass, 'livedex.retrieval_hits'::regclass)
    AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= ((now() - make_interval(secs => %(keep)s)) AT TIME ZONE 'UTC')::date
ORDER BY 1;

-- name: impatient
-- Dropping waits for nobody long, and lets nobody wait long.
SET LOCAL lock_timeout = '200ms';

-- name: drop_day
DROP TABLE IF EXISTS livedex.{day};

-- name: forget_hits
-- Of the day in which what is kept begins.
DELETE FROM livedex.retrieval_hits WHERE at < now() - make_interval(secs => %(keep)s);

-- name: forget_retrievals
DELETE FROM livedex.retrievals WHERE at < now() - make_interval(secs => %(keep)s);

-- name: forget_texts
-- When a text was last seen is noted once an hour.
DELETE FROM livedex.retrieval_texts WHERE last_seen < now() - make_interval(secs => %(keep)s + 3600);

-- name: forget_minutes
DELETE FROM livedex.retrieval_minutes WHERE minute < now() - interval '90 days';

-- name: commit_asynchronously
SET LOCAL synchronous_commit = off;

-- name: count
INSERT INTO livedex.retrieval_minutes AS m (view_id, minute, retrievals, stale, abstained, escalated, refused, lost)
SELECT v.view_id, date_trunc('minute', %(now)s::timestamptz - make_interval(secs => c.age_seconds)), sum(c.retrievals),
    sum(c.stale), sum(c.abstained), sum(c.escalated), sum(c.refused), sum(c.lost)
FROM jsonb_to_recordset(%(counts)s) AS c(view text, age_seconds double precision, retrievals bigint, stale bigint,
    abstained bigint, escalated bigint, refused bigint, lost bigint)
JOIN livedex.views v ON v.name = c.view GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (view_id, minute) DO UPDATE SET retrievals = m.retrievals + excluded.retrievals,
    stale = m.stale + excluded.stale, abstained = m.abstained + excluded.abstained,
    escalated = m.escalated + excluded.escalated, refused = m.refused + excluded.refused, lost = m.lost + excluded.lost;

-- name: record
-- Retrievals of one generation with their hits and the texts that those had. The document of a hit is that of its chunk,
-- or, when the chunk is gone by now, whoever has its key. Where one is not there any more, neither the query nor its text
-- is written down: it may have been purged.
WITH hits AS MATERIALIZED (
    SELECT h.*, d.document AS found FROM jsonb_to_recordset(%(hits)s) AS h(retrieval_id uuid, age double precision,
        rank integer, source_id integer, key_hashes bytea[], version text, chunk_id text, chunk bigint,
        chunk_index integer, start_offset integer, end_offset integer, text_hash bytea, score double precision,
        scores jsonb, stale boolean, withheld boolean, text text)
    LEFT JOIN {g}.chunks c ON c.chunk = h.chunk
    LEFT JOIN LATERAL (
        SELECT document FROM livedex.documents d WHERE d.document = c.document
        UNION ALL
        (SELECT document FROM (
            SELECT d.document, d.deleted, d.seq FROM livedex.documents d
            WHERE c.chunk IS NULL AND d.source_id = h.source_id AND NOT d.deleted AND d.key_hash = ANY(h.key_hashes)
            UNION ALL
            SELECT d.document, d.deleted, d.seq FROM livedex.documents d
            WHERE c.chunk IS NULL AND d.source_id = h.source_id AND d.deleted AND d.key_hash = ANY(h.key_hashes)
        ) AS holders ORDER BY deleted, seq DESC LIMIT 1)
    ) AS d ON true
), gone AS MATERIALIZED (
    SELECT DISTINCT retrieval_id FROM hits WHERE found IS NULL
), noted AS (
    INSERT INTO livedex.retrievals (retrieval_id, at, view_id, generation, query, query_hash, tenant, principals, top_k,
        mode, exact, filters, asked, freshness, watermark, lag_seconds, stale, contract, outcome, violations, timings)
    SELECT r.retrieval_id, %(now)s::timestamptz - make_interval(secs => r.age), g.view_id, g.generation,
        CASE WHEN r.retrieval_id NOT IN (SELECT retrieval_id FROM gone) THEN r.query END, r.query_hash, r.tenant,
        r.principals, r.top_k, r.mode, r.exact,
        CASE WHEN r.retrieval_id NOT IN (SELECT retrieval_id FROM gone) THEN r.filters END, r.asked, r.freshness,
        r.watermark, r.lag_seconds, r.stale, r.contract, r.outcome, r.violations, r.timings
    FROM jsonb_to_recordset(%(retrievals)s) AS r(retrieval_id uuid, age double precision, query text, query_hash bytea,
        tenant text, principals text[], top_k integer, mode text, exact boolean, filters jsonb, asked jsonb,
        freshness jsonb, watermark jsonb, lag_seconds double precision, stale integer, contract text, outcome text,
        violations jsonb, timings jsonb)
    JOIN livedex.generations g ON g.generation = %(generation)s
), referred AS (
    INSERT INTO livedex.retrieval_hits (retrieval_id, at, rank, document, version, chunk_id, chunk_index, start_offset,
        end_offset, text_hash, score, scores, stale, withheld)
    SELECT retrieval_id, %(now)s::timestamptz - make_interval(secs => age), rank, found, version, chunk_id, chunk_index,
        start_offset, end_offset, text_hash, score, scores, stale, withheld
    FROM hits
)
INSERT INTO livedex.retrieval_texts AS t (document, text_hash, text, last_seen)
SELECT DISTINCT ON (found, text_hash) found, text_hash, text, %(now)s::timestamptz FROM hits
WHERE text IS NOT NULL AND found IS NOT NULL ORDER BY found, text_hash
ON CONFLICT (document, text_hash) DO UPDATE SET last_seen = excluded.last_seen
WHERE t.last_seen < excluded.last_seen - interval '30 minutes';

-- name: now
SELECT clock_timestamp();

-- name: recent
-- The last retrievals, newest first.
SELECT r.retrieval_id, r.at, v.name AS view, r.generation, r.query, r.tenant, r.principals, r.top_k, r.mode,
    r.lag_seconds, r.stale, r.contract, r.outcome,
    (SELECT count(*) FROM livedex.retrieval_hits h
     WHERE h.retrieval_id = r.retrieval_id AND h.at = r.at AND NOT h.withheld) AS hits
FROM livedex.retrievals r JOIN livedex.views v USING (view_id)
WHERE r.at > now() - make_interval(secs => %(keep)s) AND (%(view)s::text IS NULL OR v.name = %(view)s)
ORDER BY r.at DESC LIMIT %(last)s;

-- name: lost
-- Of how many retrievals no record could be kept.
SELECT coalesce(sum(m.lost), 0)::bigint AS lost FROM livedex.retrieval_minutes m JOIN livedex.views v USING (view_id)
WHERE m.minute > now() - make_interval(secs => %(keep)s) AND (%(view)s::text IS NULL OR v.name = %(view)s);

-- name: retrieval
SELECT r.retrieval_id, r.at, v.name AS view, r.generation, r.query, r.tenant, r.principals, r.top_k, r.mode, r.exact,
    r.filters, r.asked, r.freshness, r.watermark, r.lag_seconds, r.stale, r.contract, r.outcome, r.violations,
    r.timings, m.name AS model
FROM livedex.retrievals r JOIN livedex.views v USING (view_id)
LEFT JOIN livedex.generations g ON g.generation = r.generation LEFT JOIN livedex.models m USING (model_id)
WHERE r.retrieval_id = %(retrieval_id)s AND r.at > now() - make_interval(secs => %(keep)s);

-- name: hits
-- With the text as it was, as far as it was kept, and what became of each document.
SELECT h.rank, h.document, d.document_id, h.version, h.chunk_id, h.chunk_index, h.start_offset AS start,
    h.end_offset AS end, h.text_hash, t.text, h.score, h.scores, h.stale, h.withheld
FROM livedex.retrieval_hits h LEFT JOIN livedex.documents d USING (document)
LEFT JOIN livedex.retrieval_texts t ON t.document = h.document AND t.text_hash = h.text_hash
WHERE h.retrieval_id = %(retrieval_id)s AND h.at = %(at)s ORDER BY h.rank;

-- name: documents_of_chunks
SELECT chunk, document FROM {g}.chunks WHERE chunk = ANY(%(chunks)s::bigint[]);

-- name: standing
-- What can be said now of some documents to whoever asked then.
SELECT d.document, d.document_id, d.version, d.deleted, d.expired OR coalesce(d.updated_at, d.source_time) <= now()
        - (%(max_ages)s::interval[])[array_position(%(source_ids)s::integer[], d.source_id)] IS TRUE AS expired,
    d.tenant = ANY(%(tenants)s::text[]) AND d.acl && %(principals)s::text[] AS allowed,
    NOT EXISTS (
        SELECT FROM jsonb_each(%(filters)s::jsonb) AS f(name, accepted)
        WHERE NOT coalesce(f.accepted @> jsonb_build_array(d.metadata ->> f.name)
            OR jsonb_typeof(d.metadata -> f.name) = 'array'
                AND d.metadata -> f.name ?| ARRAY(SELECT jsonb_array_elements_text(f.accepted)), false)
    ) AS filtered_in,
    d.source_time AS committed_at, d.captured_at,
    (SELECT min(c.captured_at) FROM livedex.changes c WHERE c.document = d.document) AS first_captured_at,
    a.version AS applied_version, a.source_time AS applied_committed_at,
    (SELECT min(s.searchable_at) FROM livedex.lag_samples s
     WHERE s.document = d.document AND s.generation = %(generation)s AND s.seq = a.seq AND NOT s.deleted)
        AS searchable_at,
    (SELECT q.reason FROM livedex.quarantine q
     WHERE q.document = d.document AND q.generation IN (0, %(generation)s) ORDER BY q.generation LIMIT 1) AS quarantined
FROM livedex.documents d LEFT JOIN {g}.applied a USING (document)
WHERE d.document = ANY(%(documents)s::bigint[]);
