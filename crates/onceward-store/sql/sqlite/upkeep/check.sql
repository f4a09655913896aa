-- check: what the file says about itself, at start and whenever somebody asks.
--
-- tables        The tables of ours that exist.
-- migrations    What the file has seen, in order.
-- applied       ?1 version, ?2 name, ?3 checksum, ?4 wall clock now.
-- undone        ?1 version.
-- meta          The clocks of the last opener.
-- opened        ?1 boot_id, ?2 boottime, ?3 wall clock. The first opener, or the first after a start of the host, is
--               believed about the offset of the wall clock.
-- doubt         ?1 wall_offset, ?2 doubted_offset, ?3 doubted_since.
-- touch         Changes a page, by a microsecond nobody minds (SQLite writes nothing where nothing changes): what a
--               failed commit may have left in the log is overwritten.
-- newest_token  The largest token of all leases, sessions, and claims of jobs.
-- triggers      Triggers on tables of ours.

-- step: tables
SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name LIKE 'onceward\_%' ESCAPE '\'

-- step: migrations
SELECT version, name, checksum, applied_at FROM onceward_migration ORDER BY version

-- step: applied
INSERT INTO onceward_migration (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)

-- step: undone
DELETE FROM onceward_migration WHERE version = ?1

-- step: meta
SELECT boot_id, boottime, wall, wall_offset, doubted_offset, doubted_since FROM onceward_meta WHERE id = 1

-- step: opened
INSERT INTO onceward_meta (id, boot_id, boottime, wall, wall_offset) VALUES (1, ?1, ?2, ?3, ?3 - ?2)
ON CONFLICT (id) DO UPDATE
SET wall_offset = CASE WHEN boot_id = ?1 THEN wall_offset ELSE ?3 - ?2 END,
    doubted_offset = CASE WHEN boot_id = ?1 THEN doubted_offset END,
    doubted_since = CASE WHEN boot_id = ?1 THEN doubted_since END,
    boot_id = ?1,
    boottime = ?2,
    wall = ?3

-- step: doubt
UPDATE onceward_meta SET wall_offset = ?1, doubted_offset = ?2, doubted_since = ?3 WHERE id = 1

-- step: touch
UPDATE onceward_meta SET wall = wall + 1 WHERE id = 1

-- step: newest_token
SELECT max(token)
FROM (
    SELECT max(token) AS token FROM onceward_lease
    UNION ALL
    SELECT max(token) FROM onceward_session
    UNION ALL
    SELECT max(token) FROM onceward_job_claim
)

-- step: triggers
SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'onceward\_%' ESCAPE '\'
