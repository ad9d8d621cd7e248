-- What producers are held to: rows that are not as expected, columns that change, and the brake on losses.

ALTER TABLE livedex.partitions DROP CONSTRAINT partitions_state_check;
ALTER TABLE livedex.partitions
    ADD CONSTRAINT partitions_state_check CHECK (state IN ('new', 'snapshot', 'streaming', 'paused', 'held')),
    ADD COLUMN judged text DEFAULT '';
COMMENT ON COLUMN livedex.partitions.judged IS 'Digest of the expectations by which the log was judged; NULL: to be judged again.';

ALTER TABLE livedex.quarantine DROP CONSTRAINT quarantine_stage_check;
ALTER TABLE livedex.quarantine
    ADD CONSTRAINT quarantine_stage_check CHECK (stage IN ('map', 'expect', 'chunk', 'embed'));

-- 64 bits of what a document says, in four parts to look it up by. Only of tables for which near duplicates are limited;
-- rows of documents that are gone count no more.
CREATE TABLE livedex.fingerprints (
    source_id   integer NOT NULL REFERENCES livedex.sources,
    band        smallint NOT NULL,
    value       integer NOT NULL,
    document    bigint NOT NULL REFERENCES livedex.documents ON DELETE CASCADE,
    fingerprint bigint NOT NULL,
    PRIMARY KEY (source_id, band, value, document)
);
CREATE INDEX fingerprints_document ON livedex.fingerprints (document);
ALTER TABLE livedex.fingerprints
    ALTER COLUMN value SET STATISTICS 0,
    ALTER COLUMN fingerprint SET STATISTICS 0;

-- The columns of each table as its source last had them; of a mapped column that changed, as it was when it was read.
CREATE TABLE livedex.source_columns (
    source_id   integer NOT NULL REFERENCES livedex.sources,
    table_name  text NOT NULL,
    column_name text NOT NULL,
    type        text NOT NULL,
    PRIMARY KEY (source_id, table_name, column_name)
);

CREATE TABLE livedex.schema_changes (
    schema_change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id        integer NOT NULL REFERENCES livedex.sources,
    table_name       text NOT NULL,
    column_name      text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('added', 'dropped', 'retyped')),
    was              text,
    became           text,
    mapped           boolean NOT NULL,
    seen_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When it was taken back or the table was read again. What is not mapped needs nothing.
    resolved_at      timestamptz
);
CREATE INDEX schema_changes_source ON livedex.schema_changes (source_id, seen_at);
CREATE UNIQUE INDEX schema_changes_open ON livedex.schema_changes (source_id, table_name, column_name)
    WHERE resolved_at IS NULL;

-- What the brake held, and who let it pass.
CREATE TABLE livedex.holds (
    hold_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id   integer NOT NULL REFERENCES livedex.sources,
    partition   text NOT NULL,
    held_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What went beyond its share: deletes, shrinks.
    kinds       text[] NOT NULL,
    deletes     bigint NOT NULL,
    shrinks     bigint NOT NULL,
    -- How many documents the source had before.
    documents   bigint NOT NULL,
    -- Some of the documents.
    examples    bigint[] NOT NULL,
    approved_at timestamptz,
    approved_by text,
    -- When it was over: passed and quiet since, or to be looked at again.
    ended_at    timestamptz
);
CREATE UNIQUE INDEX holds_open ON livedex.holds (source_id, partition) WHERE ended_at IS NULL;
COMMENT ON TABLE livedex.holds IS 'Losses that were so large that a source was held until somebody agreed.';
