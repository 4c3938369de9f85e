-- types: the given types and, recursively, their elements, fields, base types and subtypes.
-- Returns a row of pg_type each: element only for a true array; fields of a composite; labels of an
-- enum; subtype of a range.
-- multirange: pg_range.rngmultitypid from PostgreSQL 14 on, else NULL.
WITH RECURSIVE inside(oid) AS (
    SELECT o FROM pg_catalog.unnest(%(oids)s::oid[]) AS o
    UNION
    SELECT part.oid
      FROM inside JOIN pg_catalog.pg_type t ON t.oid = inside.oid
      LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid OR {multirange} = t.oid
     CROSS JOIN LATERAL (
           SELECT t.typelem UNION ALL SELECT t.typbasetype UNION ALL SELECT r.rngsubtype
           UNION ALL
           SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
     ) AS part(oid)
)
SELECT t.oid::bigint, n.nspname AS schema, t.typname AS name, t.typtype::text AS kind,
       t.typcategory::text AS category, pg_catalog.format_type(t.oid, NULL) AS written,
       t.typsend::oid <> '0' AND t.typreceive::oid <> '0' AS has_binary,
       e.oid::bigint AS element, t.typbasetype::bigint AS base, r.rngsubtype::bigint AS subtype,
       f.names AS field_names, f.types AS field_types,
       ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l
              WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder) AS labels
  FROM inside
  JOIN pg_catalog.pg_type t ON t.oid = inside.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid OR {multirange} = t.oid
 CROSS JOIN LATERAL (
       SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS names,
              pg_catalog.array_agg(a.atttypid::bigint ORDER BY a.attnum) AS types
         FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
 ) AS f
