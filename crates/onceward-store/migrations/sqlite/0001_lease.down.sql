DROP TABLE onceward_history;
DROP TABLE onceward_lease_waiter;
DROP TABLE onceward_lease;
DROP TABLE onceward_meta;
DROP TABLE onceward_migration;
