-- Undoes 0002, and the history of what it forgets.
DROP TABLE {schema}.once;
DROP TABLE {schema}.upkeep;
DELETE FROM {schema}.history WHERE subject = 'once';
