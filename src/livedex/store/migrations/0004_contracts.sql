-- Contracts as they were when they were enforced first, and the questions that one of them left to a person.

CREATE TABLE livedex.contracts (
    contract text PRIMARY KEY,
    view_id  integer NOT NULL REFERENCES livedex.views,
    clauses  jsonb NOT NULL,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE livedex.contracts IS 'Every version of every contract that a search was judged by, in the words of livedex.yaml.';

CREATE TABLE livedex.escalations (
    escalation    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view_id       integer NOT NULL REFERENCES livedex.views,
    state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'taken', 'resolved')),
    -- NULL where queries are not to be kept.
    question      text,
    -- Keyed: of view, question, filters, and on whose behalf it was asked.
    question_hash bytea NOT NULL,
    tenant        text,
    contract      text NOT NULL REFERENCES livedex.contracts,
    -- Names of clauses with bounds; nothing of what documents say.
    violations    jsonb NOT NULL,
    -- The last of so many times that it was asked.
    retrieval_id  text NOT NULL,
    -- Whatever was nearest any of those times: a purge of one of them takes the question too.
    documents     bigint[] NOT NULL DEFAULT '{}',
    times         integer NOT NULL DEFAULT 1,
    opened_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_by      text,
    taken_at      timestamptz,
    resolved_by   text,
    resolved_at   timestamptz,
    resolution    text
);
-- One ticket a question, until it is resolved.
CREATE UNIQUE INDEX escalations_unresolved ON livedex.escalations (question_hash) WHERE state <> 'resolved';
ALTER TABLE livedex.escalations
    ALTER COLUMN question SET STATISTICS 0,
    ALTER COLUMN tenant SET STATISTICS 0,
    ALTER COLUMN resolution SET STATISTICS 0;

-- What was nearest and withheld when it was asked last; references, no text.
CREATE TABLE livedex.escalation_nearest (
    escalation       bigint NOT NULL REFERENCES livedex.escalations ON DELETE CASCADE,
    rank             integer NOT NULL,
    document         bigint NOT NULL,
    source           text NOT NULL,
    document_id      text NOT NULL,
    document_version text NOT NULL,
    chunk_id         text NOT NULL,
    score            double precision NOT NULL,
    scores           jsonb NOT NULL,
    violations       jsonb NOT NULL,
    PRIMARY KEY (escalation, rank)
);
CREATE INDEX escalation_nearest_document ON livedex.escalation_nearest (document);
ALTER TABLE livedex.escalation_nearest
    ALTER COLUMN document_id SET STATISTICS 0,
    ALTER COLUMN document_version SET STATISTICS 0;
