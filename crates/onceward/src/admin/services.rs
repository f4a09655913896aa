//! Looking at services, runners and schedules, and intervening.

use std::collections::BTreeMap;

use onceward_core::schedule::Schedule;
use onceward_core::service::{Mode, Outcome, Runner, Setting, Term, order};
use onceward_core::session::About;
use onceward_core::{Code, Error, JobId, Result, ScheduleName, ServiceName, SessionId, Timestamp, limits};
use onceward_store::{
    ListSchedules, ListedSchedules, ListedServices, LookService, PruneTerms, ServiceView, Snapshot,
};

use serde::Serialize;

use super::Admin;
use crate::schedule::{self, Backfill};
use crate::service::change;

/// A process that runs services, with what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedRunner {
    /// The process.
    #[serde(flatten)]
    pub runner: Runner,
    /// The services of the namespace that it runs.
    pub services: Vec<String>,
    /// The version of the program; empty where it says none.
    pub version: String,
    /// The kinds of jobs that it has handlers for, if it is a worker as well.
    pub kinds: Vec<String>,
    /// What it offers to jobs with tags.
    pub tags: Vec<String>,
}

impl Admin {
    /// The services of this namespace, by name. One that can't be read is named, and hides none of the others.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn services(&self) -> Result<ListedServices> {
        self.client.store().service_list(&self.client.namespace).await
    }

    /// A service as it stands: what it is set to, its runners in their order, its newest terms, who has its lease.
    ///
    /// # Errors
    /// [`ServiceUnknown`](Code::ServiceUnknown), and those of an unreachable store.
    pub async fn service(&self, name: &ServiceName, terms: usize) -> Result<ServiceView> {
        let ask = LookService { namespace: self.client.namespace.clone(), name: name.clone(), terms };
        let mut view = self.client.store().service_look(&ask).await?;
        if view.record.is_none() {
            return Err(self.no_service(name));
        }
        view.runners = order(view.runners, view.now);
        // A term without its lease is over, although nobody has written that down yet.
        let held = view.held;
        for term in &mut view.terms {
            if term.outcome == Outcome::Running && held.is_none_or(|held| held.token != term.token) {
                term.outcome = Outcome::Lost;
            }
        }
        Ok(view)
    }

    /// The newest terms of a service, missed cycles included.
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub async fn service_history(&self, name: &ServiceName, terms: usize) -> Result<Vec<Term>> {
        self.service(name, terms).await.map(|view| view.terms)
    }

    /// Lets no more terms of a service begin; one that runs goes on. `false` if it was paused before.
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub async fn pause_service(&self, name: &ServiceName, reason: Option<&str>) -> Result<bool> {
        let by = self.client.owner.clone();
        let to = |setting: &Setting, now| Ok(setting.paused(&by, reason.map(str::to_owned), now));
        self.change_service(name, to).await
    }

    /// Ends a pause. What was missed during it is not made up for. `false` if it was not paused.
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub async fn resume_service(&self, name: &ServiceName) -> Result<bool> {
        self.change_service(name, |setting, now| Ok(setting.resumed(now))).await
    }

    /// Asks for a term beside the cycles, as soon as a runner is free, also while the service is paused. Those that are
    /// asked for while others wait are all run, one after the other.
    ///
    /// # Errors
    /// As [`service`](Self::service); [`RunsWaiting`](Code::RunsWaiting) where 16 of them wait;
    /// [`UsageInvalid`](Code::UsageInvalid) for a leader, who runs all the time.
    pub async fn run_service_now(&self, name: &ServiceName) -> Result<()> {
        if self.service(name, 1).await?.record.is_some_and(|row| row.setting.spec.mode == Mode::Leader) {
            let why = format!("{:?} is a leader: it runs all the time", name.as_str());
            return Err(Error::new(Code::UsageInvalid, why));
        }
        let by = self.client.owner.clone();
        self.change_service(name, |setting, now| setting.run_now(&by, now).map(Some)).await.map(drop)
    }

    async fn change_service(
        &self,
        name: &ServiceName,
        to: impl Fn(&Setting, Timestamp) -> Result<Option<Setting>> + Send + Sync,
    ) -> Result<bool> {
        self.client.check_open()?;
        change(&self.client, name, |setting, now| match setting {
            Some(setting) => to(setting, now),
            None => Err(self.no_service(name)),
        })
        .await
    }

    fn no_service(&self, name: &ServiceName) -> Error {
        let namespace = self.client.namespace.as_str();
        let why = format!("there is no service {:?} in the namespace {namespace:?}", name.as_str());
        Error::new(Code::ServiceUnknown, why)
    }

    /// The processes that run services of this namespace, in their order, each with what it says of itself.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn runners(&self) -> Result<Snapshot<ListedRunner>> {
        let seen = self.client.store().session_list().await?;
        let namespace = self.client.namespace.as_str();
        let runners = seen.rows.into_iter().filter_map(|row| {
            let About { kinds, tags, version, services, .. } = row.about;
            let services = services.into_iter().filter(|(of, _)| of == namespace);
            let services: Vec<String> = services.map(|(_, name)| name).collect();
            let runner = Runner {
                session: row.id,
                owner: row.owner,
                started_at: row.started_at,
                seen_at: row.seen_at,
                expires_at: row.expires_at,
                draining: row.draining,
            };
            (!services.is_empty()).then_some(ListedRunner { runner, services, version, kinds, tags })
        });
        Ok(Snapshot { now: seen.now, rows: runners.collect() })
    }

    /// Of each runner that has run a service lately, the last term that it began: one of the newest 500.
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub async fn last_terms(&self, name: &ServiceName) -> Result<BTreeMap<SessionId, Term>> {
        let mut last = BTreeMap::new();
        for term in self.service_history(name, limits::PAGE_ROWS_MAX).await? {
            let Some(session) = term.session.filter(|_| term.was_begun()) else { continue };
            let newest = last.entry(session).or_insert_with(|| term.clone());
            if newest.started_at < term.started_at {
                *newest = term;
            }
        }
        Ok(last)
    }

    /// Asks a runner to begin no more terms, or to begin some again; `false` if there is no such one.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn drain_runner(&self, runner: SessionId, draining: bool) -> Result<bool> {
        self.client.store().session_drain(runner, draining).await
    }

    /// Forgets old terms; how many.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune_terms(&self, ask: &PruneTerms) -> Result<u64> {
        self.client.store().service_prune(ask).await
    }

    /// The schedules of this namespace, by name: a page. Rows that can't be read are named beside the others:
    /// nothing is enqueued of these, which stop nobody else's; remove them, or declare them again once they are
    /// gone.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn schedules(&self, after: Option<&ScheduleName>, limit: usize) -> Result<ListedSchedules> {
        let namespace = self.client.namespace.clone();
        let ask = ListSchedules { namespace, name: None, after: after.cloned(), limit };
        self.client.store().schedule_list(&ask).await
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`ScheduleUnknown`](Code::ScheduleUnknown), [`RowUnreadable`](Code::RowUnreadable), and those of an
    /// unreachable store.
    pub async fn schedule(&self, name: &ScheduleName) -> Result<Schedule> {
        schedule::lookup(&self.client, name).await.map(|(row, _)| row)
    }

    /// Lets a schedule enqueue nothing; `false` if it was paused before.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule), and [`ScheduleMoved`](Code::ScheduleMoved).
    pub async fn pause_schedule(&self, name: &ScheduleName, reason: Option<&str>) -> Result<bool> {
        let by = self.client.owner.clone();
        let to = |row: &Schedule, now| Ok(row.paused(&by, reason.map(str::to_owned), now));
        self.change_schedule(name, to).await
    }

    /// Ends a pause. Ticks that came during it are not made up for: that is what
    /// [`backfill_schedule`](Self::backfill_schedule) is for. `false` if it was not paused.
    ///
    /// # Errors
    /// As [`pause_schedule`](Self::pause_schedule).
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool> {
        self.change_schedule(name, |row, now| Ok(row.resumed(now))).await
    }

    async fn change_schedule(
        &self,
        name: &ScheduleName,
        to: impl Fn(&Schedule, Timestamp) -> Result<Option<Schedule>> + Send + Sync,
    ) -> Result<bool> {
        schedule::lookup(&self.client, name).await?;
        let changed = schedule::change(&self.client, name, |row, now| match row {
            Some(row) => Ok(to(row, now)?.map(|row| (row, Vec::new()))),
            None => Err(Error::new(Code::ScheduleUnknown, "the schedule has just been removed")),
        });
        Ok(changed.await?.is_some())
    }

    /// Enqueues the job of a schedule now, beside its ticks, also while it is paused and whatever of it runs. The next
    /// tick meets it as it meets the job of the last one: see [`Overlap`](onceward_core::schedule::Overlap).
    ///
    /// # Errors
    /// As [`pause_schedule`](Self::pause_schedule).
    pub async fn trigger_schedule(&self, name: &ScheduleName) -> Result<JobId> {
        schedule::lookup(&self.client, name).await?;
        let triggered = |row: Option<&Schedule>, now| match row {
            Some(row) => {
                let (row, job) = row.triggered(now);
                Ok(Some((row, vec![job])))
            }
            None => Err(Error::new(Code::ScheduleUnknown, "the schedule has just been removed")),
        };
        let written = schedule::change(&self.client, name, triggered).await?;
        let job = written.and_then(|row| row.by_hand.last().map(|last| last.job));
        job.ok_or_else(|| Error::new(Code::ScheduleMoved, "the schedule has just been changed"))
    }

    /// Enqueues the ticks of a range in the past of which there is no job; with `dry_run` only says which those are.
    /// A tick whose job was forgotten by now counts as one without.
    ///
    /// # Errors
    /// [`BackfillInvalid`](Code::BackfillInvalid), and as [`pause_schedule`](Self::pause_schedule).
    pub async fn backfill_schedule(
        &self,
        name: &ScheduleName,
        from: Timestamp,
        until: Timestamp,
        dry_run: bool,
    ) -> Result<Backfill> {
        schedule::backfill(&self.client, name, (from, until), dry_run).await
    }

    /// Removes a schedule, also one that can't be read; its jobs stay.
    ///
    /// # Errors
    /// As [`pause_schedule`](Self::pause_schedule).
    pub async fn remove_schedule(&self, name: &ScheduleName) -> Result<()> {
        schedule::remove(&self.client, name).await
    }
}
