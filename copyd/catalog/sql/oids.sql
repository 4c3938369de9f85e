-- oids: the relations that names, written as in SQL, stand for on the search path.
-- Returns name, oid; 0 where there is no such relation.
SELECT name, COALESCE(pg_catalog.to_regclass(name)::oid, '0'::oid)::bigint
  FROM pg_catalog.unnest(%s::text[]) AS name
