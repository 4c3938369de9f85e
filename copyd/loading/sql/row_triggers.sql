-- row_triggers: names of the triggers that fire for each row written to a table.
-- tgtype: 1 for each row; 4, 8, 16 on INSERT, DELETE, UPDATE. Triggers of partitions are included; those
-- inherited from the root were internal before PostgreSQL 15, like those of foreign keys.
SELECT g.tgname::text
  FROM pg_catalog.pg_trigger g
 WHERE (g.tgrelid = %(oid)s::oid
        OR g.tgrelid IN (SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(%(oid)s::oid) AS p))
   AND (NOT g.tgisinternal OR (g.tgparentid <> '0' AND g.tgconstrrelid = '0'))
   AND g.tgenabled IN ('O', 'A')
   AND g.tgtype::integer & 1 <> 0 AND g.tgtype::integer & 28 <> 0
 GROUP BY 1 ORDER BY 1
