-- name: near
-- The vector index proposes. What it is known not to find, and the newest chunks, to which its graph may not lead yet,
-- are measured beside it. The current documents dispose, in the same snapshot. OFFSET 0 keeps the planner from beginning
-- with the documents or reading whole tables, which it would do on a guess.
SELECT * FROM (
    (SELECT v.chunk, v.embedding <=> %(vector)s::halfvec({dimensions}) AS distance
     FROM {g}.vectors v
     CROSS JOIN LATERAL (SELECT FROM livedex.documents d WHERE d.document = v.document AND {visible} OFFSET 0) AS allowed
     ORDER BY v.embedding <=> %(vector)s::halfvec({dimensions}) LIMIT {limit})
    UNION
    SELECT beside.chunk, v.embedding <=> %(vector)s::halfvec({dimensions})
    FROM (SELECT chunk FROM {g}.strays
          UNION SELECT * FROM (SELECT chunk FROM {g}.vectors ORDER BY chunk DESC LIMIT {newest}) AS newest) AS beside
    CROSS JOIN LATERAL (SELECT document, embedding FROM {g}.vectors WHERE chunk = beside.chunk OFFSET 0) AS v
    CROSS JOIN LATERAL (SELECT FROM livedex.documents d WHERE d.document = v.document AND {visible} OFFSET 0) AS allowed
) AS proposed ORDER BY distance LIMIT {limit}

-- name: exact
-- Every visible vector is measured; ties by document and place.
SELECT v.chunk, v.embedding <=> %(vector)s::halfvec({dimensions}) AS distance
FROM {g}.vectors v JOIN livedex.documents d ON d.document = v.document JOIN {g}.chunks c ON c.chunk = v.chunk
WHERE {visible}
ORDER BY v.embedding::halfvec <=> %(vector)s::halfvec, d.document_id, c.chunk_index LIMIT {limit}

-- name: near_or_exact
-- Where few documents are visible they are all measured; the vector index would have to walk far to find as many.
SELECT * FROM (
    SELECT v.chunk, v.embedding <=> %(vector)s::halfvec({dimensions}) AS distance
    FROM narrow n JOIN {g}.vectors v ON v.document = n.document
    WHERE (SELECT count(*) FROM narrow) <= {narrow_documents}
    ORDER BY v.embedding::halfvec <=> %(vector)s::halfvec LIMIT {limit}) AS few
UNION ALL
SELECT * FROM ({near}) AS many WHERE (SELECT count(*) FROM narrow) > {narrow_documents}

-- name: narrow
SELECT d.document FROM livedex.documents d WHERE {visible} LIMIT {narrow_documents} + 1

-- name: visible
NOT d.deleted AND d.source_id = ANY(%(source_ids)s::integer[]) AND d.tenant = ANY(%(tenants)s::text[])
AND d.acl && %(principals)s::text[]

-- name: has_metadata
AND left(d.metadata ->> {name}, 64) = ANY(%({prefixes})s::text[]) AND d.metadata ->> {name} = ANY(%({values})s::text[])

-- name: hits
-- Text, offsets, version, position and time of what was applied; title and metadata as they are now. With them, on every
-- row and on one even without a hit, how fresh the generation is: one statement, so one snapshot and one journey.
WITH narrow AS MATERIALIZED ({narrow}), candidates AS MATERIALIZED ({candidates}), best AS MATERIALIZED (
    SELECT chunk, distance FROM candidates ORDER BY distance FETCH FIRST {top_k} ROWS WITH TIES
)
SELECT fresh.marks, hits.* FROM (SELECT jsonb_agg(to_jsonb(m))::text AS marks FROM ({marks}) AS m) AS fresh LEFT JOIN (
    SELECT d.document_id, a.version AS document_version, c.chunk, c.chunk_index, s.name AS source, d.title,
        c.heading_path AS section, c.section_type, c.start_offset AS start, c.end_offset AS end, c.text, d.metadata,
        k.distance, a.source_position, a.source_time, a.embedded_at AS created_at, d.seq > a.seq AS stale
    FROM best k
    JOIN {g}.chunks c ON c.chunk = k.chunk
    JOIN {g}.applied a ON a.document = c.document
    JOIN livedex.documents d ON d.document = c.document
    JOIN livedex.sources s ON s.source_id = d.source_id
) AS hits ON true
ORDER BY hits.distance, hits.document_id, hits.chunk_index LIMIT {top_k}

-- name: no_narrow
SELECT NULL::bigint AS document WHERE false

-- name: widen
SELECT set_config('hnsw.ef_search', %(ef_search)s, true)

-- name: plan_for_values
-- How a filter is best answered depends on how many documents it leaves.
SET LOCAL plan_cache_mode = force_custom_plan
