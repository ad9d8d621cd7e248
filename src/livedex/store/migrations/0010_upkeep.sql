-- What upkeep measures against, and what it did.

-- How many bytes an index took per row when it was last known to be compact.
CREATE TABLE livedex.index_baselines (
    generation    integer NOT NULL REFERENCES livedex.generations ON DELETE CASCADE,
    index_name    text NOT NULL,
    bytes_per_row double precision NOT NULL,
    measured_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (generation, index_name)
);

CREATE TABLE livedex.upkeep (
    upkeep_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation   integer,
    action       text NOT NULL,
    target       text NOT NULL,
    reason       text NOT NULL,
    began_at     timestamptz NOT NULL,
    ended_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    bytes_before bigint,
    bytes_after  bigint
);

-- By itself a vacuum passes over the indexes where few pages have dead rows. HNSW would keep dead entries, which crowd
-- out live ones.
DO $$
DECLARE
    numbered integer;
BEGIN
    FOR numbered IN SELECT generation FROM livedex.generations WHERE state NOT IN ('retired', 'failed') LOOP
        EXECUTE format('ALTER TABLE livedex_g%s.vectors SET (vacuum_index_cleanup = on)', numbered);
        EXECUTE format('ALTER TABLE livedex_g%s.terms SET (vacuum_index_cleanup = on)', numbered);
    END LOOP;
END $$;
