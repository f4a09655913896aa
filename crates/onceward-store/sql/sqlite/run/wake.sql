-- run.wake: the runs for which something has arrived that they don't know of. What follows is decided in Rust.

SELECT DISTINCT namespace, run FROM onceward_run_inbox INDEXED BY onceward_run_inbox_new WHERE noted = 0
