//! Renewing: leases and once claims alike, on a connection of its own.

use onceward_core::Result;

use super::Inner;
use super::link::Call;
use super::live::Param;
use super::row::Columns;
use super::statements::Statement;
use crate::store::{ClaimRef, Renew};

impl Inner {
    pub(super) async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let [namespaces, keys] = names(batch);
        let params: [Param<'_>; 5] = [
            &namespaces,
            &keys,
            &column(batch, |claim| i64::from(claim.slot)),
            &column(batch, |claim| claim.token.get()),
            &column(batch, |claim| claim.session.as_uuid()),
        ];
        let statements = [&self.sql.lease_renew, &self.sql.lease_renew_seen];
        self.renew("lease.renew", statements, &params, batch.len()).await
    }

    pub(super) async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let [namespaces, keys] = names(batch);
        let params: [Param<'_>; 4] = [
            &namespaces,
            &keys,
            &column(batch, |claim| claim.token.get()),
            &column(batch, |claim| claim.session.as_uuid()),
        ];
        let statements = [&self.sql.once_renew, &self.sql.once_renew_seen];
        self.renew("once.renew", statements, &params, batch.len()).await
    }

    async fn renew(
        &self,
        verb: &'static str,
        [renew, seen]: [&Statement; 2],
        params: &[Param<'_>],
        count: usize,
    ) -> Result<Vec<Renew>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut answers = vec![Renew::Lost; count];
        let mut renewed = 0;
        for row in self.renew.write(&Call { verb, statement: renew, params, rows: count }).await? {
            let mut columns = Columns::of(&row);
            if let Some(answer) = answer_of(&mut answers, columns.get()?) {
                *answer = Renew::Until(columns.time()?);
                renewed += 1;
            }
        }
        if renewed < count {
            // Lost, or passed over because somebody had locked the row: a fresh look tells.
            for row in self.renew.read(&Call { verb, statement: seen, params, rows: count }).await? {
                match answer_of(&mut answers, Columns::of(&row).get()?) {
                    Some(answer) if *answer == Renew::Lost => *answer = Renew::Busy,
                    _ => {}
                }
            }
        }
        Ok(answers)
    }
}

fn names(batch: &[ClaimRef]) -> [Vec<&str>; 2] {
    let namespaces = batch.iter().map(|claim| claim.namespace.as_str()).collect();
    [namespaces, batch.iter().map(|claim| claim.key.as_str()).collect()]
}

fn column<V>(batch: &[ClaimRef], value: impl Fn(&ClaimRef) -> V) -> Vec<V> {
    batch.iter().map(value).collect()
}

/// The answer that belongs to a place in the arrays, counted from 1.
fn answer_of(answers: &mut [Renew], n: i64) -> Option<&mut Renew> {
    answers.get_mut(usize::try_from(n).ok()?.checked_sub(1)?)
}
