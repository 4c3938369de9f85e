-- names: all relations of the given kinds (relkind), ordered by name.
-- Returns oid, schema, name, kind, persistence, and the parent of a partition, else NULL.
-- relispartition, because a child table by plain inheritance is not a partition.
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       (SELECT i.inhparent FROM pg_catalog.pg_inherits i
         WHERE c.relispartition AND i.inhrelid = c.oid)::bigint
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = ANY (%s::"char"[])
 ORDER BY n.nspname, c.relname
