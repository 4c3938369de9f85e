-- oids: the relations with the given names, written as in SQL, on the search path.
-- Returns name, oid; 0 if there is no such relation.
SELECT name, COALESCE(pg_catalog.to_regclass(name)::oid, '0'::oid)::bigint
  FROM pg_catalog.unnest(%s::text[]) AS name
