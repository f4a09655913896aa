DROP INDEX {schema}.term_running;
DROP TABLE {schema}.trigger_heard;
DROP TABLE {schema}.trigger_watch;
DROP TABLE {schema}.trigger;
