-- names: every relation of some kinds (relkind), by name.
-- Returns oid, schema, name, kind, persistence, and the parent of a partition, else NULL.
-- A child by plain inheritance is no partition, hence relispartition.
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       (SELECT i.inhparent FROM pg_catalog.pg_inherits i
         WHERE c.relispartition AND i.inhrelid = c.oid)::bigint
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = ANY (%s::"char"[])
 ORDER BY n.nspname, c.relname
