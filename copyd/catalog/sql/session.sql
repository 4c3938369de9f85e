-- session: the role's own search path, and our backend: pid and backend_start.
SELECT pg_catalog.current_setting('search_path'), pid, backend_start
  FROM pg_catalog.pg_stat_activity
 WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
