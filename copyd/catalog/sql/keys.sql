-- keys: the unique keys of tables which identify a row, the primary key first, then the shortest.
-- Returns relation, columns, the schemas and names of their = operators, is_primary.
-- Strategy 3 of a B-tree is =. An index with another collation than the column's has another idea of
-- equal values. From PostgreSQL 18 on NOT NULL may be NOT VALID, so that there may be NULLs.
-- Source: PostgreSQL documentation, "pg_index", "B-Tree Support Functions", "ALTER TABLE".
SELECT i.indrelid::bigint, k.columns, k.schemas, k.operators, i.indisprimary
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
 CROSS JOIN LATERAL (
       SELECT pg_catalog.array_agg(a.attname::text ORDER BY p) AS columns,
              pg_catalog.array_agg(n.nspname::text ORDER BY p) AS schemas,
              pg_catalog.array_agg(o.oprname::text ORDER BY p) AS operators,
              pg_catalog.bool_and(a.attnotnull AND a.attcollation = i.indcollation[p]
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint v
                                   WHERE v.conrelid = a.attrelid AND v.contype = 'n'
                                     AND a.attnum = ANY (v.conkey) AND NOT v.convalidated)
              ) AS is_usable
         FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS p
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p]
         JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[p]
         JOIN pg_catalog.pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3
              AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
         JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
         JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 ) AS k
 WHERE i.indrelid = ANY (%s::oid[]) AND i.indisunique AND i.indisvalid AND i.indimmediate
   AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL AND k.is_usable
 ORDER BY i.indrelid, NOT i.indisprimary, pg_catalog.cardinality(k.columns), x.relname
