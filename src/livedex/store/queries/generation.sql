-- name: create_tables
-- One generation's own tables. `chunks` rows may move; `vectors` and `terms` rows are inserted and deleted, never
-- updated, because an update of any column enters the row into every index again, HNSW included. Every vacuum cleans the
-- indexes of these two: by itself it would pass them over where few pages have dead rows, and dead entries of HNSW crowd
-- out live ones.
CREATE SCHEMA {g};

CREATE SEQUENCE {g}.chunk_blocks;

CREATE TABLE {g}.chunks (
    chunk        bigint PRIMARY KEY,
    document     bigint NOT NULL,
    chunk_index  integer NOT NULL,
    start_offset integer NOT NULL,
    end_offset   integer NOT NULL,
    heading_path text[] NOT NULL,
    section_type text NOT NULL,
    text         text NOT NULL,
    -- Keyed hashes: of the text as it is shown, of the one that was embedded, of the one that is indexed lexically.
    shown_hash   bytea NOT NULL,
    text_hash    bytea NOT NULL,
    terms_hash   bytea NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX chunks_document ON {g}.chunks (document);
CREATE INDEX chunks_text_hash ON {g}.chunks (text_hash);
ALTER TABLE {g}.chunks
    ALTER COLUMN text SET STATISTICS 0,
    ALTER COLUMN heading_path SET STATISTICS 0;

CREATE TABLE {g}.vectors (
    chunk     bigint PRIMARY KEY,
    document  bigint NOT NULL,
    embedding halfvec({dimensions}) NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, vacuum_index_cleanup = on);
ALTER TABLE {g}.vectors
    ALTER COLUMN embedding SET STORAGE PLAIN,
    ALTER COLUMN embedding SET STATISTICS 0;
CREATE INDEX vectors_document ON {g}.vectors (document);

-- What BM25 needs of a chunk. `weights` are its terms' saturated frequencies, by term number, without how rare the terms
-- are; they were computed with the average length of that time, which `norm`, the part of the length in them, is from.
CREATE TABLE {g}.terms (
    chunk    bigint PRIMARY KEY,
    document bigint NOT NULL,
    length   integer NOT NULL,
    norm     double precision NOT NULL,
    tsv      tsvector NOT NULL,
    weights  sparsevec(1000000000) NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05, vacuum_index_cleanup = on);
-- Not compressed, and in the row where it fits: every search reads thousands.
ALTER TABLE {g}.terms
    ALTER COLUMN weights SET STORAGE EXTERNAL,
    ALTER COLUMN tsv SET STATISTICS 0,
    ALTER COLUMN weights SET STATISTICS 0;
CREATE INDEX terms_document ON {g}.terms (document);

-- In how many chunks each term stands, the sum over its rows, and an upper bound of its weights, their maximum or
-- livedex.rules.lexical.LEAST_HEAVIEST if that is more. Appended to by every shard, folded by upkeep.
CREATE TABLE {g}.frequencies (
    term     integer NOT NULL,
    delta    integer NOT NULL,
    heaviest real NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX frequencies_term ON {g}.frequencies (term) INCLUDE (delta, heaviest);

-- Chunks that the vector index does not find by their own vector: far from all others, a chunk may be nobody's neighbour
-- in HNSW's graph. Every search measures them too.
CREATE TABLE {g}.strays (
    chunk    bigint PRIMARY KEY,
    document bigint NOT NULL
);

-- Which version of each document is searchable.
CREATE TABLE {g}.applied (
    document        bigint PRIMARY KEY,
    seq             bigint NOT NULL,
    version         text NOT NULL,
    content_hash    bytea NOT NULL,
    chunks          integer NOT NULL,
    source_position text,
    source_time     timestamptz,
    embedded_at     timestamptz NOT NULL,
    -- Some of its chunks have no vector, since there was no budget for one.
    lexical_only    boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX applied_lexical_only ON {g}.applied (document) WHERE lexical_only;

-- name: drop_tables
DROP SCHEMA IF EXISTS {g} CASCADE;

-- name: drop_functions
DROP FUNCTION IF EXISTS {g}.lexical, {g}.apply, {g}.exchange_terms;

-- name: drop_invalid_vector_index
-- What a build that was killed left behind.
DROP INDEX IF EXISTS {g}.vectors_embedding;

-- name: drop_invalid_text_index
DROP INDEX IF EXISTS {g}.terms_tsv;

-- name: index_is_valid
SELECT coalesce(bool_and(i.indisvalid), false) AS valid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indexrelid = c.oid
WHERE n.nspname = %(schema)s AND c.relname = %(index)s;

-- name: build_text_index
-- Without a list of pending entries, which every search would have to read.
CREATE INDEX CONCURRENTLY terms_tsv ON {g}.terms USING gin (tsv) WITH (fastupdate = off);

-- name: build_vector_index
-- Concurrently: edits go on while it builds.
CREATE INDEX CONCURRENTLY vectors_embedding ON {g}.vectors USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 64);

-- name: analyze
ANALYZE {g}.chunks, {g}.vectors, {g}.terms, {g}.frequencies, {g}.applied, livedex.documents;

-- name: mark_indexed
UPDATE livedex.generations SET indexed_at = clock_timestamp() WHERE generation = %(generation)s;

-- name: count_chunks
SELECT count(*) FROM {g}.chunks;

-- name: lock_index_build
-- Session lock: one builder a generation; it goes with the connection.
SELECT pg_try_advisory_lock(hashtext('livedex.index'), %(generation)s) AS locked;

-- name: unlock_index_build
SELECT pg_advisory_unlock(hashtext('livedex.index'), %(generation)s);

-- name: loaded
-- Whether every shard has reached the end of the log once.
SELECT g.indexed_at IS NOT NULL AS indexed, count(DISTINCT w.shard) = g.shards AS loaded
FROM livedex.generations g LEFT JOIN livedex.watermarks w ON w.generation = g.generation AND w.position IS NOT NULL
WHERE g.generation = %(generation)s GROUP BY g.generation;

-- name: probe
-- Look up some chunks by their own vectors, in the order of their numbers; the last number, and how many were lost.
WITH next AS MATERIALIZED (
    SELECT v.chunk, v.document, v.embedding FROM {g}.vectors v
    WHERE v.chunk > (SELECT probed_chunk FROM livedex.generations WHERE generation = %(generation)s)
    ORDER BY v.chunk LIMIT %(limit)s
), lost AS (
    INSERT INTO {g}.strays (chunk, document)
    SELECT n.chunk, n.document FROM next n WHERE (
        SELECT o.embedding <=> n.embedding FROM {g}.vectors o ORDER BY o.embedding <=> n.embedding LIMIT 1) > 1e-5
    ON CONFLICT (chunk) DO NOTHING RETURNING chunk
)
UPDATE livedex.generations SET probed_chunk = coalesce((SELECT max(chunk) FROM next), probed_chunk)
WHERE generation = %(generation)s
RETURNING (SELECT count(*) FROM next) AS probed, (SELECT count(*) FROM lost) AS lost;
