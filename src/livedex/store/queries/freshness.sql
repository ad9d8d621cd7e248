-- name: figures
-- What a view came to since some time ago. Percentiles in seconds, shares from 0 to 1.
SELECT l.p50 AS lag_p50_seconds, l.p95 AS lag_p95_seconds, l.p99 AS lag_p99_seconds,
    d.p50 AS delete_p50_seconds, d.p95 AS delete_p95_seconds, d.p99 AS delete_p99_seconds,
    livedex.within_target(g.view_id, since.since) AS within_target,
    livedex.stale_retrieval_rate(g.view_id, since.since) AS stale_retrieval_rate
FROM livedex.generations g
CROSS JOIN (SELECT clock_timestamp() - make_interval(secs => %(seconds)s) AS since) AS since
CROSS JOIN LATERAL livedex.lag_figures(g.generation, NULL, since.since) AS l
CROSS JOIN LATERAL livedex.delete_figures(g.source_ids, since.since) AS d
WHERE g.generation = %(generation)s;

-- name: sample
-- Whether each view whose first load is complete is within its target lag. Several processes may ask: one row a slot.
INSERT INTO livedex.freshness_samples (view_id, at, within)
SELECT view_id, date_bin('5 seconds', clock_timestamp(), '2000-01-01Z'), bool_and(state = 'current')
FROM livedex.freshness_now GROUP BY view_id HAVING bool_and(data_timestamp IS NOT NULL)
ON CONFLICT (view_id, at) DO NOTHING;

-- name: prune
DELETE FROM livedex.freshness_samples WHERE at < clock_timestamp() - make_interval(secs => %(keep)s);

-- name: prune_lag_samples
DELETE FROM livedex.lag_samples WHERE searchable_at < clock_timestamp() - make_interval(secs => %(keep)s);
