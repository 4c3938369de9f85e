-- snapshot: the snapshot of this very statement, in the order of Snapshot's fields.
-- Returns its name for other sessions, text, xmin, xmax, the time, the age in seconds of the oldest
-- transaction that writes, whether this is a standby, and the time of the data (Unix time).
-- export: pg_export_snapshot(), or NULL where no other session is to see it.
SELECT {export}, pg_catalog.pg_current_snapshot()::text,
       pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint,
       pg_catalog.statement_timestamp()::text,
       (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - min(xact_start))::float8
          FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL),
       pg_catalog.pg_is_in_recovery(),
       extract(epoch FROM CASE WHEN pg_catalog.pg_is_in_recovery()
                               THEN pg_catalog.pg_last_xact_replay_timestamp()
                               ELSE pg_catalog.statement_timestamp() END)::float8
