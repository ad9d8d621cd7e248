-- name: terminate_expired
-- A holder whose time is over but whose connection still stands may be frozen within a transaction.
SELECT pg_terminate_backend(l.backend_pid, 5000)
FROM livedex.leases l JOIN pg_stat_activity a ON a.pid = l.backend_pid AND a.backend_start = l.backend_start
WHERE l.resource = %(resource)s AND l.expires_at < clock_timestamp() AND l.backend_pid <> pg_backend_pid();

-- name: wait_briefly
-- Whoever holds a lease and writes keeps its row locked for a moment.
SET LOCAL lock_timeout = '200ms';

-- name: acquire
-- A new lease, or one that has expired or whose holder's connection is gone.
INSERT INTO livedex.leases AS l (resource, owner, epoch, expires_at, backend_pid, backend_start)
SELECT %(resource)s, %(owner)s, 1, clock_timestamp() + make_interval(secs => %(seconds)s), pg_backend_pid(),
    (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
ON CONFLICT (resource) DO UPDATE SET owner = excluded.owner, epoch = l.epoch + 1, expires_at = excluded.expires_at,
    backend_pid = excluded.backend_pid, backend_start = excluded.backend_start
WHERE l.expires_at < clock_timestamp() OR NOT EXISTS (
    SELECT FROM pg_stat_activity a WHERE a.pid = l.backend_pid AND a.backend_start = l.backend_start)
RETURNING epoch;

-- name: release
UPDATE livedex.leases SET expires_at = '-infinity' WHERE resource = %(resource)s AND epoch = %(epoch)s;

-- name: renew
SELECT livedex.hold(%(resource)s, %(epoch)s, %(seconds)s);

-- name: held
SELECT resource, owner FROM livedex.leases l WHERE l.expires_at >= clock_timestamp() AND EXISTS (
    SELECT FROM pg_stat_activity a WHERE a.pid = l.backend_pid AND a.backend_start = l.backend_start);
