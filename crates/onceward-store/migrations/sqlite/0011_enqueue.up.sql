-- Functions of PostgreSQL; SQLite has none. What can be said of a job there is told in docs/guides/outbox-sqlite.md.
SELECT 1;
