-- name: forgotten
-- The forgotten keys of a source, and what keys are hashed with.
SELECT t.hash_key, s.key_hash FROM livedex.store t
LEFT JOIN livedex.suppressions s ON s.source_id = %(source_id)s;

-- name: follow
-- A forgotten row was given these keys at its source.
INSERT INTO livedex.suppressions (source_id, key_hash)
SELECT %(source_id)s, livedex.forgotten_hash(%(source_id)s, key_hash) FROM unnest(%(key_hashes)s::bytea[]) AS key_hash
ON CONFLICT (source_id, key_hash) DO NOTHING;

-- name: wait_briefly
SET LOCAL lock_timeout = '2s';

-- name: exclude_workers
-- Every worker's transaction begins by renewing its lease: those under way are waited for, others wait for this one.
LOCK TABLE livedex.leases IN SHARE ROW EXCLUSIVE MODE;

-- name: hold_back_purges
-- For what is written about documents without a lease. A purge comes before this transaction, which then finds documents
-- gone, or after it, and finds its rows. To be taken before any row is.
LOCK TABLE livedex.leases IN ROW EXCLUSIVE MODE;

-- name: end_leases
-- What workers read so far they can no longer write: it may hold what is forgotten now. They begin anew.
UPDATE livedex.leases SET epoch = epoch + 1
WHERE resource LIKE format('source:%%s:%%%%', %(source_id)s::integer)
    OR resource LIKE ANY(ARRAY(SELECT format('shard:%%s:%%%%', generation) FROM livedex.generations
                               WHERE %(source_id)s = ANY(source_ids)));

-- name: standing
-- Documents and tombstones at some keys.
SELECT document, key_hash, document_id, deleted FROM livedex.documents
WHERE source_id = %(source_id)s AND key_hash = ANY(%(key_hashes)s::bytea[]) ORDER BY document;

-- name: formerly
-- Documents that had one of these keys, as far as the history goes back.
SELECT DISTINCT d.document, c.key_hash, d.document_id, d.deleted
FROM livedex.changes c JOIN livedex.documents d USING (document)
WHERE c.source_id = %(source_id)s AND c.key_hash = ANY(%(key_hashes)s::bytea[]) ORDER BY d.document;

-- name: vanished
-- Documents that had one of these keys and whose tombstones were dropped: records of searches and resting vectors may
-- still name them.
SELECT DISTINCT ON (c.document) c.document, c.key_hash FROM livedex.changes c
WHERE c.source_id = %(source_id)s AND c.key_hash = ANY(%(key_hashes)s::bytea[])
    AND NOT EXISTS (SELECT FROM livedex.documents d WHERE d.document = c.document) ORDER BY c.document, c.seq DESC;

-- name: named
-- Documents by what a user calls them.
SELECT document, key, key_hash, document_id, deleted FROM livedex.documents
WHERE source_id = %(source_id)s AND document_id = ANY(%(document_ids)s::text[]) ORDER BY document;

-- name: with_metadata
-- Documents whose metadata has a value, or a list with it.
SELECT document_id FROM livedex.documents
WHERE source_id = %(source_id)s AND NOT deleted AND (metadata ->> %(name)s = %(value)s
    OR jsonb_typeof(metadata -> %(name)s) = 'array' AND metadata -> %(name)s ? %(value)s)
ORDER BY document_id;

-- name: with_words
-- Documents in whose chunks, titles and headings every one of these terms stands.
SELECT d.document_id FROM livedex.documents d JOIN (
    SELECT t.document FROM {g}.terms t CROSS JOIN unnest(%(lexemes)s::text[]) AS asked(lexeme)
    WHERE t.tsv @@ quote_literal(asked.lexeme)::tsquery
    GROUP BY t.document HAVING count(DISTINCT asked.lexeme) = cardinality(%(lexemes)s::text[])
) AS found USING (document)
WHERE d.source_id = %(source_id)s AND NOT d.deleted ORDER BY d.document_id;

-- name: generations_with_tables
-- Also those that nothing follows any more, as long as their tables stand.
SELECT g.generation, g.shards, to_regclass(format('livedex_g%%s.terms', g.generation)) IS NOT NULL AS lexical
FROM livedex.generations g WHERE to_regclass(format('livedex_g%%s.chunks', g.generation)) IS NOT NULL
    AND %(source_id)s = ANY(g.source_ids) ORDER BY g.generation;

