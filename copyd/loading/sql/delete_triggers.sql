-- delete_triggers: for each table, the triggers that can make DELETE skip a row.
-- Returns oid, names; no row for a table without triggers. Triggers of partitions are included.
-- tgtype 11: before (2), for each row (1), on DELETE (8).
SELECT m.root::bigint, pg_catalog.array_agg(DISTINCT g.tgname::text ORDER BY g.tgname::text)
  FROM pg_catalog.pg_trigger g
  JOIN (SELECT o AS root, o AS oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS o
         UNION
        SELECT o, p.relid::oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS o,
               pg_catalog.pg_partition_tree(o) AS p) AS m ON m.oid = g.tgrelid
 WHERE g.tgenabled = ANY (%(enabled)s::"char"[]) AND g.tgtype::integer & 11 = 11
 GROUP BY m.root
