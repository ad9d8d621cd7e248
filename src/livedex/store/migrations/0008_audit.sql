-- Audits: what was compared, what was found, and what capture is asked to read again.

CREATE TABLE livedex.audits (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner       text NOT NULL,
    wanted      jsonb NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    -- Figures and kinds, and why something was skipped or is left; what was found stands in `audit_examples`.
    report      jsonb,
    error       text
);
COMMENT ON COLUMN livedex.audits.wanted IS 'What was asked for: the source or view if not everything, repair, deep.';
COMMENT ON COLUMN livedex.audits.error IS 'Why it ended early.';
ALTER TABLE livedex.audits
    ALTER COLUMN report SET STATISTICS 0,
    ALTER COLUMN error SET STATISTICS 0;

CREATE FUNCTION livedex.report_without_names(report jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN (
    SELECT jsonb_agg(part || jsonb_build_object(
        'skipped', livedex.without_names(part ->> 'skipped', names),
        'findings', (SELECT coalesce(jsonb_agg(finding || jsonb_build_object(
                         'note', livedex.without_names(finding ->> 'note', names)) ORDER BY place), '[]')
                     FROM jsonb_array_elements(part -> 'findings') WITH ORDINALITY AS f(finding, place))) ORDER BY number)
    FROM jsonb_array_elements(report) WITH ORDINALITY AS p(part, number));
COMMENT ON FUNCTION livedex.report_without_names IS 'A report of an audit without the names of forgotten documents.';

CREATE TABLE livedex.audit_examples (
    audit_id    bigint NOT NULL REFERENCES livedex.audits ON DELETE CASCADE,
    subject     text NOT NULL,
    kind        text NOT NULL,
    ordinal     integer NOT NULL,
    document    bigint,
    key_hash    bytea,
    document_id text,
    PRIMARY KEY (audit_id, subject, kind, ordinal)
);
COMMENT ON TABLE livedex.audit_examples IS 'Some of what an audit found, by kind and by source or view.';
CREATE INDEX audit_examples_document ON livedex.audit_examples (document);
CREATE INDEX audit_examples_key ON livedex.audit_examples (key_hash);
ALTER TABLE livedex.audit_examples
    ALTER COLUMN document_id SET STATISTICS 0,
    ALTER COLUMN key_hash SET STATISTICS 0;

-- Keys that whoever captures the source reads again between two batches.
CREATE TABLE livedex.repairs (
    repair_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    audit_id  bigint NOT NULL,
    source_id integer NOT NULL REFERENCES livedex.sources,
    key       text NOT NULL,
    key_hash  bytea NOT NULL,
    asked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    error     text
);
COMMENT ON COLUMN livedex.repairs.error IS 'Why it was not done; asked for again by the next audit.';
CREATE INDEX repairs_source ON livedex.repairs (source_id, repair_id) WHERE error IS NULL;
CREATE INDEX repairs_key ON livedex.repairs (key_hash);
ALTER TABLE livedex.repairs
    ALTER COLUMN key SET STATISTICS 0,
    ALTER COLUMN key_hash SET STATISTICS 0,
    ALTER COLUMN error SET STATISTICS 0;
