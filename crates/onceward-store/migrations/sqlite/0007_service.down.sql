DROP TABLE onceward_schedule;
DROP TABLE onceward_term;
DROP TABLE onceward_service;
