//! The threads that read: each task sees one snapshot, and the clock is read after the snapshot was taken.

use onceward_core::Result;
use rusqlite::Connection;

use super::task::Task;
use super::{Shared, failure};

/// Works until the store is closed and everything is done.
pub(crate) fn run(connection: &Connection, shared: &Shared) {
    while let Some(mut task) = shared.reads.next() {
        if task.is_abandoned() {
            continue;
        }
        let together = read(connection, shared, task.as_mut());
        task.answer(together);
    }
}

fn read(connection: &Connection, shared: &Shared, task: &mut dyn Task) -> Result<()> {
    if let Some(place) = &shared.place {
        place.verify()?;
    }
    snapshot(connection).map_err(failure::failed)?;
    // What is read is now at the latest: nothing in it lies in the future.
    let now = shared.clocks.now();
    task.run(connection, &now);
    shared.counted.transaction(task.rows());
    let ended = connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    ended.map(|_| ()).map_err(failure::failed)
}

/// Begins a transaction and takes its snapshot, which BEGIN alone does not.
fn snapshot(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let first = connection.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")?.query_row([], |_| Ok(()));
    match first {
        Ok(()) | Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        Err(error) => {
            super::transaction::rollback(connection);
            Err(error)
        }
    }
}
