DROP TABLE {schema}.schedule;
DROP TABLE {schema}.term;
DROP TABLE {schema}.service;
