-- deferrable_constraints: the deferrable constraints of a table.
-- Returns schema, name. Foreign keys only if foreign_keys is true.
SELECT DISTINCT n.nspname, k.conname
  FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n
    ON n.oid OPERATOR(pg_catalog.=) k.connamespace
 WHERE k.conrelid OPERATOR(pg_catalog.=) %(oid)s AND k.condeferrable
   AND (%(foreign_keys)s OR k.contype OPERATOR(pg_catalog.<>) 'f')
