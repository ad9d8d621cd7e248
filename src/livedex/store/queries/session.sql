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

-- name: halfvec_type
-- The numbers of the type and its array type, whether SQL finds it by its plain name, and the schema it stands in.
SELECT t.oid, t.typarray, pg_type_is_visible(t.oid) AS visible, t.typnamespace::regnamespace::text AS schema
FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_type'::regclass
JOIN pg_type t ON t.oid = d.objid
WHERE e.extname = 'vector' AND t.typname = 'halfvec';
