-- columns: the columns of relations, in their order.
-- Returns relation, name, type, written (the type as SQL), number, is_generated, identity, is_required.
-- is_required: NOT NULL with no default, no identity, and no default of a domain to fill it.
SELECT a.attrelid::bigint AS relation, a.attname AS name, a.atttypid::bigint AS type,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS written, a.attnum::integer AS number,
       a.attgenerated <> '' AS is_generated, a.attidentity::text AS identity,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
         AS is_required
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
