-- name: create_view
CREATE OR REPLACE VIEW {schema}.{view} AS
SELECT d.document_id, a.version AS document_version, {chunk_prefix} || c.chunk AS chunk_id, c.chunk_index, d.title,
    c.heading_path AS section, c.section_type, c.start_offset AS start, c.end_offset AS "end", c.text AS chunk_text,
    s.name AS source, nullif(d.tenant, '') AS tenant, d.acl, d.updated_at, a.source_position, a.source_time,
    a.embedded_at AS created_at, {model} AS embedding_model, {schema_version} AS schema_version,
    d.seq > a.seq AS stale, v.embedding::halfvec AS embedding{metadata}
FROM {g}.vectors v
JOIN livedex.documents d ON d.document = v.document AND NOT d.deleted{current}
JOIN {g}.chunks c ON c.chunk = v.chunk
JOIN {g}.applied a ON a.document = v.document AND a.seq >= d.revived_seq
JOIN livedex.sources s ON s.source_id = d.source_id

-- name: current
-- Not too old, by the ages that are bounded.
 AND coalesce(d.updated_at, d.source_time, 'infinity') > coalesce(now() - CASE d.source_id {ages} END, '-infinity')

-- name: age
WHEN {source_id} THEN {age}::interval

-- name: metadata_column
, d.metadata ->> {key} AS {column}

-- name: create_search
CREATE OR REPLACE FUNCTION {schema}.{function}(query halfvec, model text, k integer DEFAULT 10)
RETURNS SETOF {schema}.{view} LANGUAGE plpgsql STABLE
SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = 100 AS $$
BEGIN
    IF model IS DISTINCT FROM {model} THEN
        RAISE EXCEPTION 'the query vector was made by %, but this view was embedded with %', model, {model}
            USING HINT = 'Make the vector with the same model: livedex embed VIEW TEXT';
    END IF;
    -- More than are wanted, so that of equally near ones at the end always the same are left out.
    RETURN QUERY SELECT n.*
        FROM (SELECT * FROM {schema}.{view} ORDER BY embedding <=> query LIMIT greatest(k, 100)) AS n
        ORDER BY n.embedding <=> query, n.document_id, n.chunk_index LIMIT k;
END $$

-- name: comment_view
COMMENT ON VIEW {schema}.{view} IS {comment}

-- name: comment_search
COMMENT ON FUNCTION {schema}.{function}(halfvec, text, integer) IS {comment}

-- name: comment_column
COMMENT ON COLUMN {schema}.{view}.{column} IS {comment}

-- name: drop_view
DROP VIEW IF EXISTS {schema}.{view} CASCADE

-- name: definition
SELECT sql_definition FROM livedex.views WHERE name = %(view)s

-- name: remember_definition
UPDATE livedex.views SET sql_definition = %(definition)s WHERE name = %(view)s

-- name: lock_timeout
SET LOCAL lock_timeout = '50ms'

-- name: default_settings
-- Plain SQL on a view finds as much as it asks for only with these.
DO $$
BEGIN
    PERFORM '[1]'::halfvec;
    EXECUTE format('ALTER DATABASE %I SET hnsw.iterative_scan = %L', current_database(), 'relaxed_order');
    EXECUTE format('ALTER DATABASE %I SET hnsw.ef_search = 100', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET hnsw.iterative_scan = %L', current_user, current_database(), 'relaxed_order');
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET hnsw.ef_search = 100', current_user, current_database());
END $$

-- name: columns
-- The columns of the SQL view as it stands, in their order.
SELECT column_name::text FROM information_schema.columns
WHERE table_schema = %(schema)s AND table_name = %(view)s ORDER BY ordinal_position
