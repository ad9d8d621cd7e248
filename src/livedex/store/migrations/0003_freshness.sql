-- How fresh every view is, as figures: for SQL clients as much as for `livedex status`.

-- How often an idle source is heard of; what is silent for longer than a few of these is dead.
ALTER TABLE livedex.sources ADD COLUMN heartbeat interval NOT NULL DEFAULT '1 second';

ALTER TABLE livedex.partitions ADD COLUMN clock_offset_seconds double precision;
COMMENT ON COLUMN livedex.partitions.clock_offset_seconds IS
    'How far the source''s clock is ahead of this server''s, as of the last heartbeat; at least that far, when positive.';

-- When a delete reached the log, no search finds the document any more, so its time is taken there.
CREATE INDEX changes_deletes ON livedex.changes (captured_at) WHERE op IN ('d', 't');

-- Whether a view was within its target lag, every few seconds while something of livedex runs. No row: nothing ran.
CREATE TABLE livedex.freshness_samples (
    view_id integer NOT NULL REFERENCES livedex.views,
    at      timestamptz NOT NULL,
    within  boolean NOT NULL,
    PRIMARY KEY (view_id, at)
);

CREATE FUNCTION livedex.source_state(capture_state text, failing boolean, followed boolean, heartbeat_at timestamptz,
    heartbeat_seconds double precision, captured_time timestamptz, captured_serial bigint, mark_time timestamptz,
    mark_serial bigint, at timestamptz, target_seconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN capture_state IN ('held', 'paused') THEN capture_state
    WHEN failing THEN 'silent'
    WHEN followed IS NOT TRUE THEN 'unfollowed'
    WHEN mark_time IS NULL THEN 'loading'
    WHEN heartbeat_at IS NULL OR extract(epoch FROM at - heartbeat_at) > greatest(5, 3 * heartbeat_seconds) THEN 'silent'
    WHEN extract(epoch FROM CASE
        WHEN captured_time IS NULL THEN at - mark_time
        WHEN mark_serial >= captured_serial
            AND extract(epoch FROM at - heartbeat_at) <= 2 * heartbeat_seconds + 1 THEN heartbeat_at - captured_time
        WHEN mark_serial + 1 = captured_serial THEN at - captured_time
        ELSE at - mark_time END) > target_seconds THEN 'behind'
    ELSE 'current'
END;
COMMENT ON FUNCTION livedex.source_state IS 'The rule of rules/freshness.py: how one partition of a source stands to a view.';

-- One row a view and source, without what has to be read from samples.
CREATE VIEW livedex.freshness_now AS
WITH marks AS (
    SELECT v.view_id, v.name AS view, g.generation, s.source_id, s.name AS source, w.position, w.position_time,
        w.position_serial, p.heartbeat_at, p.clock_offset_seconds, p.error, now.at, t.target_seconds,
        livedex.source_state(p.state, p.error IS NOT NULL, l.expires_at >= now.at, p.heartbeat_at,
            extract(epoch FROM s.heartbeat)::double precision, p.position_time, p.position_serial, w.position_time,
            coalesce(w.position_serial, 0), now.at, t.target_seconds) AS state
    FROM (SELECT clock_timestamp() AS at) AS now
    CROSS JOIN livedex.views v
    CROSS JOIN LATERAL (SELECT extract(epoch FROM v.target_lag)::double precision AS target_seconds) AS t
    JOIN livedex.generations g ON g.generation = v.active_generation
    JOIN livedex.cursors c USING (generation)
    JOIN livedex.sources s ON s.source_id = ANY(g.source_ids)
    LEFT JOIN livedex.partitions p USING (source_id)
    LEFT JOIN livedex.leases l ON l.resource = 'source:' || p.source_id || ':' || p.partition
    LEFT JOIN livedex.watermarks w ON w.generation = g.generation AND w.shard = c.shard
        AND w.source_id = p.source_id AND w.partition = p.partition
)
SELECT view_id, view, generation, source_id, source,
    (array_agg(state ORDER BY array_position(
        '{held,paused,silent,unfollowed,loading,behind,current}'::text[], state)))[1] AS state,
    CASE WHEN bool_and(position IS NOT NULL)
        THEN (array_agg(position ORDER BY position_time, position_serial))[1] END AS position,
    CASE WHEN bool_and(position_time IS NOT NULL) THEN min(position_time) END AS data_timestamp,
    CASE WHEN bool_and(position_time IS NOT NULL)
        THEN greatest(0, extract(epoch FROM at - min(position_time)))::double precision END AS lag_seconds,
    target_seconds, min(heartbeat_at) AS heartbeat_at, max(clock_offset_seconds) AS clock_offset_seconds,
    max(error) AS error
FROM marks GROUP BY view_id, view, generation, source_id, source, at, target_seconds;

CREATE FUNCTION livedex.lag_figures(of_generation integer, of_source integer, since timestamptz,
    OUT p50 double precision, OUT p95 double precision, OUT p99 double precision)
LANGUAGE sql STABLE AS $$
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag), percentile_cont(0.95) WITHIN GROUP (ORDER BY lag),
        percentile_cont(0.99) WITHIN GROUP (ORDER BY lag)
    FROM (
        -- A source's clock that is ahead would make the lag look shorter than it is.
        SELECT extract(epoch FROM s.searchable_at - least(s.captured_at,
            s.committed_at - make_interval(secs => greatest(0, coalesce(o.ahead, 0)))))::double precision AS lag
        FROM livedex.lag_samples s
        LEFT JOIN (SELECT source_id, max(clock_offset_seconds) AS ahead FROM livedex.partitions GROUP BY source_id) AS o
            USING (source_id)
        WHERE s.generation = of_generation AND (of_source IS NULL OR s.source_id = of_source)
            AND s.searchable_at > since AND NOT s.deleted AND s.committed_at IS NOT NULL
    ) AS samples
