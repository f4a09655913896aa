//! The audit: what the card company charged, against what the store says.

use onceward::store::Snapshot;
use onceward::{Code, Error, Onceward, Result, limits};
use onceward_core::once::{Record, State};
use serde::Serialize;

use super::checkout::payment;
use super::ledger::Ledger;

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) payments: u32,
    pub(super) done: usize,
    pub(super) uncertain_before: usize,
    pub(super) uncertain_after: usize,
    pub(super) double_charged: usize,
    pub(super) stale_refused: usize,
    pub(super) seconds: f64,
    /// Checkouts that came to their end.
    pub(super) checkouts: usize,
    /// Webhooks that were received; each counts once.
    pub(super) webhooks: usize,
    /// Workers that were killed.
    pub(super) killed: usize,
}

impl Report {
    /// Whether the demo has shown what it is there to show.
    pub(super) fn holds(&self) -> bool {
        self.why_not().is_empty()
    }

    /// What it has not shown.
    pub(super) fn why_not(&self) -> String {
        let failures = [
            (self.double_charged > 0, "a payment was charged twice"),
            (
                self.done < self.payments as usize,
                "a payment was not done, or its record and its charge differ",
            ),
            (self.checkouts < self.payments as usize, "a checkout did not come to its end"),
            (self.webhooks < self.payments as usize, "a webhook was lost"),
            (self.uncertain_after > 0, "a payment is still uncertain"),
            (self.uncertain_before == 0, "no worker was caught in the middle: run it again"),
            (self.stale_refused == 0, "no late outcome of the paused worker was refused: run it again"),
            (self.payments < 100, "fewer than 100 payments show nothing"),
        ];
        let failed: Vec<_> = failures.iter().filter(|(failed, _)| *failed).map(|(_, why)| *why).collect();
        failed.join("; ")
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Recorded as done, and charged exactly once by the charge that is recorded.
    pub(super) done: usize,
    pub(super) uncertain: usize,
    pub(super) paid_once: usize,
    pub(super) double_charged: usize,
    /// Charged, and not recorded as done.
    pub(super) unrecorded: usize,
    /// Recorded as done, and not charged.
    pub(super) unpaid: usize,
    /// A payment worth looking at.
    pub(super) example: String,
}

/// Counts.
pub(super) async fn audit(ow: &Onceward, ledger: &Ledger, payments: u32) -> Result<Audit> {
    let charges = ledger
        .charges()
        .map_err(|error| Error::new(Code::AuditFailed, "the ledger can't be read").with_source(error))?;
    let mut audit = Audit {
        paid_once: charges.values().filter(|charges| charges.len() == 1).count(),
        double_charged: charges.values().filter(|charges| charges.len() > 1).count(),
        example: payment(0),
        ..Audit::default()
    };
    let keys: Vec<String> = (0..payments).map(payment).collect();
    for page in keys.chunks(limits::PAGE_ROWS_MAX) {
        let seen: Snapshot<Option<Record>> = ow.admin().once_many(page).await?;
        for (key, row) in page.iter().zip(seen.rows) {
            let charged = charges.get(key).map(Vec::as_slice).unwrap_or_default();
            let state = row.as_ref().map(|row| row.state_at(seen.now));
            let recorded =
                row.as_ref().and_then(|row| row.body.as_ref()).and_then(|body| body.bytes.as_deref());
            let recorded = recorded.and_then(|bytes| serde_json::from_slice::<String>(bytes).ok());
            match (state, charged) {
                (Some(State::Done), [charge]) if recorded.as_ref() == Some(charge) => audit.done += 1,
                (Some(State::Done), []) => audit.unpaid += 1,
                (Some(State::Done), _) => {}
                (Some(State::Uncertain), _) => audit.uncertain += 1,
                (_, [_, ..]) => audit.unrecorded += 1,
                _ => {}
            }
            if row.is_some_and(|row| row.attempts > 1) {
                audit.example.clone_from(key);
            }
        }
    }
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: Report = Report {
        payments: 100,
        done: 100,
        uncertain_before: 1,
        uncertain_after: 0,
        double_charged: 0,
        stale_refused: 1,
        seconds: 1.0,
        checkouts: 100,
        webhooks: 100,
        killed: 5,
    };

    #[test]
    fn the_audit_holds_only_if_everything_was_shown() {
        assert!(HOLDS.holds());
        let falls_short = [
            Report { payments: 99, done: 99, ..HOLDS },
            Report { done: 99, ..HOLDS },
            Report { uncertain_before: 0, ..HOLDS },
            Report { uncertain_after: 1, ..HOLDS },
            Report { double_charged: 1, ..HOLDS },
            Report { stale_refused: 0, ..HOLDS },
            Report { checkouts: 99, ..HOLDS },
            Report { webhooks: 99, ..HOLDS },
        ];
        for report in falls_short {
            assert!(!report.holds() && !report.why_not().is_empty(), "{report:?}");
        }
    }
}
