-- ledger_table: the ledger, one row for each table that copyd loads.
-- One line for each column: copyd reads names and types here, and compares them with those of an
-- existing ledger (see ledger_facts.sql). Only the key is NOT NULL: a row may be locked before the first
-- load. COLLATE "C", because an update of the operating system can break an index in another collation.
CREATE TABLE {table} (
    schema pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    name pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    relation pg_catalog.int8,
    transfer pg_catalog.text,
    run pg_catalog.text,
    previous_run pg_catalog.text,
    system_identifier pg_catalog.int8,
    timeline pg_catalog.int8,
    lsn pg_catalog.pg_lsn,
    snapshot pg_catalog.text,
    horizon pg_catalog.int8,
    full_horizon pg_catalog.int8,
    mark pg_catalog.text,
    filenode pg_catalog.int8,
    rows pg_catalog.int8,
    size pg_catalog.int8,
    format pg_catalog.text,
    fingerprint pg_catalog.text,
    committed_at pg_catalog.timestamptz,
    full_at pg_catalog.timestamptz,
    after_commit_done pg_catalog.bool,
    PRIMARY KEY (schema, name)
)
