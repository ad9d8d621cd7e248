-- name: known
SELECT column_name, type FROM livedex.source_columns WHERE source_id = %(source_id)s AND table_name = %(table)s;

-- name: note
-- Said once, however often it is seen.
INSERT INTO livedex.schema_changes (source_id, table_name, column_name, kind, was, became, mapped, resolved_at)
SELECT %(source_id)s, %(table)s, column_name, kind, was, became, mapped, CASE WHEN NOT stops THEN clock_timestamp() END
FROM jsonb_to_recordset(%(changes)s) AS c(column_name text, kind text, was text, became text, mapped boolean, stops boolean)
ON CONFLICT (source_id, table_name, column_name) WHERE resolved_at IS NULL
    DO UPDATE SET kind = excluded.kind, became = excluded.became;

-- name: resolve
-- Everything of the table but these columns is as it was when it was read.
UPDATE livedex.schema_changes SET resolved_at = clock_timestamp()
WHERE source_id = %(source_id)s AND table_name = %(table)s AND resolved_at IS NULL
    AND column_name <> ALL(%(still)s::text[]);

-- name: forget_columns
DELETE FROM livedex.source_columns WHERE source_id = %(source_id)s AND table_name = %(table)s
    AND column_name <> ALL(%(keep)s::text[]);

-- name: learn_columns
INSERT INTO livedex.source_columns (source_id, table_name, column_name, type)
SELECT %(source_id)s, %(table)s, key, value FROM jsonb_each_text(%(columns)s)
ON CONFLICT (source_id, table_name, column_name) DO UPDATE SET type = excluded.type;

-- name: changes
SELECT table_name AS "table", column_name AS "column", kind, was, became, mapped, seen_at, resolved_at
FROM livedex.schema_changes WHERE source_id = %(source_id)s ORDER BY schema_change_id DESC LIMIT %(limit)s;
