-- name: log_ranges
-- Per range of keys how many live documents a table of a source has, and the exclusive or of their digests; and how much
-- content they hold together. `livedex.digests` says what is computed.
SELECT r.range, count(*)::integer AS documents, bit_xor(r.digest) AS digest, sum(r.content_bytes)::bigint AS content_bytes
FROM ({digests}) AS r GROUP BY r.range;

-- name: log_keys
-- The live documents of some ranges: where each stands, and its digest.
SELECT r.key, r.seq, r.digest FROM ({digests}) AS r;

-- name: digests
SELECT d.key, d.seq, d.content_bytes, k.range,
    ('x' || encode(substr(sha256(convert_to(concat_ws(chr(31), d.key, c.said), 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
        AS digest
FROM livedex.documents d
CROSS JOIN LATERAL (
    SELECT (get_byte(h.hash, 0) << 4) | (get_byte(h.hash, 1) >> 4) AS range
    FROM (SELECT sha256(convert_to(d.key, 'UTF8')) AS hash OFFSET 0) AS h OFFSET 0) AS k
CROSS JOIN LATERAL (
    SELECT string_agg(CASE jsonb_typeof(e.value) WHEN 'null' THEN '!'
            WHEN 'number' THEN '=' || trim_scale((e.value #>> '{}')::numeric) ELSE '=' || (e.value #>> '{}') END,
        chr(31) ORDER BY e.key COLLATE "C") AS said
    FROM jsonb_each(d.raw) AS e WHERE e.key = ANY(%(columns)s::text[]) OFFSET 0) AS c
WHERE d.source_id = %(source_id)s AND d.collection = %(table)s AND NOT d.deleted
    AND (%(ranges)s::integer[] IS NULL OR k.range = ANY(%(ranges)s::integer[]))

-- name: documents
-- Live documents of a source, all or one of several parts, as they say what they are; those that capture refused are told
-- apart.
SELECT d.document, d.key, d.key_hash, d.collection, d.document_id, d.tenant, d.acl, d.title, d.metadata, d.updated_at,
    d.version, d.raw_hash, d.content_hash, d.content_bytes, d.raw,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = 0) AS refused
FROM livedex.documents d
WHERE d.source_id = %(source_id)s AND NOT d.deleted AND d.document %% %(parts)s::bigint = %(part)s::bigint;

-- name: documents_of_keys
SELECT d.document, d.key, d.key_hash, d.collection, d.document_id, d.tenant, d.acl, d.title, d.metadata, d.updated_at,
    d.version, d.raw_hash, d.content_hash, d.content_bytes, d.raw,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = 0) AS refused
FROM livedex.documents d WHERE d.source_id = %(source_id)s AND NOT d.deleted AND d.key_hash = ANY(%(key_hashes)s::bytea[]);

-- name: documents_of_key_texts
SELECT d.document, d.key, d.key_hash, d.collection, d.document_id, d.tenant, d.acl, d.title, d.metadata, d.updated_at,
    d.version, d.raw_hash, d.content_hash, d.content_bytes, d.raw,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = 0) AS refused
FROM livedex.documents d WHERE d.source_id = %(source_id)s AND NOT d.deleted AND d.key = ANY(%(keys)s::text[]);

-- name: live_documents
SELECT count(*) AS documents FROM livedex.documents WHERE source_id = %(source_id)s AND NOT deleted;

-- name: state
SELECT p.partition, p.state, p.position, p.error FROM livedex.partitions p WHERE p.source_id = %(source_id)s
ORDER BY p.partition;

-- name: behind_log_end
SELECT d.document_id, d.document, d.key_hash FROM livedex.documents d
WHERE d.seq > (SELECT seq FROM livedex.log_head) ORDER BY d.seq;

-- name: raise_log_end
UPDATE livedex.log_head SET seq = greatest(seq, (SELECT max(seq) FROM livedex.documents));

-- name: resting
-- Vectors at rest that are none, of models whose vectors have length 1.
SELECT count(*) AS found FROM livedex.embeddings e JOIN livedex.models m USING (model_id)
WHERE (m.identity ->> 'normalised')::boolean AND abs(l2_norm(e.embedding) - 1) > %(tolerance)s
    OR l2_norm(e.embedding) = 0 OR vector_dims(e.embedding) <> m.dimensions;

-- name: drop_resting
DELETE FROM livedex.embeddings e USING livedex.models m WHERE m.model_id = e.model_id
    AND ((m.identity ->> 'normalised')::boolean AND abs(l2_norm(e.embedding) - 1) > %(tolerance)s
        OR l2_norm(e.embedding) = 0 OR vector_dims(e.embedding) <> m.dimensions);

-- name: ask
-- Have whoever captures the source read some keys again.
INSERT INTO livedex.repairs (audit_id, source_id, key, key_hash)
SELECT %(audit_id)s, %(source_id)s, key, key_hash FROM unnest(%(keys)s::text[], %(key_hashes)s::bytea[]) AS k(key, key_hash);

-- name: rehash
-- A document whose hash is not that of its key would not be found under it.
UPDATE livedex.documents d SET key_hash = k.key_hash
FROM unnest(%(keys)s::text[], %(key_hashes)s::bytea[]) AS k(key, key_hash)
WHERE d.source_id = %(source_id)s AND d.key = k.key AND d.key_hash <> k.key_hash AND NOT d.deleted
    AND NOT EXISTS (SELECT FROM livedex.documents o
                    WHERE o.source_id = d.source_id AND o.key_hash = k.key_hash AND NOT o.deleted);

-- name: asked
-- What is still to be done of it, and why what was not done was not.
SELECT count(*) FILTER (WHERE error IS NULL) AS waiting, max(error) AS error FROM livedex.repairs
WHERE audit_id = %(audit_id)s AND source_id = %(source_id)s;

-- name: withdraw
-- What an audit asked for in vain; also what the process that asked never came back for.
DELETE FROM livedex.repairs WHERE audit_id = %(audit_id)s OR asked_at < clock_timestamp() - interval '1 hour';

-- name: next_repairs
SELECT repair_id, key, key_hash FROM livedex.repairs WHERE source_id = %(source_id)s AND error IS NULL
ORDER BY repair_id LIMIT %(limit)s;

-- name: finish_repairs
DELETE FROM livedex.repairs WHERE repair_id = ANY(%(repair_ids)s::bigint[]);

-- name: give_up_repairs
UPDATE livedex.repairs SET error = %(error)s WHERE repair_id = ANY(%(repair_ids)s::bigint[]);

-- name: doubt
-- Whatever comes next under these keys is written, though the log may believe that it has it.
UPDATE livedex.documents SET raw_hash = '' WHERE source_id = %(source_id)s AND key_hash = ANY(%(key_hashes)s::bytea[])
    AND NOT deleted;

-- name: due
-- Whether an audit of everything is due: so long after the last one began, or after the store was made.
SELECT coalesce(max(a.started_at) FILTER (WHERE a.wanted ->> 'subject' IS NULL), min(s.created_at))
    <= clock_timestamp() - make_interval(secs => %(every)s) AS due
FROM livedex.store s LEFT JOIN livedex.audits a ON true;

-- name: begin
INSERT INTO livedex.audits (owner, wanted) VALUES (%(owner)s, %(wanted)s) RETURNING audit_id, started_at;

-- name: finish
UPDATE livedex.audits SET finished_at = clock_timestamp(), report = %(report)s, error = %(error)s
WHERE audit_id = %(audit_id)s RETURNING finished_at;

-- name: add_examples
-- Without those that were purged since they were found.
INSERT INTO livedex.audit_examples (audit_id, subject, kind, ordinal, document, key_hash, document_id)
SELECT %(audit_id)s, subject, kind, ordinal, document, key_hash, document_id
FROM jsonb_to_recordset(%(examples)s) AS e(subject text, kind text, ordinal integer, document bigint, key_hash bytea,
    document_id text)
WHERE NOT EXISTS (SELECT FROM livedex.suppressions s WHERE s.key_hash = livedex.forgotten_hash(s.source_id, e.key_hash));

-- name: prune
DELETE FROM livedex.audits WHERE started_at < clock_timestamp() - interval '90 days';

-- name: last
-- The newest audit that ended, of everything or of a part.
SELECT a.audit_id, a.started_at, a.finished_at, a.wanted, a.report, a.error FROM livedex.audits a
WHERE a.finished_at IS NOT NULL ORDER BY a.audit_id DESC LIMIT 1;
