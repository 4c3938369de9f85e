-- type_names: types, each with its modifier, as SQL; in the order of the two arrays.
SELECT pg_catalog.format_type(t.oid, t.modifier)
  FROM ROWS FROM (pg_catalog.unnest(%s::oid[]), pg_catalog.unnest(%s::integer[]))
       WITH ORDINALITY AS t(oid, modifier, position)
 ORDER BY t.position
