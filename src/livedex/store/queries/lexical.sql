-- name: create_function
-- The chunks that BM25 ranks highest, and its scores for those in `beside` whatever their rank.
--
-- The text index proposes chunks that hold rare terms: the rarest first, about `bound` chunks, then more, until no other
-- chunk could be among the `certain` best. Without any term looked up so far, a chunk scores at most the sum of what the
-- other terms give where they weigh heaviest. If that sum would not do without some of them, only chunks that hold all
-- of these are left to propose. Weights in `terms` are from an earlier average length, so proposals are ordered by them
-- and the best scored anew with the average of now; those after them too, if the difference could have put any of them
-- among the `certain` best. By how much a score can have grown is `stretch`, by how much two can have moved `slack`.
--
-- `within`: only these documents, which are visible; else visibility is judged here. `everything`: no index.
CREATE FUNCTION {g}.lexical(of_generation integer, k1 double precision, b double precision, lexemes text[],
    numbers integer[], occurrences integer[], beside bigint[], within bigint[], of_sources integer[],
    for_tenants text[], for_principals text[], accepted jsonb, narrows boolean, wanted integer, certain integer,
    bound double precision, everything boolean, max_ages interval[])
RETURNS TABLE (chunk bigint, score double precision, proposed boolean)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    chunks double precision;
    average double precision;
    stretch double precision;
    slack double precision;
    rare text[];
    frequencies double precision[];
    gains double precision[];
    most double precision[];
    units sparsevec[];
    asked sparsevec;
    looked_up integer;
    next_up integer;
    rest double precision;
    enough double precision;
    certain_rank integer := certain;
    complete boolean;
    look tsquery;
    depth integer := wanted + 28;
    room integer := depth;
    found bigint[];
    distances double precision[];
    owners bigint[];
    ranks integer[];
    visible bigint[];
    visible_distances double precision[];
    cut_off double precision;
    best bigint[];
    scores double precision[];
