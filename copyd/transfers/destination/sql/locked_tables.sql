-- locked_tables: the tables of a list that one session has locked; for the session that holds the
-- source, what the run reads.
SELECT relation::bigint FROM pg_catalog.pg_locks
 WHERE locktype = 'relation' AND pid = %s AND relation = ANY (%s::oid[])
