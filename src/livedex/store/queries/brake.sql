-- name: approval
-- What somebody let pass and is not over.
SELECT hold_id, kinds FROM livedex.holds
WHERE source_id = %(source_id)s AND partition = %(partition)s AND ended_at IS NULL AND approved_at IS NOT NULL;

-- name: end
UPDATE livedex.holds SET ended_at = clock_timestamp() WHERE hold_id = %(hold_id)s;

-- name: recent_deletes
-- How many seconds ago how many documents went, other than by age, and have not come back: a table that is written anew
-- in one transaction leaves deletes in the history, and lost nothing. What an audit deletes has no position in the source;
-- it has asked before.
SELECT floor(extract(epoch FROM clock_timestamp() - c.captured_at))::double precision AS age, count(*) AS deletes
FROM livedex.changes c
WHERE c.source_id = %(source_id)s AND c.op IN ('d', 't') AND NOT c.expired AND c.before = 0 AND c.source_position IS NOT NULL
    AND c.captured_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    AND NOT EXISTS (SELECT FROM livedex.documents d WHERE d.document = c.document AND NOT d.deleted)
GROUP BY 1;

-- name: count_documents
SELECT count(*) AS documents FROM livedex.documents WHERE source_id = %(source_id)s AND NOT deleted;

-- name: end_others
UPDATE livedex.holds SET ended_at = clock_timestamp()
WHERE source_id = %(source_id)s AND partition = %(partition)s AND ended_at IS NULL;

-- name: ask
INSERT INTO livedex.holds (source_id, partition, kinds, deletes, shrinks, documents, examples)
VALUES (%(source_id)s, %(partition)s, %(kinds)s, %(deletes)s, %(shrinks)s, %(documents)s, %(examples)s);

-- name: hold
-- Nobody follows the source until somebody has answered.
UPDATE livedex.partitions SET state = 'held', error = %(error)s
WHERE source_id = %(source_id)s AND partition = %(partition)s;

-- name: questions
-- What sources are held for, and the last answers.
SELECT s.name AS source, h.partition, q.is_open, CASE WHEN q.is_open THEN p.error END AS reason, h.held_at, h.kinds, h.deletes, h.shrinks, h.documents, h.approved_at, h.approved_by, h.ended_at,
    ARRAY(SELECT d.document_id FROM livedex.documents d WHERE d.document = ANY(h.examples) ORDER BY d.document)
        AS examples
FROM livedex.holds h JOIN livedex.sources s USING (source_id) JOIN livedex.partitions p USING (source_id, partition)
CROSS JOIN LATERAL (SELECT p.state = 'held' AND h.approved_at IS NULL AND h.ended_at IS NULL AS is_open) AS q
WHERE s.source_id = %(source_id)s ORDER BY h.hold_id DESC LIMIT 20;

-- name: approve
WITH approved AS (
    UPDATE livedex.holds SET approved_at = clock_timestamp(), approved_by = %(by)s
    WHERE source_id = %(source_id)s AND ended_at IS NULL AND approved_at IS NULL
)
UPDATE livedex.partitions SET state = CASE WHEN position IS NULL THEN 'new' ELSE 'streaming' END, error = NULL
WHERE source_id = %(source_id)s AND state = 'held';

-- name: retry
WITH over AS (
    UPDATE livedex.holds SET ended_at = clock_timestamp()
    WHERE source_id = %(source_id)s AND ended_at IS NULL AND approved_at IS NULL
)
UPDATE livedex.partitions SET state = CASE WHEN position IS NULL THEN 'new' ELSE 'streaming' END, error = NULL
WHERE source_id = %(source_id)s AND state = 'held';
