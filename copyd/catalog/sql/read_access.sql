-- read_access: the current role's privileges on a relation of the source; no row if it was dropped.
-- Returns role, may_enter, may_lock, has_row_security, unreadable (columns).
-- lock: the privileges any of which allows LOCK TABLE ... IN ACCESS SHARE MODE.
SELECT current_user::text AS role,
       pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AS may_enter,
       pg_catalog.has_table_privilege(c.oid, %(lock)s) AS may_lock,
       pg_catalog.row_security_active(c.oid) AS has_row_security,
       ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
              WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                AND NOT pg_catalog.has_column_privilege(c.oid, attnum, 'SELECT')) AS unreadable
  FROM pg_catalog.pg_class c WHERE c.oid = %(oid)s::oid
