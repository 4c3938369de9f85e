-- relations: a row for each existing relation of a list of oids.
-- Returns oid, schema, name, kind (relkind), persistence, filenode, estimated_rows.
-- A partitioned table has no file of its own: its filenode is a digest of those of its leaves, so
-- that a TRUNCATE or rewrite of any of them shows. Rows are estimated as the planner does it, by
-- density and present size (PostgreSQL source, estimate_rel_size).
-- Operands have the exact types of pg_catalog's operators, so that no search path offers a better match.
SELECT c.oid::bigint, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat(
                           p.relid::oid, '/', pg_catalog.pg_relation_filenode(p.relid)),
                           ',' ORDER BY p.relid::oid), 0::bigint)
                    FROM pg_catalog.pg_partition_tree(c.oid) AS p WHERE p.isleaf)
            ELSE pg_catalog.pg_relation_filenode(c.oid)::bigint
       END AS filenode,
       CASE WHEN c.reltuples > 0::real AND c.relpages > 0
            THEN (c.reltuples::float8 / c.relpages::float8
                  * (pg_catalog.pg_relation_size(c.oid)
                     / pg_catalog.current_setting('block_size')::bigint)::float8)::bigint
       END AS estimated_rows
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%s::oid[])
