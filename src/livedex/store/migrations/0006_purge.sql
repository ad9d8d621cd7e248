-- What has to be forgotten: receipts, the keys that stay away, and whose vectors rest.

-- Receipts. They name no key: what was forgotten is known by hashes only, in `suppressions`.
CREATE TABLE livedex.purges (
    purge_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action      text NOT NULL CHECK (action IN ('purge', 'unpurge')),
    source_id   integer NOT NULL REFERENCES livedex.sources,
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by     text NOT NULL,
    reason      text NOT NULL DEFAULT '',
    documents   integer NOT NULL,
    -- Table to number of rows.
    removed     jsonb NOT NULL,
    -- When the files no longer held what was deleted; NULL: that is still to be done.
    finished_at timestamptz,
    -- What could not be done, and where copies may be that livedex does not reach.
    remains     jsonb NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE livedex.purges IS 'What was forgotten, when, and how completely.';

-- Keys that capture passes over, whatever sends them: a redelivery, an update, a resync.
CREATE TABLE livedex.suppressions (
    source_id integer NOT NULL REFERENCES livedex.sources,
    key_hash  bytea NOT NULL,
    purge_id  bigint REFERENCES livedex.purges,
    PRIMARY KEY (source_id, key_hash)
);
COMMENT ON COLUMN livedex.suppressions.key_hash IS 'Of livedex.forgotten_hash: keyed, and not to be undone without the store''s key.';

CREATE FUNCTION livedex.forgotten_hash(of_source integer, of_key bytea) RETURNS bytea
LANGUAGE sql STABLE STRICT
RETURN (SELECT substring(sha256(hash_key || int4send(of_source) || of_key) FROM 1 FOR 16) FROM livedex.store);
COMMENT ON FUNCTION livedex.forgotten_hash IS 'Under which hash a key, given as documents.key_hash, stands in livedex.suppressions.';

CREATE FUNCTION livedex.is_forgotten(of_source integer, of_key bytea) RETURNS boolean
LANGUAGE sql STABLE STRICT
RETURN EXISTS (SELECT FROM livedex.suppressions
               WHERE source_id = of_source AND key_hash = livedex.forgotten_hash(of_source, of_key));
COMMENT ON FUNCTION livedex.is_forgotten IS 'Whether a key, given as documents.key_hash, is kept away.';

-- Which documents a resting vector came from; NULL: not known, so that it goes with whatever is purged.
ALTER TABLE livedex.embeddings ADD COLUMN documents bigint[];
-- Copies of what these hold would stand in pg_statistic, too.
ALTER TABLE livedex.embeddings ALTER COLUMN embedding SET STATISTICS 0;
ALTER TABLE livedex.quarantine ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE livedex.partitions ALTER COLUMN error SET STATISTICS 0;
ALTER TABLE livedex.cursors ALTER COLUMN error SET STATISTICS 0;

CREATE FUNCTION livedex.joined_documents(known bigint[], added bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN cardinality(known) < 100 THEN
    (SELECT array_agg(DISTINCT document) FROM unnest(known || added) AS document) END;
COMMENT ON FUNCTION livedex.joined_documents IS 'Both; NULL, which is not known, when there are too many to list.';

CREATE FUNCTION livedex.without_names(said text, names text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        said := replace(said, name, '(forgotten)');
    END LOOP;
    RETURN said;
END $$;
COMMENT ON FUNCTION livedex.without_names IS 'A message without the names of forgotten documents.';