$$;
COMMENT ON FUNCTION livedex.lag_figures IS 'Seconds from commit to searchable; of all sources when of_source is NULL.';

CREATE FUNCTION livedex.delete_figures(of_sources integer[], since timestamptz,
    OUT p50 double precision, OUT p95 double precision, OUT p99 double precision)
LANGUAGE sql STABLE AS $$
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag), percentile_cont(0.95) WITHIN GROUP (ORDER BY lag),
        percentile_cont(0.99) WITHIN GROUP (ORDER BY lag)
    FROM (
        SELECT greatest(0, extract(epoch FROM c.captured_at - c.source_time)
            + greatest(0, coalesce(o.ahead, 0)))::double precision AS lag
        FROM livedex.changes c
        LEFT JOIN (SELECT source_id, max(clock_offset_seconds) AS ahead FROM livedex.partitions GROUP BY source_id) AS o
            USING (source_id)
        WHERE c.op IN ('d', 't') AND c.captured_at > since AND c.source_id = ANY(of_sources)
            AND c.source_time IS NOT NULL
    ) AS samples
$$;
COMMENT ON FUNCTION livedex.delete_figures IS
    'Seconds from the commit of a delete to its tombstone in the log, with which no search finds the document any more.';

CREATE FUNCTION livedex.within_target(of_view integer, since timestamptz) RETURNS double precision
LANGUAGE sql STABLE AS $$
    -- Since the first sample, if that is later: before, there was nothing to be fresh.
    SELECT least(1, (SELECT count(*) FROM livedex.freshness_samples s
                     WHERE s.view_id = of_view AND s.at >= began.slot AND s.within)
        / greatest(1, floor(extract(epoch FROM clock_timestamp() - began.slot) / 5)))::double precision
    FROM (SELECT greatest(date_bin('5 seconds', since, '2000-01-01Z'), min(f.at)) AS slot
          FROM livedex.freshness_samples f WHERE f.view_id = of_view HAVING count(*) > 0) AS began
$$;
COMMENT ON FUNCTION livedex.within_target IS 'The share of time in which a view was within its target lag.';

-- Another migration makes the table, so the body must not be looked at before.
CREATE FUNCTION livedex.stale_retrieval_rate(of_view integer, since timestamptz) RETURNS double precision
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sum(m.stale)::double precision / nullif(sum(m.retrievals), 0) FROM livedex.retrieval_minutes m
            WHERE m.view_id = of_view AND m.minute > since - interval '1 minute');
