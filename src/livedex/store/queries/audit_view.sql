-- name: begin_look
-- All of a look is one snapshot: cursor, log and tables belong together in it, so whatever is wrong in it is wrong.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: no_idle_limit
SELECT set_config('idle_in_transaction_session_timeout', '0', true);

-- name: judged
-- Documents that their shard has passed, and for which nothing waits in quarantine or by debounce, budget or age.
SELECT d.document, d.document_id, d.key_hash, d.deleted, d.seq, d.version, d.content_hash
FROM livedex.documents d
JOIN livedex.cursors c ON c.generation = %(generation)s AND c.shard = d.slot %% %(shards)s
WHERE d.source_id = ANY(%(source_ids)s::integer[]) AND d.seq <= c.seq
    AND NOT EXISTS (SELECT FROM livedex.quarantine q
                    WHERE q.document = d.document AND q.generation = ANY(ARRAY[0, %(generation)s::integer]))
    AND NOT EXISTS (SELECT FROM livedex.deferred w
                    WHERE w.document = d.document AND w.generation = %(generation)s AND w.reason <> 'words')

-- name: unapplied
SELECT d.document FROM ({judged}) AS d LEFT JOIN {g}.applied a USING (document)
WHERE NOT d.deleted AND a.document IS NULL;

-- name: left_over
SELECT d.document FROM ({judged}) AS d WHERE d.deleted AND (
    EXISTS (SELECT FROM {g}.applied a WHERE a.document = d.document)
    OR EXISTS (SELECT FROM {g}.chunks c WHERE c.document = d.document));

-- name: outdated
SELECT d.document FROM ({judged}) AS d JOIN {g}.applied a USING (document)
WHERE NOT d.deleted AND (a.seq, a.version, a.content_hash) IS DISTINCT FROM (d.seq, d.version, d.content_hash);

-- name: chunks
-- Chunks are numbered from 0 without a gap, and as many as were applied.
SELECT a.document FROM {g}.applied a LEFT JOIN (
    SELECT document, count(*) AS chunks, min(chunk_index) AS first, max(chunk_index) AS last, sum(chunk_index) AS sum
    FROM {g}.chunks GROUP BY document) AS c USING (document)
WHERE coalesce(c.chunks, 0) <> a.chunks
    OR c.chunks > 0 AND (c.first, c.last, c.sum) <> (0, c.chunks - 1, c.chunks * (c.chunks - 1) / 2);

-- name: vectors
-- Chunks whose vector is missing, another document's, or none that the model could have made.
SELECT c.chunk, c.document
FROM {g}.chunks c JOIN livedex.documents d USING (document) LEFT JOIN {g}.vectors v USING (chunk)
WHERE v.chunk IS NULL AND NOT EXISTS (SELECT FROM {g}.applied a WHERE a.document = c.document AND a.lexical_only)
    OR v.document <> c.document OR l2_norm(v.embedding) = 0
    OR %(normalised)s AND abs(l2_norm(v.embedding) - 1) > %(tolerance)s;

-- name: terms
SELECT c.chunk, c.document
FROM {g}.chunks c JOIN livedex.documents d USING (document) LEFT JOIN {g}.terms t USING (chunk)
WHERE t.chunk IS NULL OR t.document <> c.document;

-- name: orphans
-- Rows of chunks and documents that are not there, by table.
SELECT 'chunks' AS relation, c.chunk AS number, c.document FROM {g}.chunks c
WHERE NOT EXISTS (SELECT FROM livedex.documents d WHERE d.document = c.document)
UNION ALL SELECT 'applied', a.document, a.document FROM {g}.applied a WHERE NOT EXISTS (
    SELECT FROM livedex.documents d WHERE d.document = a.document AND d.source_id = ANY(%(source_ids)s::integer[]))
UNION ALL SELECT 'vectors', v.chunk, v.document FROM {g}.vectors v
WHERE NOT EXISTS (SELECT FROM {g}.chunks c WHERE c.chunk = v.chunk)
UNION ALL SELECT 'terms', t.chunk, t.document FROM {g}.terms t
WHERE NOT EXISTS (SELECT FROM {g}.chunks c WHERE c.chunk = t.chunk)
UNION ALL SELECT 'strays', s.chunk, s.document FROM {g}.strays s
WHERE NOT EXISTS (SELECT FROM {g}.chunks c WHERE c.chunk = s.chunk);

-- name: texts
-- What Python has to hash again.
SELECT c.chunk, c.document, c.text, c.shown_hash, c.end_offset - c.start_offset AS length FROM {g}.chunks c;

-- name: weights
-- What the statistics are made of.
SELECT t.chunk, t.document, t.length, t.norm, length(t.tsv) AS lexemes, sparsevec_send(t.weights) AS weights
FROM {g}.terms t;

-- name: lexemes
-- In how many chunks each term stands, by the text index's side.
SELECT livedex.term_number(s.word, (SELECT term_seed FROM livedex.store)) AS term, sum(s.ndoc)::bigint AS chunks
FROM ts_stat('SELECT tsv FROM {g}.terms') AS s GROUP BY 1;

-- name: misplaced_lexemes
-- Chunks where the text index has one of these terms, and the weights have not.
SELECT DISTINCT t.chunk, t.document FROM {g}.terms t CROSS JOIN LATERAL unnest(tsvector_to_array(t.tsv)) AS w(lexeme)
JOIN unnest(%(terms)s::integer[]) AS n(term)
    ON n.term = livedex.term_number(w.lexeme, (SELECT term_seed FROM livedex.store))
