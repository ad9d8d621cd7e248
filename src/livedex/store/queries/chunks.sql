-- name: read_after
-- A shard's next documents: whole source transactions as far as they fit, at most a number of rows and bytes.
WITH next AS MATERIALIZED (
    SELECT d.document, d.seq, sum(d.content_bytes::bigint) OVER (ORDER BY d.seq) - d.content_bytes AS bytes_before
    FROM livedex.documents d
    WHERE d.seq > %(after)s AND d.source_id = ANY(%(source_ids)s::integer[]) AND d.slot %% %(shards)s = %(shard)s
    ORDER BY d.seq LIMIT %(limit)s
)
SELECT d.document, d.source_id, d.collection, d.document_id, d.seq, d.commit_seq, d.version, d.title, d.deleted,
    d.content_hash, d.content_bytes, d.source_position, d.source_time, d.captured_at, d.raw,
    EXISTS (SELECT FROM livedex.quarantine q WHERE q.document = d.document AND q.generation = %(generation)s),
    coalesce(d.updated_at, d.source_time) AS dated
FROM next JOIN livedex.documents d USING (document) WHERE next.bytes_before < %(bytes)s ORDER BY d.seq;

-- name: log_end
-- Read in the same snapshot as `read_after`: what the cursor may take when that reached the end of the log, and how
-- large the generation is.
SELECT h.seq, s.chunks, s.terms_length, p.source_id, p.partition, p.position, p.position_time, p.position_serial, p.epoch
FROM livedex.log_head h
CROSS JOIN (SELECT sum(chunks)::bigint AS chunks, sum(terms_length)::bigint AS terms_length FROM livedex.cursors
            WHERE generation = %(generation)s) AS s
LEFT JOIN livedex.partitions p ON p.source_id = ANY(%(source_ids)s::integer[]);

-- name: applied_after
-- What is searchable of the documents of `read_after`; its own statement, but one journey.
SELECT a.document, a.version, a.content_hash, a.chunks, a.lexical_only
FROM (SELECT document FROM livedex.documents
      WHERE seq > %(after)s AND source_id = ANY(%(source_ids)s::integer[]) AND slot %% %(shards)s = %(shard)s
      ORDER BY seq LIMIT %(limit)s) AS next JOIN {g}.applied a USING (document);

-- name: recorded_after
SELECT c.document, c.chunk, c.text_hash, c.shown_hash, c.terms_hash, c.chunk_index, c.start_offset, c.end_offset, c.heading_path, c.section_type
FROM (SELECT document FROM livedex.documents
      WHERE seq > %(after)s AND source_id = ANY(%(source_ids)s::integer[]) AND slot %% %(shards)s = %(shard)s
      ORDER BY seq LIMIT %(limit)s) AS next JOIN {g}.chunks c USING (document);

-- name: claim_texts
-- Which of these texts nobody else is embedding. Session locks: they go with the connection.
SELECT text_hash FROM unnest(%(text_hashes)s::bytea[]) AS text_hash
WHERE pg_try_advisory_lock(%(model_id)s, hashtext(encode(text_hash, 'hex')));

-- name: release_texts
SELECT pg_advisory_unlock_all();

-- name: known_in_generation
SELECT c.text_hash, v.embedding::halfvec AS embedding FROM {g}.chunks c JOIN {g}.vectors v USING (chunk)
WHERE c.text_hash = ANY(%(text_hashes)s::bytea[])

-- name: known_resting
SELECT text_hash, embedding FROM livedex.embeddings
WHERE model_id = %(model_id)s AND text_hash = ANY(%(text_hashes)s::bytea[])

-- name: sharing_model
SELECT generation FROM livedex.generations WHERE model_id = %(model_id)s AND state NOT IN ('retired', 'failed');

-- name: rest
-- Vectors that a long batch has made so far: a crash does not cost them.
INSERT INTO livedex.embeddings (model_id, text_hash, embedding, rested_at)
SELECT %(model_id)s, text_hash, embedding, clock_timestamp()
FROM unnest(%(text_hashes)s::bytea[], %(embeddings)b::halfvec[]) AS made(text_hash, embedding)
ON CONFLICT (model_id, text_hash) DO NOTHING;

-- name: reserve_chunks
-- Blocks of consecutive chunk numbers.
SELECT nextval('{g}.chunk_blocks') AS block FROM generate_series(1, %(blocks)s);