-- name: older_keys
-- Every key that these documents have had, as far as no other document has it now.
SELECT DISTINCT c.key_hash FROM livedex.changes c
WHERE c.source_id = %(source_id)s AND c.document = ANY(%(documents)s::bigint[])
    AND NOT EXISTS (SELECT FROM livedex.documents d WHERE d.source_id = c.source_id AND NOT d.deleted
                    AND d.key_hash = c.key_hash AND d.document <> ALL(%(documents)s::bigint[]));

-- name: term_numbers
-- The terms of some documents.
SELECT DISTINCT livedex.term_number(lexeme, (SELECT term_seed FROM livedex.store)) AS term
FROM {g}.terms t CROSS JOIN LATERAL unnest(tsvector_to_array(t.tsv)) AS lexeme
WHERE t.document = ANY(%(documents)s::bigint[]);

-- name: forget_terms
-- With the statistics that they are part of.
SELECT count(s.took), coalesce(sum(s.chunks), 0)::bigint AS gone FROM (
    SELECT cardinality(c.chunks) AS chunks, {g}.exchange_terms(%(generation)s, c.shard, c.chunks, '{}', '{}', '{}')::text AS took
    FROM (SELECT (d.slot %% %(shards)s)::integer AS shard, array_agg(t.chunk) AS chunks
          FROM {g}.terms t JOIN livedex.documents d USING (document)
          WHERE t.document = ANY(%(documents)s::bigint[]) GROUP BY 1) AS c OFFSET 0) AS s;

-- name: settle_frequencies
-- Terms that stand nowhere any more leave nothing behind.
WITH appended AS (
    DELETE FROM {g}.frequencies WHERE term = ANY(%(terms)s::integer[]) RETURNING term, delta, heaviest
), settled AS (
    INSERT INTO {g}.frequencies (term, delta, heaviest)
    SELECT term, sum(delta), max(heaviest) FROM appended GROUP BY term HAVING sum(delta) <> 0 RETURNING term
)
SELECT cardinality(%(terms)s::integer[]) - count(*) AS gone FROM settled;

-- name: forget_chunks
WITH gone AS (
    DELETE FROM {g}.chunks WHERE document = ANY(%(documents)s::bigint[]) RETURNING document
), fewer AS (
    UPDATE livedex.cursors c SET chunks = c.chunks - s.count
    FROM (SELECT d.slot %% %(shards)s AS shard, count(*) FROM gone JOIN livedex.documents d USING (document) GROUP BY 1) AS s
    WHERE c.generation = %(generation)s AND c.shard = s.shard
)
SELECT count(*) AS gone FROM gone;

