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

-- name: take_average
-- The average length of now, by which all terms of a generation will have been weighed, within a tolerance, once those
-- that were not are weighed anew. What is being written goes first, and what is written from now on is by such an average.
UPDATE livedex.cursors c SET least_average = s.average / (1 + %(tolerance)s),
    greatest_average = s.average * (1 + %(tolerance)s)
FROM (SELECT sum(terms_length)::double precision / nullif(sum(chunks), 0) AS average FROM livedex.cursors
      WHERE generation = %(generation)s) AS s
WHERE c.generation = %(generation)s RETURNING s.average;

-- name: weighed_otherwise
SELECT t.ctid::text AS place, t.chunk, t.length, t.norm, sparsevec_send(t.weights) AS weights FROM {g}.terms t
CROSS JOIN LATERAL (SELECT t.norm / (%(k1)s * (1 - %(b)s + %(b)s * t.length / %(average)s)) AS ratio) AS r
WHERE r.ratio NOT BETWEEN 1 / (1 + %(tolerance)s) AND 1 + %(tolerance)s LIMIT %(limit)s;

-- name: weigh_anew
-- An update, unlike everywhere else: there is no text index yet, and whoever deletes a row meanwhile finds it. A row that
-- was written anew meanwhile stands in another place; its terms are others, and by the average of now already.
WITH weighed AS (
    UPDATE {g}.terms t SET norm = n.norm, weights = n.weights
    FROM unnest(%(places)s::tid[], %(chunks)b::bigint[], %(norms)b::float8[], %(weights)b::sparsevec[])
        AS n(place, chunk, norm, weights)
    WHERE t.ctid = n.place AND t.chunk = n.chunk
)
INSERT INTO {g}.frequencies (term, delta, heaviest)
SELECT term, 0, heaviest FROM unnest(%(terms)s::integer[], %(heaviest)s::real[]) AS w(term, heaviest)
WHERE heaviest > %(least_heaviest)s;
