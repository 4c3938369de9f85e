-- other_destinations: the tables of a list that another destination of this run has claimed.
-- Takes an advisory lock for each table: the run's random number plus the oid. Whoever of two
-- sessions in one database comes second does not get it.
SELECT o FROM pg_catalog.unnest(%s::bigint[]) AS o
 WHERE NOT pg_catalog.pg_try_advisory_xact_lock(%s::bigint + o)
