-- server: where we are: PostgreSQL's version, the role, the database.
SELECT pg_catalog.current_setting('server_version'), current_user::text,
       pg_catalog.current_database()::text
