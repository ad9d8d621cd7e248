-- The log, the catalog and what every generation shares. A generation's own tables are made by queries/generation.sql.
-- Columns that can hold document text have STATISTICS 0: a purge could not reach copies of it in pg_statistic.

CREATE TABLE livedex.store (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    store_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Hashes of text are keyed with this, so that a hash that outlives its text confirms no guess about it.
    hash_key   bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO livedex.store DEFAULT VALUES;

-- Who may write for a source partition or a shard. Expiry is by this server's clock; taking over raises the epoch.
CREATE TABLE livedex.leases (
    resource      text PRIMARY KEY,
    owner         text NOT NULL,
    epoch         bigint NOT NULL,
    expires_at    timestamptz NOT NULL,
    backend_pid   integer NOT NULL,
    backend_start timestamptz
) WITH (fillfactor = 50);

CREATE FUNCTION livedex.hold(wanted text, held bigint, seconds double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE livedex.leases SET expires_at = clock_timestamp() + make_interval(secs => seconds)
    WHERE resource = wanted AND epoch = held;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease on % was taken over', wanted USING ERRCODE = 'LX001';
    END IF;
END $$;
COMMENT ON FUNCTION livedex.hold IS 'Renews a lease inside the transaction that it protects, or ends that transaction.';

CREATE TABLE livedex.sources (
    source_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    kind       text NOT NULL,
    -- Table to mapped columns: the log can be read by itself.
    mapping    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE livedex.partitions (
    source_id       integer NOT NULL REFERENCES livedex.sources,
    partition       text NOT NULL,
    state           text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'snapshot', 'streaming', 'paused')),
    error           text,
    -- Raised by every snapshot: a document that a snapshot did not see keeps an older epoch and becomes a tombstone.
    epoch           integer NOT NULL DEFAULT 0,
    position        text,
    position_time   timestamptz,
    -- Counts stored positions, so that positions that only the source can compare have an order here too.
    position_serial bigint NOT NULL DEFAULT 0,
    heartbeat_at    timestamptz,
    PRIMARY KEY (source_id, partition)
) WITH (fillfactor = 50);

-- The one lock of the log: whoever appends updates this row, and with it gets the next values of seq until it commits.
-- So the order of seq is the order of commits, and a reader that has seen seq n has seen everything up to n.
CREATE TABLE livedex.log_head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    seq       bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO livedex.log_head DEFAULT VALUES;

CREATE TABLE livedex.documents (
    document        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id       integer NOT NULL REFERENCES livedex.sources,
    -- Canonical JSON of [table, key columns]; its hash is what is indexed, since a key may be longer than a B-tree entry.
    key             text NOT NULL,
    key_hash        bytea NOT NULL,
    collection      text NOT NULL,
    document_id     text NOT NULL,
    seq             bigint NOT NULL,
    -- The last seq that the same source transaction was given.
    commit_seq      bigint NOT NULL,
    -- Of the key at first sight. A renamed document stays in its slot, so that two shards never write the same rows.
    slot            smallint NOT NULL,
    epoch           integer NOT NULL,
    deleted         boolean NOT NULL DEFAULT false,
    -- '' is no tenant; '*' is everyone. Neither is ever NULL, so that one index serves each condition.
    tenant          text NOT NULL DEFAULT '',
    acl             text[] NOT NULL DEFAULT '{*}',
    title           text NOT NULL DEFAULT '',
    metadata        jsonb NOT NULL DEFAULT '{}',
    updated_at      timestamptz,
    version         text NOT NULL,
    -- Of raw and the mapping: equal means that a change alters nothing.
    raw_hash        bytea NOT NULL,
    -- Of title and content: equal to that in a generation's `applied` means that there is nothing to cut or embed.
    content_hash    bytea NOT NULL,
    content_bytes   integer NOT NULL DEFAULT 0,
    raw             jsonb,
    source_position text,
    source_time     timestamptz,
    captured_at     timestamptz NOT NULL,
    -- Deferred, because rows of one source transaction may swap keys.
    CONSTRAINT documents_live_key EXCLUDE (source_id WITH =, key_hash WITH =) WHERE (NOT deleted)
        DEFERRABLE INITIALLY DEFERRED
) WITH (fillfactor = 80, toast_tuple_target = 256, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX documents_seq ON livedex.documents (seq);
CREATE INDEX documents_tombstones ON livedex.documents (source_id, key_hash) WHERE deleted;
CREATE INDEX documents_tenant ON livedex.documents (tenant) WHERE NOT deleted;
CREATE INDEX documents_acl ON livedex.documents USING gin (acl) WHERE NOT deleted;
ALTER TABLE livedex.documents
    ALTER COLUMN raw SET STATISTICS 0,
    ALTER COLUMN title SET STATISTICS 0,
    ALTER COLUMN key SET STATISTICS 0,
    ALTER COLUMN document_id SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0;

-- Parts of a source transaction that is too large for one batch, until its last part arrives. Sent again after a crash.
CREATE UNLOGGED TABLE livedex.staged (
    source_id integer NOT NULL,
    partition text NOT NULL,
    ordinal   bigint NOT NULL,
    change    jsonb NOT NULL,
    PRIMARY KEY (source_id, partition, ordinal)
);
ALTER TABLE livedex.staged ALTER COLUMN change SET STATISTICS 0;

-- History without content.
CREATE TABLE livedex.changes (
    seq             bigint NOT NULL,
    source_id       integer NOT NULL,
    document        bigint NOT NULL,
    key_hash        bytea NOT NULL,
    op              "char" NOT NULL,
    version         text NOT NULL,
    source_position text,
    source_time     timestamptz,
    captured_at     timestamptz NOT NULL
) PARTITION BY RANGE (captured_at);
CREATE TABLE livedex.changes_other PARTITION OF livedex.changes DEFAULT;

CREATE TABLE livedex.models (
    model_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    identity   jsonb NOT NULL,
    dimensions integer NOT NULL
);

CREATE TABLE livedex.views (
    view_id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    active_generation integer,
    target_lag        interval NOT NULL,
    -- What the SQL view was last made from.
    sql_definition    text,
    created_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE livedex.generations (
    generation integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view_id    integer NOT NULL REFERENCES livedex.views,
    state      text NOT NULL CHECK (state IN ('building', 'verifying', 'active', 'soaking', 'retired', 'failed')),
    recipe     jsonb NOT NULL,
    model_id   integer NOT NULL REFERENCES livedex.models,
    shards     integer NOT NULL CHECK (shards BETWEEN 1 AND 64),
    source_ids integer[] NOT NULL,
    -- When its indexes first stood; before that every search is exact.
    indexed_at timestamptz,
    -- Chunks up to this one have been looked up by their own vectors since the index stands.
    probed_chunk bigint NOT NULL DEFAULT -1,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE livedex.views ADD FOREIGN KEY (active_generation) REFERENCES livedex.generations;

CREATE TABLE livedex.cursors (
    generation         integer NOT NULL REFERENCES livedex.generations,
    shard              integer NOT NULL,
    seq                bigint NOT NULL DEFAULT 0,
    error              text,
    documents_added    bigint NOT NULL DEFAULT 0,
    documents_updated  bigint NOT NULL DEFAULT 0,
    documents_deleted  bigint NOT NULL DEFAULT 0,
    texts_embedded     bigint NOT NULL DEFAULT 0,
    chunks_inserted    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (generation, shard)
) WITH (fillfactor = 50);

CREATE FUNCTION livedex.move_cursor(of_generation integer, of_shard integer, after bigint, to_seq bigint,
    added bigint, updated bigint, deleted bigint, embedded bigint, inserted bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE livedex.cursors c SET seq = to_seq, error = NULL, documents_added = documents_added + added,
        documents_updated = documents_updated + updated, documents_deleted = documents_deleted + deleted,
        texts_embedded = texts_embedded + embedded, chunks_inserted = chunks_inserted + inserted
    WHERE c.generation = of_generation AND c.shard = of_shard AND c.seq = after;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the cursor of generation %, shard % is no longer at %', of_generation, of_shard, after
            USING ERRCODE = 'LX001';
    END IF;
END $$;
COMMENT ON FUNCTION livedex.move_cursor IS 'Compare-and-swap: a batch that was applied already ends its transaction.';

CREATE TABLE livedex.watermarks (
    generation      integer NOT NULL REFERENCES livedex.generations,
    shard           integer NOT NULL,
    source_id       integer NOT NULL REFERENCES livedex.sources,
    partition       text NOT NULL,
    position        text,
    position_time   timestamptz,
    position_serial bigint NOT NULL,
    PRIMARY KEY (generation, shard, source_id, partition)
) WITH (fillfactor = 50);

-- Vectors that left a generation, or that a long batch has made so far. No text, and its hash is keyed.
CREATE TABLE livedex.embeddings (
    model_id  integer NOT NULL REFERENCES livedex.models,
    text_hash bytea NOT NULL,
    embedding halfvec NOT NULL,
    rested_at timestamptz NOT NULL,
    PRIMARY KEY (model_id, text_hash)
);

CREATE TABLE livedex.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document      bigint NOT NULL REFERENCES livedex.documents ON DELETE CASCADE,
    -- 0: refused by capture, before any generation saw it.
    generation    integer NOT NULL DEFAULT 0,
    stage         text NOT NULL CHECK (stage IN ('map', 'chunk', 'embed')),
    reason        text NOT NULL,
    version       text NOT NULL,
    attempts      integer NOT NULL DEFAULT 1,
    first_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (document, generation)
);

CREATE TABLE livedex.lag_samples (
    generation    integer NOT NULL,
    source_id     integer NOT NULL,
    document      bigint NOT NULL,
    deleted       boolean NOT NULL,
    committed_at  timestamptz NOT NULL,
    captured_at   timestamptz NOT NULL,
    searchable_at timestamptz NOT NULL
);
CREATE INDEX lag_samples_time ON livedex.lag_samples USING brin (searchable_at);