-- name: copy_terms
COPY {g}.terms (chunk, document, length, norm, tsv, weights) FROM STDIN (FORMAT BINARY);

-- name: note_strays
-- New chunks that the vector index, once it stands, does not find by their own vectors. Most are nearest to themselves.
INSERT INTO {g}.strays (chunk, document)
SELECT v.chunk, v.document FROM {g}.vectors v
WHERE v.chunk = ANY(%(chunks)s::bigint[])
  AND (SELECT indexed_at IS NOT NULL FROM livedex.generations WHERE generation = %(generation)s)
  AND (SELECT o.embedding <=> v.embedding FROM {g}.vectors o ORDER BY o.embedding <=> v.embedding LIMIT 1) > 1e-5;

-- name: copy_chunks
COPY {g}.chunks (chunk, document, chunk_index, start_offset, end_offset, heading_path, section_type, text, shown_hash,
    text_hash, terms_hash)
FROM STDIN (FORMAT BINARY);

-- name: copy_vectors
COPY {g}.vectors (chunk, document, embedding) FROM STDIN (FORMAT BINARY);

-- name: hold
SELECT livedex.hold(%(resource)s, %(epoch)s, %(seconds)s);

-- name: cursor
SELECT seq FROM livedex.cursors WHERE generation = %(generation)s AND shard = %(shard)s;

-- name: note_cursor_error
UPDATE livedex.cursors SET error = %(error)s WHERE generation = %(generation)s AND shard = %(shard)s;

-- name: apply
SELECT {g}.apply(%(generation)s, %(shard)s, %(model_id)s, %(progress)s::jsonb, %(new_chunks)s::jsonb,
    %(embeddings)b::halfvec[], %(indexed)s::jsonb, %(tsvs)b::tsvector[], %(weights)b::sparsevec[],
    %(unindexed)s::bigint[], %(numbers)s::integer[], %(deltas)s::integer[], %(heaviest)s::real[],
    %(dropped)s::bigint[], %(moved)s::jsonb, %(alive)s::jsonb, %(gone)s::bigint[], %(mended)s::bigint[],
    %(refused)s::jsonb, %(timed)s::jsonb, %(positions)s::jsonb, %(unrested)s::bytea[]);

-- name: exchange_terms
SELECT {g}.exchange_terms(%(generation)s, %(shard)s, %(unindexed)s::bigint[], %(numbers)s::integer[],
    %(deltas)s::integer[], %(heaviest)s::real[]);

-- name: create_exchange_terms
-- Take the terms of some chunks away, and bring the statistics to what they will be with the new ones. Of a term that
-- stands in as many chunks as before, a note is taken only if it weighs more than every term is taken to.
CREATE FUNCTION {g}.exchange_terms(of_generation integer, of_shard integer, unindexed bigint[], numbers integer[],
    deltas integer[], heaviest real[])
RETURNS void LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM {g}.terms t WHERE t.chunk = ANY(unindexed) RETURNING t.tsv, t.length
    ), shift AS (
        INSERT INTO {g}.frequencies (term, delta, heaviest)
        SELECT c.term, sum(c.delta), max(c.heaviest) FROM (
            SELECT livedex.term_number(lexeme, (SELECT term_seed FROM livedex.store)), -1, 0::real
            FROM gone CROSS JOIN LATERAL unnest(tsvector_to_array(gone.tsv)) AS lexeme
            UNION ALL SELECT * FROM unnest(numbers, deltas, heaviest)
        ) AS c (term, delta, heaviest)
        GROUP BY c.term HAVING sum(c.delta) <> 0 OR max(c.heaviest) > {least_heaviest} / 100.0
    )
    UPDATE livedex.cursors c SET terms_length = c.terms_length - (SELECT sum(g.length) FROM gone g)
    WHERE c.generation = of_generation AND c.shard = of_shard AND EXISTS (SELECT FROM gone);
$$;

