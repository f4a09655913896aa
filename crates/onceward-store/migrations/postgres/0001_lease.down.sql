-- Undoes 0001. The schema stays: whoever made it may have granted rights on it.
DROP FUNCTION {schema}.fence(text, text, bigint);
DROP TABLE {schema}.history;
DROP TABLE {schema}.lease_waiter;
DROP TABLE {schema}.lease;
DROP TABLE {schema}.migration;
