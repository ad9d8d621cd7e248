-- name: prepare_session
-- What every connection of livedex is set to. A transaction that idles would hold back vacuum and other people's locks.
-- Statements are few and always the same, so planning each anew would cost more than running it. A vector search
-- finds as much as it is asked for only if it scans on where the index came up short.
SELECT set_config('timezone', 'UTC', false), set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false),
    set_config('hnsw.ef_search', '100', false), set_config('hnsw.iterative_scan', 'relaxed_order', false);

-- name: prepare_worker
-- A worker's statements all go by an index. While tables are still empty the planner would not believe that, and plans
-- are kept.
SELECT set_config('enable_seqscan', 'off', false);

-- name: commit_asynchronously
-- Commits are visible at once and on disk a moment later. Should the server crash before, all that was made from what
-- is lost is lost with it, and done again.
SELECT set_config('synchronous_commit', 'off', false);

-- name: lock_extension
-- Two processes that create the extension at once would fail on each other. Held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('livedex.extension', 0));

-- name: vector_versions
-- pgvector as installed in this database, and as the server could install it; null where there is none.
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available;

-- name: create_vector
-- pgvector in a database that has none.
CREATE EXTENSION IF NOT EXISTS vector;

-- name: update_vector
-- pgvector's newer version where an older one is installed.
ALTER EXTENSION vector UPDATE;

-- name: vector_types
-- The numbers of the types and their array types, whether SQL finds them by their plain names, and the schema they are in.
SELECT h.oid, h.typarray, s.oid, s.typarray, pg_type_is_visible(h.oid) AS visible, h.typnamespace::regnamespace::text AS schema
FROM pg_extension e
JOIN pg_type h ON h.typname = 'halfvec' AND h.typnamespace = e.extnamespace
JOIN pg_type s ON s.typname = 'sparsevec' AND s.typnamespace = e.extnamespace
WHERE e.extname = 'vector';
