-- name: remember
INSERT INTO livedex.contracts (contract, view_id, clauses)
SELECT %(contract)s, view_id, %(clauses)s FROM livedex.views WHERE name = %(view)s
ON CONFLICT (contract) DO NOTHING

-- name: facts
-- What a contract asks about every document that can be found and its chunks, a row a document, in no order.
SELECT d.document_id, s.name AS source, a.version, coalesce(d.updated_at, a.source_time) AS changed_at,
    {stale_since} AS stale_since, d.metadata, a.chunks, c.chunks AS numbers, c.section_types, c.characters
FROM {g}.applied a
JOIN livedex.documents d ON d.document = a.document AND NOT d.deleted
JOIN livedex.sources s ON s.source_id = d.source_id
CROSS JOIN LATERAL (
    SELECT array_agg(c.chunk ORDER BY c.chunk_index) AS chunks,
        array_agg(c.section_type ORDER BY c.chunk_index) AS section_types,
        array_agg(char_length(c.text) ORDER BY c.chunk_index) AS characters
    FROM {g}.chunks c WHERE c.document = a.document
) AS c
WHERE c.chunks IS NOT NULL {not_expired}

-- name: now
SELECT clock_timestamp() AS now
