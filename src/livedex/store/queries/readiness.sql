-- name: look
-- Who we are here, what the clock says, and what we may create. An extension can be created by a superuser, or, when
-- it is trusted, by whoever may create in the database.
SELECT current_user::text AS role, current_database()::text AS database, current_setting('server_version') AS version,
    clock_timestamp() AS clock, pg_is_in_recovery() AS standby,
    to_regnamespace('livedex') IS NOT NULL AS has_schema,
    has_database_privilege(current_database(), 'CREATE') AS may_create,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR has_database_privilege(current_database(), 'CREATE')
           AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND trusted)
        AS may_create_vector;
