DROP TABLE onceward_run_inbox;
DROP TABLE onceward_run_journal;
