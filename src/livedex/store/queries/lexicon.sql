-- name: lexemes
-- What a dictionary makes of some words: nothing of a stop word; a word it does not know stays as it is.
SELECT asked.form, livedex.term_number(said.lexeme, (SELECT term_seed FROM livedex.store)), said.lexeme
FROM unnest(%(forms)s::text[]) AS asked(form)
CROSS JOIN LATERAL unnest(coalesce(ts_lexize(%(dictionary)s::regdictionary, asked.form), ARRAY[asked.form])) AS said(lexeme)
WHERE said.lexeme <> '';

-- name: fold
-- Add up what a generation's shards have appended to the statistics of its frequent terms.
WITH many AS MATERIALIZED (
    SELECT term FROM {g}.frequencies GROUP BY term HAVING count(*) > 8
), appended AS (
    DELETE FROM {g}.frequencies f USING many WHERE f.term = many.term RETURNING f.term, f.delta, f.heaviest
)
INSERT INTO {g}.frequencies (term, delta, heaviest)
SELECT term, sum(delta), max(heaviest) FROM appended GROUP BY term HAVING sum(delta) <> 0;

-- name: drift
-- How far a generation's chunks have grown or shrunk, in terms, since its indexes were built.
SELECT g.average_length AS built_with,
    (SELECT sum(c.terms_length)::double precision / nullif(sum(c.chunks), 0) FROM livedex.cursors c
     WHERE c.generation = g.generation) AS average_length
FROM livedex.generations g WHERE g.generation = %(generation)s;
