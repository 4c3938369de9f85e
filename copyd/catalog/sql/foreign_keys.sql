-- foreign_keys: the enforced foreign keys from and to a list of tables.
-- Returns referencing, referenced, action (confdeltype), is_deferrable, name, {schema, table}.
-- Foreign keys of a partition count as its root's, if the root is in the list. Keys inherited from a
-- key of the root are left out.
-- is_enforced: pg_constraint.conenforced from PostgreSQL 18 on, else true.
WITH asked AS (SELECT o AS oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS o),
     member AS (
       SELECT oid, oid AS root FROM asked
       UNION
       SELECT p.relid::oid, asked.oid FROM asked, pg_catalog.pg_partition_tree(asked.oid) AS p
     ),
     found AS (
       SELECT k.oid, k.conparentid, k.conname, k.confdeltype, k.condeferrable,
              COALESCE(f.root, k.conrelid) AS referencing,
              COALESCE(t.root, k.confrelid) AS referenced
         FROM pg_catalog.pg_constraint k
         LEFT JOIN member f ON f.oid = k.conrelid
         LEFT JOIN member t ON t.oid = k.confrelid
        WHERE k.contype = 'f' AND (f.oid IS NOT NULL OR t.oid IS NOT NULL) AND {is_enforced}
     )
SELECT k.referencing::bigint, k.referenced::bigint, k.confdeltype::text, k.condeferrable,
       k.conname, ARRAY[fn.nspname, fc.relname]::text[]
  FROM found k
  JOIN pg_catalog.pg_class fc ON fc.oid = k.referencing
  JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
 WHERE NOT EXISTS (SELECT FROM found u WHERE u.oid = k.conparentid
                      AND u.referencing = k.referencing AND u.referenced = k.referenced)
 ORDER BY fn.nspname, fc.relname, k.conname
