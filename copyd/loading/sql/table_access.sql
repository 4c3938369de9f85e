-- table_access: the current role's privileges on a list of tables, and obstacles in the tables.
-- Returns oid, may_* for the whole table, the readable and writable columns, foreign tables and unlogged
-- tables among the partitions, and the rules that would rewrite a run's statements.
SELECT c.oid::bigint,
       pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AS may_enter,
       pg_catalog.row_security_active(c.oid) AS has_row_security,
       pg_catalog.has_table_privilege(c.oid, %(lock)s) AS may_lock,
       pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_delete,
       pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') AS may_truncate,
       a.selectable, a.insertable, a.updatable, p.foreigners, p.unlogged,
       ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r
              WHERE r.ev_class = c.oid AND r.ev_type = ANY (%(ruled)s::"char"[])
                AND r.ev_enabled = ANY (%(enabled)s::"char"[]) ORDER BY 1) AS rules
  FROM pg_catalog.pg_class c
 CROSS JOIN LATERAL (
       SELECT ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
                     WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                       AND pg_catalog.has_column_privilege(c.oid, attnum, 'SELECT')) AS selectable,
              ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
                     WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                       AND pg_catalog.has_column_privilege(c.oid, attnum, 'INSERT')) AS insertable,
              ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
                     WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                       AND pg_catalog.has_column_privilege(c.oid, attnum, 'UPDATE')) AS updatable
 ) AS a
 CROSS JOIN LATERAL (
       SELECT ARRAY(SELECT t.relid::pg_catalog.text FROM pg_catalog.pg_partition_tree(c.oid) AS t
                      JOIN pg_catalog.pg_class l ON l.oid = t.relid
                     WHERE l.relkind = 'f' ORDER BY 1) AS foreigners,
              ARRAY(SELECT t.relid::pg_catalog.text FROM pg_catalog.pg_partition_tree(c.oid) AS t
                      JOIN pg_catalog.pg_class l ON l.oid = t.relid
                     WHERE l.relkind = 'r' AND l.relpersistence = 'u' ORDER BY 1) AS unlogged
 ) AS p
 WHERE c.oid = ANY (%(oids)s::oid[])
