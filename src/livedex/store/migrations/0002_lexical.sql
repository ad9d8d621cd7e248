-- What BM25 needs: numbers for terms, and how many chunks there are, how long.

-- Terms go by hashes of a seed of the store's own: a number that outlives its text in statistics confirms no guess.
ALTER TABLE livedex.store
    ADD COLUMN term_seed bigint NOT NULL DEFAULT hashtextextended(gen_random_uuid()::text, 0);

CREATE FUNCTION livedex.term_number(lexeme text, seed bigint) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ((hashtextextended(lexeme, seed) & 9223372036854775807) % 1000000000 + 1)::integer;
COMMENT ON FUNCTION livedex.term_number IS 'Where a lexeme stands in the vectors of weights: 1 to 1,000,000,000.';

ALTER TABLE livedex.cursors
    ADD COLUMN chunks bigint NOT NULL DEFAULT 0,
    ADD COLUMN terms_length bigint NOT NULL DEFAULT 0,
    ADD COLUMN least_average double precision,
    ADD COLUMN greatest_average double precision;
COMMENT ON COLUMN livedex.cursors.chunks IS 'How many chunks of this shard are searchable.';
COMMENT ON COLUMN livedex.cursors.terms_length IS 'How many terms they have, by weight; divided by chunks: the average length.';
COMMENT ON COLUMN livedex.cursors.least_average IS 'The least average length by which terms were weighed.';
COMMENT ON COLUMN livedex.cursors.greatest_average IS 'The greatest such average.';

ALTER TABLE livedex.generations ADD COLUMN functions text;
COMMENT ON COLUMN livedex.generations.functions IS 'Digest of the functions in the generation''s schema: another version of livedex may have others.';

DROP FUNCTION livedex.move_cursor;
CREATE FUNCTION livedex.move_cursor(of_generation integer, of_shard integer, after bigint, to_seq bigint,
    added bigint, updated bigint, deleted bigint, embedded bigint, inserted bigint, dropped bigint, longer bigint,
    average double precision)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE livedex.cursors c SET seq = to_seq, error = NULL, documents_added = documents_added + added,
        documents_updated = documents_updated + updated, documents_deleted = documents_deleted + deleted,
        texts_embedded = texts_embedded + embedded, chunks_inserted = chunks_inserted + inserted,
        chunks = chunks + inserted - dropped, terms_length = terms_length + longer,
        least_average = least(least_average, average), greatest_average = greatest(greatest_average, average)
    WHERE c.generation = of_generation AND c.shard = of_shard AND c.seq = after;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the cursor of generation %, shard % is no longer at %', of_generation, of_shard, after
            USING ERRCODE = 'LX001';
    END IF;
END $$;
COMMENT ON FUNCTION livedex.move_cursor IS 'Compare-and-swap: a batch that was applied already ends its transaction.';
