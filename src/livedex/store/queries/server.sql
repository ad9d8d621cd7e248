-- name: database_exists
-- Whether the embedded server has the store's database yet.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'livedex');

-- name: create_database
-- The store's database on a new embedded server.
CREATE DATABASE livedex;
