DROP TABLE onceward_endpoint;