WHERE t.weights <#> format('{%%s:1}/1000000000', n.term)::sparsevec = 0;

-- name: frequencies
SELECT term, sum(delta)::bigint AS chunks, max(heaviest) AS heaviest FROM {g}.frequencies GROUP BY term;

-- name: sizes
-- What the shards' figures come to, and what is there.
SELECT (SELECT count(*) FROM {g}.chunks) - sum(c.chunks)::bigint AS chunks,
    (SELECT coalesce(sum(t.length), 0) FROM {g}.terms t) - sum(c.terms_length)::bigint AS terms_length
FROM livedex.cursors c WHERE c.generation = %(generation)s;

-- name: cursors_ahead
SELECT shard FROM livedex.cursors WHERE generation = %(generation)s AND seq > (SELECT seq FROM livedex.log_head);

-- name: watermarks_ahead
SELECT w.shard, w.source_id, w.partition FROM livedex.watermarks w JOIN livedex.partitions p USING (source_id, partition)
WHERE w.generation = %(generation)s AND w.position_serial > p.position_serial;

-- name: named
-- What users call some documents.
SELECT document, document_id, key_hash FROM livedex.documents WHERE document = ANY(%(documents)s::bigint[]);

-- name: count
SELECT (SELECT count(*) FROM {g}.applied) AS documents, (SELECT count(*) FROM {g}.chunks) AS chunks;

-- name: sample
-- Some documents as they are searchable, to be cut and embedded again.
SELECT d.document, d.source_id, d.collection, d.title, d.raw
FROM ({judged}) AS j JOIN livedex.documents d USING (document) JOIN {g}.applied a USING (document)
WHERE NOT d.deleted AND a.content_hash = d.content_hash
ORDER BY hashint8(d.document + %(seed)s::bigint) LIMIT %(limit)s;

-- name: vectors_of
SELECT c.document, c.text_hash, c.chunk, v.embedding FROM {g}.chunks c JOIN {g}.vectors v USING (chunk)
WHERE c.document = ANY(%(documents)s::bigint[]);

-- name: doubt_vectors
-- No wanted chunk is taken to be one of these, so they are made anew; until then they are found by words only.
WITH gone AS (DELETE FROM {g}.vectors v WHERE v.chunk = ANY(%(chunks)s::bigint[]))
UPDATE {g}.chunks SET text_hash = '' WHERE chunk = ANY(%(chunks)s::bigint[]);

-- name: doubt_texts
UPDATE {g}.chunks SET shown_hash = '' WHERE chunk = ANY(%(chunks)s::bigint[]);

-- name: doubt_terms
UPDATE {g}.chunks SET terms_hash = '' WHERE chunk = ANY(%(chunks)s::bigint[]);

-- name: doubt_documents
-- What is applied of these is not what it says, so they are cut again.
UPDATE {g}.applied SET content_hash = '' WHERE document = ANY(%(documents)s::bigint[]);

-- name: drop_orphans
WITH orphans AS (
    SELECT * FROM unnest(%(relations)s::text[], %(numbers)s::bigint[]) AS o(relation, number)
), chunks AS (
    DELETE FROM {g}.chunks c USING orphans o WHERE o.relation = 'chunks' AND c.chunk = o.number RETURNING c.chunk
), applied AS (
    DELETE FROM {g}.applied a USING orphans o WHERE o.relation = 'applied' AND a.document = o.number
), vectors AS (
    DELETE FROM {g}.vectors v WHERE v.chunk IN (SELECT number FROM orphans WHERE relation IN ('chunks', 'vectors'))
), terms AS (
    DELETE FROM {g}.terms t WHERE t.chunk IN (SELECT number FROM orphans WHERE relation IN ('chunks', 'terms'))
)
DELETE FROM {g}.strays s WHERE s.chunk IN (SELECT number FROM orphans WHERE relation IN ('chunks', 'strays'));

-- name: reset_cursors
-- A cursor ahead of the log would miss what comes next; from the start, it reads everything and finds most of it applied.
UPDATE livedex.cursors SET seq = 0 WHERE generation = %(generation)s AND seq > (SELECT seq FROM livedex.log_head);

-- name: drop_watermarks
-- They come again with what their shard reads next.
DELETE FROM livedex.watermarks w USING livedex.partitions p WHERE p.source_id = w.source_id
    AND p.partition = w.partition AND w.generation = %(generation)s AND w.position_serial > p.position_serial;

-- name: correct_statistics
-- By how much the figures are wrong stays the same while others add to both sides, so it can be added whenever.
WITH shift AS (
    INSERT INTO {g}.frequencies (term, delta, heaviest)
    SELECT * FROM unnest(%(terms)s::integer[], %(deltas)s::integer[], %(heaviest)s::real[])
)
UPDATE livedex.cursors SET chunks = chunks + %(chunks)s, terms_length = terms_length + %(terms_length)s
WHERE generation = %(generation)s AND shard = 0;

-- name: waiting
-- Documents that their shard has still to read.
SELECT count(*) AS documents FROM livedex.documents d
JOIN livedex.cursors c ON c.generation = %(generation)s AND c.shard = d.slot %% %(shards)s
WHERE d.document = ANY(%(documents)s::bigint[]) AND d.source_id = ANY(%(source_ids)s::integer[]) AND d.seq > c.seq;