END $$;
COMMENT ON FUNCTION livedex.stale_retrieval_rate IS
    'The share of retrievals with a hit of which a newer version was on its way.';

-- Definer's rights, so that whoever may read the view need not be let into the tables behind it.
CREATE FUNCTION livedex.freshness_over(span interval) RETURNS TABLE (view text, source text, generation integer,
    state text, "position" text, data_timestamp timestamptz, lag_seconds double precision,
    target_lag_seconds double precision, lag_p50_seconds double precision, lag_p95_seconds double precision,
    lag_p99_seconds double precision, delete_p50_seconds double precision, delete_p95_seconds double precision,
    delete_p99_seconds double precision, within_target double precision, stale_retrieval_rate double precision,
    heartbeat_at timestamptz, clock_offset_seconds double precision, error text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.view, n.source, n.generation, n.state, n.position, n.data_timestamp, n.lag_seconds, n.target_seconds,
        l.p50, l.p95, l.p99, d.p50, d.p95, d.p99, livedex.within_target(n.view_id, clock_timestamp() - span),
        livedex.stale_retrieval_rate(n.view_id, clock_timestamp() - span), n.heartbeat_at, n.clock_offset_seconds,
        n.error
    FROM livedex.freshness_now n
    CROSS JOIN LATERAL livedex.lag_figures(n.generation, n.source_id, clock_timestamp() - span) AS l
    CROSS JOIN LATERAL livedex.delete_figures(ARRAY[n.source_id], clock_timestamp() - span) AS d
$$;

CREATE VIEW livedex.freshness AS SELECT * FROM livedex.freshness_over('1 hour');
COMMENT ON VIEW livedex.freshness IS
    'How fresh every view is, one row a view and source, figures over the last hour; livedex.freshness_over(interval) has them over other times.';
COMMENT ON COLUMN livedex.freshness.view IS 'The view.';
COMMENT ON COLUMN livedex.freshness.source IS 'One of the sources that it holds.';
COMMENT ON COLUMN livedex.freshness.generation IS 'The generation that answers.';
COMMENT ON COLUMN livedex.freshness.state IS 'current, behind, loading, silent, unfollowed, paused or held.';
COMMENT ON COLUMN livedex.freshness.position IS 'Everything up to this position of the source is searchable.';
COMMENT ON COLUMN livedex.freshness.data_timestamp IS 'Everything committed before is searchable; NULL until the first load is complete.';
COMMENT ON COLUMN livedex.freshness.lag_seconds IS 'How long ago that was.';
COMMENT ON COLUMN livedex.freshness.target_lag_seconds IS 'The view''s target_lag.';
COMMENT ON COLUMN livedex.freshness.lag_p50_seconds IS 'Commit to searchable, median.';
COMMENT ON COLUMN livedex.freshness.lag_p95_seconds IS 'Commit to searchable, 95th percentile.';
COMMENT ON COLUMN livedex.freshness.lag_p99_seconds IS 'Commit to searchable, 99th percentile.';
COMMENT ON COLUMN livedex.freshness.delete_p50_seconds IS 'Commit of a delete to unsearchable, median.';
COMMENT ON COLUMN livedex.freshness.delete_p95_seconds IS 'Commit of a delete to unsearchable, 95th percentile.';
COMMENT ON COLUMN livedex.freshness.delete_p99_seconds IS 'Commit of a delete to unsearchable, 99th percentile.';
COMMENT ON COLUMN livedex.freshness.within_target IS 'Share of time in which the whole view was within its target lag, 0 to 1.';
COMMENT ON COLUMN livedex.freshness.stale_retrieval_rate IS 'Share of the view''s retrievals with a hit of which a newer version was on its way, 0 to 1.';
COMMENT ON COLUMN livedex.freshness.heartbeat_at IS 'When the source was last heard of.';
COMMENT ON COLUMN livedex.freshness.clock_offset_seconds IS 'How far the source''s clock is ahead of this server''s, at least.';
COMMENT ON COLUMN livedex.freshness.error IS 'Why the source cannot be followed; NULL when it can.';
