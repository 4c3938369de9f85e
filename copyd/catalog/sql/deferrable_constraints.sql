-- deferrable_constraints: the constraints of one table whose check may wait for COMMIT.
-- Returns schema, name. Foreign keys count only where foreign_keys is true.
SELECT DISTINCT n.nspname, k.conname
  FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n
    ON n.oid OPERATOR(pg_catalog.=) k.connamespace
 WHERE k.conrelid OPERATOR(pg_catalog.=) %(oid)s AND k.condeferrable
   AND (%(foreign_keys)s OR k.contype OPERATOR(pg_catalog.<>) 'f')
