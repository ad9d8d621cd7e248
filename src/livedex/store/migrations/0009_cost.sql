-- What bounds cost: documents that wait before they are embedded, what was embedded by the hour, and how old documents
-- may become.

ALTER TABLE livedex.views
    ADD COLUMN debounce interval,
    ADD COLUMN debounce_at_most interval,
    ADD COLUMN tokens_per_day bigint,
    ADD COLUMN when_spent text CHECK (when_spent IN ('pause', 'lexical_only')),
    ADD COLUMN ttl interval;
COMMENT ON COLUMN livedex.views.debounce IS 'How long a document must have been quiet before its new text is embedded.';
COMMENT ON COLUMN livedex.views.debounce_at_most IS 'How long one that never is quiet waits.';
COMMENT ON COLUMN livedex.views.ttl IS 'What is older than this the view does not show.';

ALTER TABLE livedex.sources ADD COLUMN ttl interval;
COMMENT ON COLUMN livedex.sources.ttl IS 'What is older than this becomes a tombstone and is shown by no view.';

ALTER TABLE livedex.documents ADD COLUMN expired boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN livedex.documents.expired IS 'A tombstone made by age: its row still stands in the source, and raw_hash still is that row''s.';

ALTER TABLE livedex.changes ADD COLUMN expired boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN livedex.changes.expired IS 'The document did not go in its source: it grew too old.';

-- Documents whose newest version a shard has read and not made searchable, or not by vectors. The cursor has passed them.
CREATE TABLE livedex.deferred (
    document     bigint NOT NULL REFERENCES livedex.documents ON DELETE CASCADE,
    generation   integer NOT NULL REFERENCES livedex.generations,
    shard        integer NOT NULL,
    source_id    integer NOT NULL,
    -- debounce: not quiet yet. budget: nothing may be embedded. expired: too old to be shown. words: searchable by words.
    reason       text NOT NULL CHECK (reason IN ('debounce', 'budget', 'expired', 'words')),
    -- The first version that waits, when it was captured, and when the wait is over; the last is NULL when that is not a
    -- matter of time alone.
    since_seq    bigint NOT NULL,
    since        timestamptz NOT NULL,
    due          timestamptz,
    content_hash bytea NOT NULL,
    PRIMARY KEY (document, generation)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE livedex.deferred ALTER COLUMN content_hash SET STATISTICS 0;
CREATE INDEX deferred_reason ON livedex.deferred (generation, shard, reason, since_seq);
CREATE INDEX deferred_due ON livedex.deferred (generation, shard, due) WHERE reason = 'debounce';
-- The oldest version that is not searchable, per source: watermarks stay before it.
CREATE INDEX deferred_oldest ON livedex.deferred (generation, shard, source_id, since_seq)
    WHERE reason IN ('debounce', 'budget');

-- What went through the model, by shard, so that shards do not wait for each other's row.
CREATE TABLE livedex.spending (
    generation integer NOT NULL REFERENCES livedex.generations,
    shard      integer NOT NULL,
    hour       timestamptz NOT NULL,
    texts      bigint NOT NULL,
    tokens     bigint NOT NULL,
    PRIMARY KEY (generation, shard, hour)
) WITH (fillfactor = 50);
COMMENT ON COLUMN livedex.spending.tokens IS 'Estimated: a token for every four characters.';

DO $$
DECLARE
    g integer;
BEGIN
    FOR g IN SELECT generation FROM livedex.generations WHERE state NOT IN ('retired', 'failed') LOOP
        EXECUTE format('ALTER TABLE livedex_g%s.applied ADD COLUMN lexical_only boolean NOT NULL DEFAULT false', g);
        EXECUTE format('CREATE INDEX applied_lexical_only ON livedex_g%s.applied (document) WHERE lexical_only', g);
    END LOOP;
END $$;