-- name: forget_vectors
WITH gone AS (DELETE FROM {g}.vectors WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_strays
WITH gone AS (DELETE FROM {g}.strays WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_applied
WITH gone AS (DELETE FROM {g}.applied WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_embeddings
-- Those that came from these documents only, and those of which that is not known.
WITH gone AS (
    DELETE FROM livedex.embeddings
    WHERE documents IS NULL OR documents <@ %(documents)s::bigint[] RETURNING 1
), shared AS (
    UPDATE livedex.embeddings SET documents = ARRAY(SELECT unnest(documents) EXCEPT SELECT unnest(%(documents)s::bigint[]))
    WHERE documents && %(documents)s::bigint[] AND NOT documents <@ %(documents)s::bigint[]
)
SELECT count(*) AS gone FROM gone;

-- name: forget_staged
-- Parts of transactions that nobody can finish any more, now that the leases are over; the source sends them again.
WITH gone AS (DELETE FROM livedex.staged WHERE source_id = %(source_id)s RETURNING 1) SELECT count(*) AS gone FROM gone;

-- name: forget_quarantine
WITH gone AS (DELETE FROM livedex.quarantine WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_lag_samples
WITH gone AS (DELETE FROM livedex.lag_samples WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_changes
-- And that another document had the same key once.
WITH gone AS (
    DELETE FROM livedex.changes WHERE source_id = %(source_id)s AND document = ANY(%(documents)s::bigint[]) RETURNING 1
), former AS (
    UPDATE livedex.changes SET key_hash = '' WHERE source_id = %(source_id)s
        AND key_hash = ANY(%(key_hashes)s::bytea[]) AND document <> ALL(%(documents)s::bigint[])
)
SELECT count(*) AS gone FROM gone;

-- name: forget_source_errors
-- What a person was told about a document by name.
WITH told AS (
    UPDATE livedex.partitions SET error = livedex.without_names(error, %(names)s::text[])
    WHERE error <> livedex.without_names(error, %(names)s::text[]) RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_shard_errors
WITH told AS (
    UPDATE livedex.cursors SET error = livedex.without_names(error, %(names)s::text[])
    WHERE error <> livedex.without_names(error, %(names)s::text[]) RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_deferred
WITH gone AS (DELETE FROM livedex.deferred WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_fingerprints
WITH gone AS (DELETE FROM livedex.fingerprints WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_retrieval_texts
WITH gone AS (DELETE FROM livedex.retrieval_texts WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: forget_retrievals
-- What was asked when one of these documents was among the hits: questions quote answers.
WITH told AS (
    UPDATE livedex.retrievals r SET query = NULL, filters = NULL
    WHERE (r.query IS NOT NULL OR r.filters IS NOT NULL)
        AND r.retrieval_id IN (SELECT retrieval_id FROM livedex.retrieval_hits
                               WHERE document = ANY(%(documents)s::bigint[])) RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_retrieval_hits
-- That something was found at this rank stays, so that a replay can say that it was purged.
WITH told AS (
    UPDATE livedex.retrieval_hits SET document = NULL, version = '', chunk_id = '', text_hash = NULL
    WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_escalations
-- Questions that one of these documents was ever nearest to, and what people made of them.
WITH told AS (
    UPDATE livedex.escalations SET question = NULL, resolution = NULL,
        documents = ARRAY(SELECT unnest(documents) EXCEPT SELECT unnest(%(documents)s::bigint[]))
    WHERE documents && %(documents)s::bigint[] RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_escalation_nearest
-- By name, too: tickets outlive the history that knows which document had which key.
WITH gone AS (
    DELETE FROM livedex.escalation_nearest WHERE document = ANY(%(documents)s::bigint[])
        OR source = %(source)s AND document_id = ANY(%(names)s::text[]) RETURNING 1
)
SELECT count(*) AS gone FROM gone;

-- name: forget_audit_examples
WITH gone AS (
    DELETE FROM livedex.audit_examples
    WHERE document = ANY(%(documents)s::bigint[]) OR key_hash = ANY(%(key_hashes)s::bytea[]) RETURNING 1
)
SELECT count(*) AS gone FROM gone;

-- name: forget_audit_errors
-- Reports are figures and, where something could not be compared or repaired, what was said of it.
WITH told AS (
    UPDATE livedex.audits SET error = livedex.without_names(error, %(names)s::text[]),
        report = livedex.report_without_names(report, %(names)s::text[])
    WHERE error <> livedex.without_names(error, %(names)s::text[])
        OR report <> livedex.report_without_names(report, %(names)s::text[]) RETURNING 1
)
SELECT count(*) AS gone FROM told;

-- name: forget_repairs
WITH gone AS (
    DELETE FROM livedex.repairs WHERE source_id = %(source_id)s AND key_hash = ANY(%(key_hashes)s::bytea[]) RETURNING 1
)
SELECT count(*) AS gone FROM gone;

-- name: forget_documents
WITH gone AS (DELETE FROM livedex.documents WHERE document = ANY(%(documents)s::bigint[]) RETURNING 1)
SELECT count(*) AS gone FROM gone;

-- name: add_receipt
INSERT INTO livedex.purges (action, source_id, made_by, reason, documents, removed, finished_at)
VALUES (%(action)s, %(source_id)s, %(by)s, %(reason)s, %(documents)s, %(removed)s,
    CASE WHEN %(finished)s THEN clock_timestamp() END)
RETURNING purge_id;

-- name: suppress
INSERT INTO livedex.suppressions (source_id, key_hash, purge_id)
SELECT %(source_id)s, livedex.forgotten_hash(%(source_id)s, key_hash), %(purge_id)s
FROM unnest(%(key_hashes)s::bytea[]) AS key_hash
ON CONFLICT (source_id, key_hash) DO UPDATE SET purge_id = excluded.purge_id;

-- name: lift
DELETE FROM livedex.suppressions s USING unnest(%(key_hashes)s::bytea[]) AS k(key_hash)
WHERE s.source_id = %(source_id)s AND s.key_hash = livedex.forgotten_hash(%(source_id)s, k.key_hash) RETURNING s.key_hash;

-- name: receipts
SELECT p.purge_id, p.action, s.name AS source, p.made_at, p.made_by, p.reason, p.documents, p.removed, p.finished_at,
    p.remains, (SELECT count(*) FROM livedex.suppressions f WHERE f.purge_id = p.purge_id) AS keys
FROM livedex.purges p JOIN livedex.sources s USING (source_id)
WHERE %(purge_ids)s::bigint[] IS NULL OR p.purge_id = ANY(%(purge_ids)s::bigint[]) ORDER BY p.purge_id;