-- name: create_apply
-- What a batch comes to, in one call, since each statement of its own would cost about as much again as it takes to run.
-- What is NULL is not there. Chunks, vectors and terms of a large batch were copied before, in the same transaction.
CREATE FUNCTION {g}.apply(of_generation integer, of_shard integer, model integer, progress jsonb, new_chunks jsonb,
    embeddings halfvec[], indexed jsonb, tsvs tsvector[], weights sparsevec[], unindexed bigint[], numbers integer[],
    deltas integer[], heaviest real[], dropped bigint[], moved jsonb, alive jsonb, gone bigint[], mended bigint[],
    refused jsonb, timed jsonb, positions jsonb, unrested bytea[])
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF new_chunks IS NOT NULL THEN
        WITH incoming AS MATERIALIZED (
            SELECT r.*, e.embedding FROM jsonb_to_recordset(new_chunks) AS r(ordinal bigint, chunk bigint,
                document bigint, index integer, start integer, "end" integer, heading_path text[], section_type text,
                text text, shown_hash bytea, text_hash bytea, terms_hash bytea)
            LEFT JOIN unnest(embeddings) WITH ORDINALITY AS e(embedding, ordinal) USING (ordinal)
        ), chunks AS (
            INSERT INTO {g}.chunks (chunk, document, chunk_index, start_offset, end_offset, heading_path, section_type,
                text, shown_hash, text_hash, terms_hash)
            SELECT chunk, document, index, start, "end", heading_path, section_type, text, shown_hash, text_hash,
                terms_hash
            FROM incoming
        )
        INSERT INTO {g}.vectors (chunk, document, embedding)
        SELECT chunk, document, embedding FROM incoming WHERE embedding IS NOT NULL;
    END IF;
    IF unindexed IS NOT NULL OR numbers IS NOT NULL THEN
        PERFORM {g}.exchange_terms(of_generation, of_shard, unindexed, numbers, deltas, heaviest);
    END IF;
    IF indexed IS NOT NULL THEN
        INSERT INTO {g}.terms (chunk, document, length, norm, tsv, weights)
        SELECT r.chunk, r.document, r.length, r.norm, p.tsv, p.weights
        FROM jsonb_to_recordset(indexed) AS r(ordinal bigint, chunk bigint, document bigint, length integer,
            norm double precision)
        JOIN unnest(tsvs, weights) WITH ORDINALITY AS p(tsv, weights, ordinal) USING (ordinal);
    END IF;
    IF dropped IS NOT NULL THEN
        -- Their vectors go to rest, in case the text comes back.
        WITH gone AS (
            DELETE FROM {g}.chunks c WHERE c.chunk = ANY(dropped) RETURNING c.chunk, c.document, c.text_hash
        ), vectors AS (
            DELETE FROM {g}.vectors v WHERE v.chunk = ANY(dropped) RETURNING v.chunk, v.embedding
        ), strays AS (
            DELETE FROM {g}.strays s WHERE s.chunk = ANY(dropped)
        )
        INSERT INTO livedex.embeddings AS e (model_id, text_hash, embedding, rested_at, documents)
        SELECT model, gone.text_hash, (array_agg(vectors.embedding))[1], clock_timestamp(),
            array_agg(DISTINCT gone.document)
        FROM gone JOIN vectors USING (chunk) GROUP BY gone.text_hash
        ON CONFLICT (model_id, text_hash) DO UPDATE SET rested_at = excluded.rested_at,
            documents = livedex.joined_documents(e.documents, excluded.documents);
    END IF;
    IF moved IS NOT NULL THEN
        -- Their vectors stay. The text comes along only where it changed in a way that the embedding does not see.
        UPDATE {g}.chunks c SET chunk_index = m.index, start_offset = m.start, end_offset = m.end,
            heading_path = m.heading_path, section_type = m.section_type, text = coalesce(m.text, c.text),
            shown_hash = m.shown_hash, terms_hash = m.terms_hash
        FROM jsonb_to_recordset(moved) AS m(chunk bigint, index integer, start integer, "end" integer,
            heading_path text[], section_type text, text text, shown_hash bytea, terms_hash bytea)
        WHERE c.chunk = m.chunk;
    END IF;
    IF alive IS NOT NULL THEN
        INSERT INTO {g}.applied AS a (document, seq, version, content_hash, chunks, source_position, source_time,
            embedded_at, lexical_only)
        SELECT d.document, d.seq, d.version, d.content_hash, d.chunks, d.source_position, d.source_time,
            clock_timestamp(), d.lexical_only
        FROM jsonb_to_recordset(alive) AS d(document bigint, seq bigint, version text, content_hash bytea,
            chunks integer, source_position text, source_time timestamptz, lexical_only boolean)
        ON CONFLICT (document) DO UPDATE SET seq = excluded.seq, version = excluded.version,
            content_hash = excluded.content_hash, chunks = excluded.chunks,
            source_position = excluded.source_position, source_time = excluded.source_time,
            embedded_at = CASE WHEN a.content_hash = excluded.content_hash AND a.lexical_only = excluded.lexical_only
                               THEN a.embedded_at ELSE excluded.embedded_at END,
            lexical_only = excluded.lexical_only;
    END IF;
    IF gone IS NOT NULL THEN
        DELETE FROM {g}.applied a WHERE a.document = ANY(gone);
    END IF;
    IF mended IS NOT NULL THEN
        DELETE FROM livedex.quarantine q WHERE q.generation = of_generation AND q.document = ANY(mended);
    END IF;
    IF refused IS NOT NULL THEN
        INSERT INTO livedex.quarantine AS q (document, generation, stage, reason, version)
        SELECT r.document, of_generation, r.stage, r.reason, r.version
        FROM jsonb_to_recordset(refused) AS r(document bigint, stage text, reason text, version text)
        ON CONFLICT (document, generation) DO UPDATE SET stage = excluded.stage, reason = excluded.reason,
            version = excluded.version, attempts = q.attempts + 1, last_at = clock_timestamp();
    END IF;
    IF timed IS NOT NULL THEN
        INSERT INTO livedex.lag_samples (generation, source_id, document, deleted, committed_at, captured_at,
            searchable_at, seq, embedded_at, chunks_written)
        SELECT of_generation, d.source_id, d.document, d.deleted, d.source_time, d.captured_at, clock_timestamp(),
            d.seq, a.embedded_at, d.chunks_written
        FROM jsonb_to_recordset(timed) AS d(source_id integer, document bigint, deleted boolean,
            source_time timestamptz, captured_at timestamptz, seq bigint, chunks_written integer)
        LEFT JOIN {g}.applied a ON a.document = d.document AND a.seq = d.seq;
    END IF;
    IF alive @? '$[*] ? (@.source_time == null)' THEN
        -- What no commit is known of: rows of a load. They count in no lag.
        INSERT INTO livedex.lag_samples (generation, document, deleted, searchable_at, seq, embedded_at)
        SELECT of_generation, d.document, false, clock_timestamp(), d.seq, a.embedded_at
        FROM jsonb_to_recordset(alive) AS d(document bigint, seq bigint, source_time timestamptz)
        JOIN {g}.applied a ON a.document = d.document WHERE d.source_time IS NULL;
    END IF;
    IF positions IS NOT NULL THEN
        INSERT INTO livedex.watermarks AS w (generation, shard, source_id, partition, position, position_time,
            position_serial)
        SELECT of_generation, of_shard, p.source_id, p.partition, p.position, p.position_time, p.position_serial
        FROM jsonb_to_recordset(positions) AS p(source_id integer, partition text, position text,
            position_time timestamptz, position_serial bigint)
        WHERE p.position IS NOT NULL
        ON CONFLICT (generation, shard, source_id, partition) DO UPDATE SET position = excluded.position,
            position_time = excluded.position_time, position_serial = excluded.position_serial
        WHERE w.position_serial < excluded.position_serial;
    END IF;
    IF unrested IS NOT NULL THEN
        DELETE FROM livedex.embeddings e WHERE e.model_id = model AND e.text_hash = ANY(unrested);
    END IF;
    INSERT INTO livedex.spending AS s (generation, shard, hour, texts, tokens)
    SELECT of_generation, of_shard, date_trunc('hour', clock_timestamp(), 'UTC'), p.embedded, p.tokens
    FROM jsonb_to_record(progress) AS p(embedded bigint, tokens bigint) WHERE p.tokens > 0
    ON CONFLICT (generation, shard, hour) DO UPDATE SET texts = s.texts + excluded.texts,
        tokens = s.tokens + excluded.tokens;
    PERFORM livedex.move_cursor(of_generation, of_shard, p.after, p.seq, p.added, p.updated, p.deleted, p.embedded,
        p.inserted, p.dropped, p.longer, p.average)
    FROM jsonb_to_record(progress) AS p(after bigint, seq bigint, added bigint, updated bigint, deleted bigint,
        embedded bigint, inserted bigint, dropped bigint, longer bigint, average double precision);
END $$;
