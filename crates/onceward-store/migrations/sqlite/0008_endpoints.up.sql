-- Endpoints, the receivers of webhooks that have a name: as on PostgreSQL.
CREATE TABLE onceward_endpoint (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
