-- 0008: endpoints, the receivers of webhooks that have a name. See docs/decisions/015-endpoints.md.

-- What an endpoint is set to, what it is signed with, and how it is doing, as one text that no statement looks into.
-- Written under a version. Its secrets are encrypted in there. What has happened to it stands in the history.
CREATE TABLE {schema}.endpoint (
    namespace  text   COLLATE "C" NOT NULL,
    name       text   COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    definition text   NOT NULL,
    PRIMARY KEY (namespace, name)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
