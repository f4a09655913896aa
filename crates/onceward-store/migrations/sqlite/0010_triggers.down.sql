DROP INDEX onceward_term_running;
DROP TABLE onceward_trigger_heard;
DROP TABLE onceward_trigger_watch;
DROP TABLE onceward_trigger;
