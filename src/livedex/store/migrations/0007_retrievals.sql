-- What was retrieved, and when which version of a document was searchable.

-- Retrievals by days, which are dropped whole: at a hundred retrievals a second, deleting row by row would leave more to
-- vacuum than is written. The days' tables are made by queries/retrievals.sql.
CREATE TABLE livedex.retrievals (
    retrieval_id uuid NOT NULL,
    at           timestamptz NOT NULL,
    view_id      integer NOT NULL,
    generation   integer NOT NULL,
    -- NULL where texts are not kept, and where a document that was among the hits has been purged.
    query        text,
    -- Keyed: without the store's key it confirms no guess about what was asked.
    query_hash   bytea NOT NULL,
    tenant       text,
    principals   text[] NOT NULL,
    top_k        integer NOT NULL,
    mode         text NOT NULL,
    exact        boolean NOT NULL,
    filters      jsonb,
    -- How fresh it had to be, and what came of it.
    asked        jsonb NOT NULL,
    freshness    jsonb NOT NULL,
    watermark    jsonb NOT NULL,
    lag_seconds  double precision,
    stale        integer NOT NULL,
    contract     text,
    outcome      text,
    violations   jsonb,
    timings      jsonb NOT NULL,
    PRIMARY KEY (retrieval_id, at)
) PARTITION BY RANGE (at);
ALTER TABLE livedex.retrievals
    ALTER COLUMN query SET STATISTICS 0,
    ALTER COLUMN tenant SET STATISTICS 0,
    ALTER COLUMN principals SET STATISTICS 0,
    ALTER COLUMN filters SET STATISTICS 0,
    ALTER COLUMN violations SET STATISTICS 0;
CREATE INDEX retrievals_time ON livedex.retrievals (at);

-- By references. A document that was gone before its hit was written down has no number here.
CREATE TABLE livedex.retrieval_hits (
    retrieval_id uuid NOT NULL,
    at           timestamptz NOT NULL,
    rank         integer NOT NULL,
    document     bigint,
    version      text NOT NULL,
    chunk_id     text NOT NULL,
    -- NULL of what a contract withheld.
    chunk_index  integer,
    start_offset integer,
    end_offset   integer,
    text_hash    bytea,
    score        double precision NOT NULL,
    scores       jsonb NOT NULL,
    stale        boolean NOT NULL,
    withheld     boolean NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX retrieval_hits_retrieval ON livedex.retrieval_hits (retrieval_id);
CREATE INDEX retrieval_hits_document ON livedex.retrieval_hits (document);

-- Texts that hits had, each once, as long as a retrieval that is kept has seen it. A text goes with its document.
CREATE TABLE livedex.retrieval_texts (
    document  bigint NOT NULL REFERENCES livedex.documents ON DELETE CASCADE,
    text_hash bytea NOT NULL,
    text      text NOT NULL,
    last_seen timestamptz NOT NULL,
    PRIMARY KEY (document, text_hash)
);
ALTER TABLE livedex.retrieval_texts ALTER COLUMN text SET STATISTICS 0;
CREATE INDEX retrieval_texts_last_seen ON livedex.retrieval_texts USING brin (last_seen);

CREATE TABLE IF NOT EXISTS livedex.retrieval_minutes (
    view_id    integer NOT NULL,
    minute     timestamptz NOT NULL,
    retrievals bigint NOT NULL DEFAULT 0,
    stale      bigint NOT NULL DEFAULT 0,
    abstained  bigint NOT NULL DEFAULT 0,
    escalated  bigint NOT NULL DEFAULT 0,
    refused    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (view_id, minute)
) WITH (fillfactor = 50);
ALTER TABLE livedex.retrieval_minutes ADD COLUMN lost bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE livedex.retrieval_minutes IS 'Per view and minute: searches, those with a hit that was stale, those without an answer, those refused as not fresh, and those of which no record could be kept.';

-- A row of a load has no commit time; whose it is stands in the history.
ALTER TABLE livedex.lag_samples
    ALTER COLUMN source_id DROP NOT NULL,
    ALTER COLUMN committed_at DROP NOT NULL,
    ALTER COLUMN captured_at DROP NOT NULL,
    ADD COLUMN seq bigint,
    ADD COLUMN embedded_at timestamptz,
    ADD COLUMN chunks_written integer;
COMMENT ON COLUMN livedex.lag_samples.seq IS 'Which state of the document, as in livedex.changes.';
COMMENT ON COLUMN livedex.lag_samples.embedded_at IS 'When the text of that state was embedded; earlier than searchable_at where only something else changed.';
COMMENT ON COLUMN livedex.lag_samples.chunks_written IS 'How many chunks it took that were not there before.';
CREATE INDEX lag_samples_document ON livedex.lag_samples (document);

-- Changes that came together leave one row in the log; the history has the others too.
ALTER TABLE livedex.changes ADD COLUMN before integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN livedex.changes.before IS 'Of states that were captured together under one seq: how many came after this one. Only the last was ever to be read.';
CREATE INDEX IF NOT EXISTS changes_document ON livedex.changes (document);
