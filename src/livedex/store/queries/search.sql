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

-- name: not_expired
-- By age as of now: what has grown too old is gone from every retrieval, also while nothing runs that takes it away.
AND coalesce(d.updated_at, d.source_time, 'infinity') > coalesce(
    now() - (%(max_ages)s::interval[])[array_position(%(source_ids)s::integer[], d.source_id)], '-infinity')

-- name: has_metadata
-- The value is one of these, or a list that holds one of them.
AND (left(d.metadata ->> {name}, 64) = ANY(%({prefixes})s::text[]) AND d.metadata ->> {name} = ANY(%({values})s::text[])
     OR jsonb_typeof(d.metadata -> {name}) = 'array' AND d.metadata -> {name} ?| %({values})s::text[])

-- name: found
-- What BM25 proposes, and its scores for what the vectors propose. Where few documents are visible, only these count.
SELECT * FROM {g}.lexical(%(generation)s, %(k1)s, %(b)s, %(lexemes)s::text[], %(numbers)s::integer[],
    %(occurrences)s::integer[], (SELECT array_agg(chunk) FROM near),
    {within},
    %(source_ids)s::integer[], %(tenants)s::text[], %(principals)s::text[], %(accepted)s::jsonb, %(narrows)s::boolean,
    {limit}, {top_k}, {bound}, %(everything)s::boolean, %(max_ages)s::interval[])

-- name: within
-- Where none is visible that is said too: the text index would be read to its end for nothing.
(SELECT coalesce(array_agg(document), '{}') FROM narrow HAVING count(*) <= {narrow_documents})

-- name: no_within
NULL::bigint[]

-- name: few
-- Whether so few documents are visible that all were measured.
(SELECT count(*) FROM narrow) <= {narrow_documents}

-- name: no_few
false

-- name: no_found
SELECT NULL::bigint AS chunk, NULL::double precision AS score, false AS proposed WHERE false

-- name: no_near
SELECT NULL::bigint AS chunk, NULL::double precision AS distance WHERE false

-- name: distance
v.embedding <=> %(vector)s::halfvec({dimensions})

-- name: no_distance
NULL::double precision

-- name: by_distance
1 - c.distance

-- name: by_words
c.words

-- name: by_ranks
-- Reciprocal rank fusion; https://dl.acm.org/doi/10.1145/1571941.1572114. A chunk without a vector has no rank there.
CASE WHEN c.distance IS NULL THEN 0 ELSE 1.0::float8 / ({rrf_k} + rank() OVER (ORDER BY c.distance)) END
+ 1.0::float8 / ({rrf_k} + rank() OVER (ORDER BY c.words DESC))

-- name: by_deviations
-- How many standard deviations each score is from the mean of the candidates, summed. A chunk without a vector counts as
-- one at the mean.
coalesce((avg(c.distance) OVER () - c.distance) / nullif(stddev_pop(c.distance) OVER (), 0), 0)
+ coalesce((c.words - avg(c.words) OVER ()) / nullif(stddev_pop(c.words) OVER (), 0), 0)

-- name: hits
-- Both legs propose; each candidate then has both scores. Text, offsets, version, position and time of what was applied;
-- title and metadata as they are now. With them, on every row and on one even without a hit, how fresh the generation is:
-- one statement, so one snapshot and one journey.
WITH narrow AS MATERIALIZED ({narrow}), near AS MATERIALIZED ({near_candidates}), found AS MATERIALIZED ({found}),
candidates AS MATERIALIZED (
    SELECT chunk, n.distance, coalesce(f.score, 0) AS words FROM near n LEFT JOIN found f USING (chunk)
    UNION ALL
    SELECT f.chunk, {distance}, f.score
    FROM found f LEFT JOIN LATERAL (SELECT embedding FROM {g}.vectors WHERE chunk = f.chunk OFFSET 0) AS v ON true
    WHERE f.proposed AND NOT EXISTS (SELECT FROM near n WHERE n.chunk = f.chunk)
), best AS MATERIALIZED (
    SELECT c.chunk, c.distance, c.words, {score} AS score FROM candidates c
    ORDER BY score DESC FETCH FIRST {top_k} ROWS WITH TIES
)
SELECT fresh.marks, fresh.near, fresh.few, fresh.lexical_only, hits.* FROM (
    SELECT jsonb_agg(to_jsonb(m))::text AS marks, (SELECT count(*) FROM near) AS near, {few} AS few,
        (SELECT count(*) FROM (SELECT FROM {g}.applied WHERE lexical_only LIMIT 1000) AS found_by_words) AS lexical_only
    FROM ({marks}) AS m
) AS fresh LEFT JOIN (
    SELECT d.document_id, a.version AS document_version, c.chunk, c.chunk_index, s.name AS source, d.title,
        c.heading_path AS section, c.section_type, c.start_offset AS start, c.end_offset AS end, c.text, d.metadata,
        k.distance, k.words, k.score, a.source_position, a.source_time, a.embedded_at AS created_at, d.seq > a.seq AS stale,
        d.updated_at, {stale_since} AS stale_since, {complete} AS complete
    FROM best k
    JOIN {g}.chunks c ON c.chunk = k.chunk
    JOIN {g}.applied a ON a.document = c.document
    JOIN livedex.documents d ON d.document = c.document AND a.seq >= d.revived_seq
    JOIN livedex.sources s ON s.source_id = d.source_id
) AS hits ON true
ORDER BY hits.score DESC, hits.document_id, hits.chunk_index LIMIT {top_k}

-- name: stale_since
-- While a shard is behind, its watermark says for how long at most. A document in quarantine holds no watermark back: it
-- has been out of date since it was refused first.
CASE WHEN d.seq > a.seq THEN least(coalesce(d.source_time, d.captured_at), (
    SELECT min(q.first_at) FROM livedex.quarantine q
    WHERE q.document = d.document AND q.generation = ANY(ARRAY[0, %(generation)s::integer]))) END

-- name: complete
(SELECT count(*) FROM {g}.chunks o WHERE o.document = c.document) = a.chunks

-- name: not_counted
NULL::boolean

-- name: no_narrow
SELECT NULL::bigint AS document WHERE false

-- name: widen
SELECT set_config('hnsw.ef_search', %(ef_search)s, true)

-- name: plan_for_values
-- How a filter is best answered depends on how many documents it leaves.
SET LOCAL plan_cache_mode = force_custom_plan
