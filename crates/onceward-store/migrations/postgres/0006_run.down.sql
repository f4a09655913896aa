DROP TABLE {schema}.run_inbox;
DROP TABLE {schema}.run_journal;
