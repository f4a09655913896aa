DROP TABLE onceward_once;