BEGIN
    SELECT c.chunks, c.average, greatest(1, c.average / c.least_average),
        greatest(1, c.average / c.least_average) * greatest(1, c.greatest_average / c.average)
    INTO chunks, average, stretch, slack FROM (
        SELECT sum(s.chunks) AS chunks, greatest(1, sum(s.terms_length) / nullif(sum(s.chunks), 0)::double precision)
            AS average, min(s.least_average) AS least_average, max(s.greatest_average) AS greatest_average
        FROM livedex.cursors s WHERE s.generation = of_generation) AS c;
    everything := everything OR (SELECT v.indexed_at IS NULL FROM livedex.generations v WHERE v.generation = of_generation);

    -- Of a long query, the terms that say most. From here on the rarest first.
    SELECT array_agg(q.lexeme ORDER BY q.frequency, q.number), array_agg(q.frequency ORDER BY q.frequency, q.number),
        array_agg(q.gain ORDER BY q.frequency, q.number),
        array_agg(q.gain * q.heaviest * slack ORDER BY q.frequency, q.number),
        array_agg(format('{%s:1}/1000000000', q.number)::sparsevec ORDER BY q.frequency, q.number),
        ('{' || string_agg(q.number || ':' || q.gain, ',') || '}/1000000000')::sparsevec
    INTO rare, frequencies, gains, most, units, asked
    FROM (
        SELECT u.lexeme, u.number, f.frequency, f.heaviest,
            u.times * ln(1 + (greatest(chunks - f.frequency, 0) + 0.5) / (f.frequency + 0.5)) AS gain
        FROM unnest(lexemes, numbers, occurrences) AS u(lexeme, number, times)
        CROSS JOIN LATERAL (
            SELECT sum(d.delta)::double precision AS frequency,
                greatest({least_heaviest} / 100.0, max(d.heaviest))::double precision AS heaviest
            FROM {g}.frequencies d WHERE d.term = u.number) AS f
        WHERE f.frequency > 0 ORDER BY gain DESC, u.number LIMIT {most_terms}
    ) AS q;
    IF rare IS NULL THEN
        RETURN;
    END IF;

    IF narrows AND within IS NULL THEN
        room := 4 * room;
    END IF;
    LOOP
        IF within IS NOT NULL THEN
            SELECT array_agg(s.chunk), array_agg(s.distance) INTO found, distances FROM (
                SELECT t.chunk, t.weights <#> asked AS distance FROM {g}.terms t
                WHERE t.document = ANY(within) AND t.weights <#> asked < 0
                ORDER BY t.weights <#> asked, t.chunk LIMIT room) AS s;
            visible := found;
            visible_distances := distances;
        ELSE
            looked_up := 0;
            found := NULL;
            distances := NULL;
            owners := NULL;
            complete := true;
            IF everything THEN
                looked_up := cardinality(rare);
                SELECT array_agg(s.chunk), array_agg(s.distance), array_agg(s.document)
                INTO found, distances, owners FROM (
                    SELECT t.chunk, t.weights <#> asked AS distance, t.document FROM {g}.terms t
                    WHERE t.weights <#> asked < 0 ORDER BY t.weights <#> asked, t.chunk LIMIT room) AS s;
            END IF;
            WHILE looked_up < cardinality(rare) LOOP
                rest := (SELECT sum(m) FROM unnest(most[looked_up + 1:]) AS m);
                enough := coalesce(-distances[certain_rank], 0);
                IF rest <= enough THEN
                    complete := false;
                    EXIT;
                END IF;
                SELECT string_agg(quote_literal(r.lexeme), '&')::tsquery INTO look
                FROM unnest(rare[looked_up + 1:], most[looked_up + 1:]) AS r(lexeme, most) WHERE rest - r.most < enough;
                next_up := cardinality(rare);
                IF look IS NOT NULL THEN
                    complete := false;
                ELSE
                    next_up := looked_up + 1;
                    WHILE next_up < cardinality(rare)
                        AND (SELECT sum(f) FROM unnest(frequencies[looked_up + 1:next_up + 1]) AS f) <= bound LOOP
                        next_up := next_up + 1;
                    END LOOP;
                    SELECT string_agg(quote_literal(r), '|')::tsquery INTO look
                    FROM unnest(rare[looked_up + 1:next_up]) AS r;
                END IF;
                SELECT array_agg(s.chunk), array_agg(s.distance), array_agg(s.document)
                INTO found, distances, owners FROM (
                    SELECT r.chunk, r.distance, r.document
                    FROM unnest(found, distances, owners) AS r(chunk, distance, document)
                    UNION
                    (SELECT t.chunk, t.weights <#> asked, t.document FROM {g}.terms t WHERE t.tsv @@ look
                     ORDER BY t.weights <#> asked, t.chunk LIMIT room)
                    ORDER BY distance, chunk LIMIT room) AS s;
                looked_up := next_up;
            END LOOP;
            SELECT array_agg(s.chunk), array_agg(s.rank), array_agg(distances[s.rank])
            INTO visible, ranks, visible_distances FROM ({visible}) AS s;
            IF NOT (complete OR coalesce(ranks[certain] <= certain_rank, false))
                OR coalesce(cardinality(found), 0) = room AND coalesce(cardinality(visible), 0) < wanted THEN
                -- Too many are hidden: again, with more room, and so that enough are certain of those that are not.
                certain_rank := greatest(certain_rank, coalesce(ranks[certain], 2147483647));
                IF coalesce(cardinality(found), 0) = room AND coalesce(cardinality(visible), 0) < wanted THEN
                    room := room * least(16, 2 + wanted / greatest(1, coalesce(cardinality(visible), 0)));
                END IF;
                CONTINUE;
            END IF;
        END IF;
        SELECT array_agg(s.chunk ORDER BY s.score DESC, s.chunk), array_agg(s.score ORDER BY s.score DESC, s.chunk)
        INTO best, scores FROM ({scored_proposals}) AS s;
        cut_off := CASE WHEN cardinality(visible) > depth THEN -visible_distances[depth]
                        WHEN cardinality(found) = room THEN -distances[room] END;
        EXIT WHEN cut_off IS NULL OR stretch * cut_off <= coalesce(scores[certain], 0);
        depth := 4 * depth;
        room := greatest(depth, 4 * room);
    END LOOP;

    best := best[:wanted + 28];
    RETURN QUERY
        SELECT b.chunk, b.score, true FROM unnest(best, scores[:wanted + 28]) AS b(chunk, score)
        UNION ALL
        SELECT s.chunk, s.score, false FROM ({scored_beside}) AS s WHERE best IS NULL OR NOT s.chunk = ANY(best);
END $$;

-- name: scored
SELECT s.chunk, sum(u.gain * w.times / (w.times + s.norm_now)) AS score
FROM (SELECT t.chunk, t.norm, t.weights, k1 * (1 - b + b * t.length / average) AS norm_now FROM {g}.terms t
      WHERE t.chunk = ANY({these}) OFFSET 0) AS s
CROSS JOIN LATERAL (
    SELECT n.gain, -(s.weights <#> n.unit) AS weight FROM unnest(units, gains) AS n(unit, gain) OFFSET 0) AS u
CROSS JOIN LATERAL (SELECT round(u.weight * s.norm / (1 - u.weight)) AS times) AS w
WHERE u.weight > 0
GROUP BY s.chunk

-- name: visible
SELECT f.chunk, f.rank::integer FROM unnest(found, owners) WITH ORDINALITY AS f(chunk, document, rank)
CROSS JOIN LATERAL (
    SELECT FROM livedex.documents d
    WHERE d.document = f.document AND NOT d.deleted AND d.source_id = ANY(of_sources) AND d.tenant = ANY(for_tenants)
        AND d.acl && for_principals
        AND (max_ages IS NULL OR coalesce(d.updated_at, d.source_time, 'infinity') > coalesce(
            now() - max_ages[array_position(of_sources, d.source_id)], '-infinity'))
        AND (accepted = '{}' OR NOT EXISTS (SELECT FROM jsonb_each(accepted) AS f(name, allowed_values)
                        WHERE NOT coalesce(f.allowed_values ? (d.metadata ->> f.name), false)
                            AND NOT coalesce(jsonb_typeof(d.metadata -> f.name) = 'array' AND d.metadata -> f.name
                                ?| ARRAY(SELECT jsonb_array_elements_text(f.allowed_values)), false)))
    OFFSET 0) AS allowed
ORDER BY f.rank
