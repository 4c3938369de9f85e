-- ledger_facts: the facts that decide whether the ledger's table can be trusted; always one row.
-- No owner: the schema or table does not exist. A writer of NULL is PUBLIC.
-- columns are spelled as in ledger_table.sql, so that the two can be compared as texts.
-- Triggers of foreign keys count too: ours has none, and a foreign key of others would block our rows.
SELECT current_user::pg_catalog.text AS role,
       pg_catalog.current_database()::pg_catalog.text AS database,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
       pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text AS schema_owner,
       ARRAY(SELECT CASE WHEN grantee <> 0 THEN pg_catalog.pg_get_userbyid(grantee) END
               FROM pg_catalog.aclexplode(n.nspacl)
              WHERE privilege_type = 'CREATE' AND grantee <> n.nspowner
            )::pg_catalog.text[] AS schema_writers,
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text AS table_owner,
       ARRAY(SELECT CASE WHEN grantee <> 0 THEN pg_catalog.pg_get_userbyid(grantee) END
               FROM (SELECT g.grantee, g.privilege_type FROM pg_catalog.aclexplode(c.relacl) AS g
                      UNION
                     SELECT g.grantee, g.privilege_type FROM pg_catalog.pg_attribute AS a,
                            pg_catalog.aclexplode(a.attacl) AS g
                      WHERE a.attrelid = c.oid) AS granted
              WHERE privilege_type <> 'SELECT' AND grantee <> c.relowner
            )::pg_catalog.text[] AS table_writers,
       c.relkind = 'r' AND c.relpersistence = 'p' AND c.reloftype = 0 AS is_plain,
       EXISTS (SELECT FROM pg_catalog.pg_inherits
                WHERE c.oid IN (inhrelid, inhparent)) AS has_relatives,
       EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid) AS has_trigger,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid) AS has_rule,
       c.relrowsecurity OR c.relforcerowsecurity
         OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = c.oid) AS has_policy,
       EXISTS (SELECT FROM pg_catalog.pg_constraint
                WHERE conrelid = c.oid AND contype NOT IN ('p', 'n')) AS has_constraint,
       EXISTS (SELECT FROM pg_catalog.pg_statistic_ext WHERE stxrelid = c.oid) AS has_statistics,
       ARRAY(SELECT indisprimary AND indisvalid AND indkey::pg_catalog.text = '1 2'
               FROM pg_catalog.pg_index WHERE indrelid = c.oid) AS indexes,
       ARRAY(SELECT pg_catalog.concat(
                      a.attname, ' ', tn.nspname, '.', t.typname,
                      CASE WHEN a.atttypmod <> -1 THEN ' modified' END,
                      CASE WHEN a.attcollation <> t.typcollation
                           THEN pg_catalog.concat(' COLLATE ', ln.nspname, '.',
                                                  pg_catalog.quote_ident(l.collname)) END,
                      CASE WHEN a.attnotnull THEN ' NOT NULL' END,
                      CASE WHEN a.atthasdef THEN ' DEFAULT' END,
                      CASE WHEN a.attidentity <> '' THEN ' IDENTITY' END)
               FROM pg_catalog.pg_attribute AS a
               JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
               JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.typnamespace
               LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
               LEFT JOIN pg_catalog.pg_namespace AS ln ON ln.oid = l.collnamespace
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS columns,
       pg_catalog.obj_description(c.oid, 'pg_class') AS comment
  FROM (VALUES (%(schema)s::pg_catalog.text, %(name)s::pg_catalog.text)) AS wanted (schema, name)
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema
  LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name
