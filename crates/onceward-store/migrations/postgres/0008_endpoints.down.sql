DROP TABLE {schema}.endpoint;
