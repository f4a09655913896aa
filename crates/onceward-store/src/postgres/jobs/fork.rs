//! Starting runs with a part of the journals of others.

use onceward_core::Result;
use onceward_core::run::Entry;

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, Instant};
use super::enqueue::route_of;
use super::rows::kept_type;
use super::runs::int;
use crate::store::ForkRun;

/// Something that belongs to a run, and the place of that in the arrays, from 1.
type Of<T> = (i32, T);

impl Inner {
    pub(super) async fn run_fork(&self, batch: &[ForkRun]) -> Result<bool> {
        // Two batches meet in the same order and never wait for each other in a circle (N33).
        let mut runs: Vec<&ForkRun> = batch.iter().collect();
        runs.sort_by_key(|ask| (ask.run.id, &ask.run.namespace));
        let of = |ask: fn(&ForkRun) -> &str| runs.iter().map(|run| ask(run)).collect::<Vec<_>>();
        let without: Vec<Of<u32>> = each(&runs, |ask| ask.without.iter().copied());
        let instead: Vec<Of<&(u32, Vec<u8>)>> = each(&runs, |ask| ask.instead.iter());
        let more: Vec<Of<&Entry>> = each(&runs, |ask| ask.more.iter());
        let params: &[Param<'_>] = &[
            &of(|ask| ask.run.namespace.as_str()),
            &runs.iter().map(|ask| ask.run.id.as_uuid()).collect::<Vec<_>>(),
            &runs.iter().map(|ask| ask.of.as_uuid()).collect::<Vec<_>>(),
            &runs.iter().map(|ask| int(ask.until)).collect::<Vec<_>>(),
            &of(|ask| ask.run.kind.as_str()),
            &of(|ask| ask.run.queue.as_str()),
            &runs.iter().map(|ask| ask.run.priority).collect::<Vec<_>>(),
            &runs.iter().map(|ask| ask.run.payload.bytes.as_slice()).collect::<Vec<_>>(),
            &runs.iter().map(|ask| kept_type(&ask.run.payload.content_type)).collect::<Vec<_>>(),
            &runs.iter().map(|ask| ask.run.spec().to_text()).collect::<Vec<_>>(),
            &runs.iter().map(|ask| route_of(&ask.run)).collect::<Vec<_>>(),
            &runs.iter().map(|ask| ask.run.ordering_key.as_ref().map(|key| key.as_str())).collect::<Vec<_>>(),
            &numbers(&without),
            &without.iter().map(|(_, seq)| int(*seq)).collect::<Vec<_>>(),
            &numbers(&instead),
            &instead.iter().map(|(_, (seq, _))| int(*seq)).collect::<Vec<_>>(),
            &instead.iter().map(|(_, (_, data))| data.as_slice()).collect::<Vec<_>>(),
            &numbers(&more),
            &more.iter().map(|(_, entry)| Instant(entry.at)).collect::<Vec<_>>(),
            &more.iter().map(|(_, entry)| entry.position.as_str()).collect::<Vec<_>>(),
            &more.iter().map(|(_, entry)| entry.op.as_str()).collect::<Vec<_>>(),
            &more.iter().map(|(_, entry)| entry.phase.word()).collect::<Vec<_>>(),
            &more.iter().map(|(_, entry)| entry.name.as_str()).collect::<Vec<_>>(),
            &more.iter().map(|(_, entry)| entry.phase.row_data()).collect::<Vec<_>>(),
            &runs.iter().map(|ask| ask.by.get()).collect::<Vec<_>>(),
        ];
        let call = Call { verb: "run.fork", statement: &self.sql.run_fork, params, rows: runs.len() };
        let mut is_there = true;
        for row in Link::idlest(&self.begin).write(&call).await? {
            let mut columns = Columns::of(&row);
            columns.skip(1);
            is_there &= columns.get::<bool>()?;
        }
        if is_there {
            self.tell_queues(runs.iter().map(|ask| (ask.run.namespace.clone(), ask.run.queue.clone())));
            if runs.iter().any(|ask| ask.run.ordering_key.is_some()) {
                self.admit_soon().await;
            }
        }
        Ok(is_there)
    }
}

/// What belongs to the runs, with the place of its run.
fn each<'a, T, I: Iterator<Item = T> + 'a>(
    runs: &[&'a ForkRun],
    part: impl Fn(&'a ForkRun) -> I,
) -> Vec<Of<T>> {
    (1..).zip(runs).flat_map(|(n, ask)| part(ask).map(move |item| (n, item))).collect()
}

fn numbers<T>(parts: &[Of<T>]) -> Vec<i32> {
    parts.iter().map(|(of, _)| *of).collect()
}
