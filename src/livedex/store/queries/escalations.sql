-- name: open
-- One ticket a question until it is resolved; asked again, it says how often and what was nearest then.
INSERT INTO livedex.escalations AS e (view_id, question, question_hash, tenant, contract, violations, retrieval_id)
SELECT view_id, %(question)s, %(question_hash)s, %(tenant)s, %(contract)s, %(violations)s, %(retrieval_id)s
FROM livedex.views WHERE name = %(view)s
ON CONFLICT (question_hash) WHERE state <> 'resolved' DO UPDATE SET times = e.times + 1, last_at = clock_timestamp(),
    contract = excluded.contract, violations = excluded.violations, retrieval_id = excluded.retrieval_id
RETURNING escalation

-- name: forget_nearest
DELETE FROM livedex.escalation_nearest WHERE escalation = %(escalation)s

-- name: note_nearest
-- Only chunks that are still there. Where nobody knows a document any more the question goes too: it may have been purged
-- since the search, and questions quote answers. Every document that was ever nearest is kept in mind for later purges.
WITH told AS MATERIALIZED (
    SELECT n.*, c.document, coalesce(c.document, (
        SELECT max(d.document) FROM livedex.documents d JOIN livedex.sources s USING (source_id)
        WHERE c.chunk IS NULL AND s.name = n.source AND d.document_id = n.document_id)) AS known
    FROM jsonb_to_recordset(%(nearest)s) AS n(rank integer, chunk bigint, source text, document_id text,
        document_version text, chunk_id text, score double precision, scores jsonb, violations jsonb)
    LEFT JOIN {g}.chunks c ON c.chunk = n.chunk
), noted AS (
    INSERT INTO livedex.escalation_nearest (escalation, rank, document, source, document_id, document_version, chunk_id,
        score, scores, violations)
    SELECT %(escalation)s, rank, document, source, document_id, document_version, chunk_id, score, scores, violations
    FROM told WHERE document IS NOT NULL
)
UPDATE livedex.escalations SET
    question = CASE WHEN NOT EXISTS (SELECT FROM told WHERE known IS NULL) THEN question END,
    documents = ARRAY(SELECT unnest(documents) UNION SELECT known FROM told WHERE known IS NOT NULL ORDER BY 1)
WHERE escalation = %(escalation)s

-- name: tickets
SELECT e.escalation, v.name AS view, e.state, e.question, e.tenant, e.contract, e.violations, e.retrieval_id, e.times,
    e.opened_at, e.last_at, e.taken_by, e.taken_at, e.resolved_by, e.resolved_at, e.resolution,
    coalesce((SELECT jsonb_agg(jsonb_build_object('document_id', n.document_id, 'document_version', n.document_version,
            'chunk_id', n.chunk_id, 'source', n.source, 'score', n.score, 'scores', n.scores,
            'violations', n.violations) ORDER BY n.rank)
        FROM livedex.escalation_nearest n WHERE n.escalation = e.escalation), '[]') AS nearest
FROM livedex.escalations e JOIN livedex.views v USING (view_id)
WHERE e.state = ANY(%(states)s::text[]) AND (%(escalation)s::bigint IS NULL OR e.escalation = %(escalation)s)
ORDER BY e.escalation

-- name: take
UPDATE livedex.escalations SET state = %(to)s, taken_by = %(by)s, taken_at = clock_timestamp()
WHERE escalation = %(escalation)s AND state = %(from)s RETURNING escalation

-- name: resolve
UPDATE livedex.escalations SET state = %(to)s, resolved_by = %(by)s, resolved_at = clock_timestamp(),
    resolution = %(resolution)s
WHERE escalation = %(escalation)s AND state = %(from)s RETURNING escalation
