-- name: near
-- Fingerprints of living documents that share a band with some others, or nearly. `leaving` are about to give theirs up.
SELECT p.ordinal, f.document, f.fingerprint
FROM jsonb_to_recordset(%(probes)s) AS p(ordinal integer, band smallint, near integer[])
JOIN livedex.fingerprints f ON f.source_id = %(source_id)s AND f.band = p.band AND f.value = ANY(p.near)
JOIN livedex.documents d ON d.document = f.document AND NOT d.deleted
WHERE f.document <> ALL(%(leaving)s::bigint[])
GROUP BY p.ordinal, f.document, f.fingerprint;

-- name: leave
DELETE FROM livedex.fingerprints WHERE document = ANY(%(documents)s::bigint[]);

-- name: settle
INSERT INTO livedex.fingerprints (source_id, band, value, document, fingerprint)
SELECT %(source_id)s, band, value, document, fingerprint
FROM jsonb_to_recordset(%(rows)s) AS r(band smallint, value integer, document bigint, fingerprint bigint)
ON CONFLICT (source_id, band, value, document) DO UPDATE SET fingerprint = excluded.fingerprint;

-- name: clear
-- Nobody asks for near duplicates any more.
DELETE FROM livedex.fingerprints WHERE source_id = %(source_id)s;

-- name: judged
SELECT judged FROM livedex.partitions WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: note_judged
UPDATE livedex.partitions SET judged = %(judged)s WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: judge_again
-- Of the sources of some documents that are not as was expected.
UPDATE livedex.partitions SET judged = NULL
WHERE source_id IN (SELECT d.source_id FROM livedex.quarantine q JOIN livedex.documents d USING (document)
                    WHERE q.generation = 0 AND q.stage = 'expect' AND d.document = ANY(%(documents)s::bigint[]));

-- name: living
-- Documents as they were mapped, a page at a time. What could not be mapped cannot be judged.
SELECT d.document, d.key, d.key_hash, d.seq, d.raw_hash, q.document IS NOT NULL AS refused, d.raw, d.content_bytes,
    d.source_position, d.source_time
FROM livedex.documents d LEFT JOIN livedex.quarantine q ON q.document = d.document AND q.generation = 0
WHERE d.source_id = %(source_id)s AND NOT d.deleted AND d.document > %(after)s AND d.raw IS NOT NULL
    AND q.stage IS DISTINCT FROM 'map'
ORDER BY d.document LIMIT %(limit)s;
