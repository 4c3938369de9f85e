-- role: the current role and its rights in this database. Every role can read pg_roles.
-- Returns name, is_superuser, database, may_stage (create temporary tables).
SELECT current_user::text AS name, r.rolsuper AS is_superuser,
       pg_catalog.current_database()::text AS database,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') AS may_stage
  FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
