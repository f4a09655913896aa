//! Whether a job is left that a worker waits for which runs until nothing is.

use onceward_core::job::{self, Spec};
use onceward_core::{Kind, Queue};
use rusqlite::{Params, Result, params};

use super::super::statements::SQL;
use super::Jobs;
use super::rows::job as job_id;
use crate::Outstanding;

impl Jobs<'_> {
    /// Looks where jobs wait, and then at what runs.
    pub(super) fn outstanding(&self, ask: &Outstanding) -> Result<bool> {
        let mut open = Vec::new();
        for queue in &ask.queues {
            if !self.is_closed(&ask.namespace, queue)?.0 {
                open.push(queue);
            }
        }
        for queue in &open {
            if self.is_in_a_lane(ask, queue)? || self.is_later(ask, queue)? {
                return Ok(true);
            }
        }
        let held = self.any(SQL.outstanding_held, [ask.namespace.as_str()], |queue, kind, spec| {
            open.iter().any(|open| open.as_str() == queue) && counts(ask, kind, spec)
        })?;
        Ok(held || self.is_running(ask)?)
    }

    fn is_in_a_lane(&self, ask: &Outstanding, queue: &Queue) -> Result<bool> {
        let wanted = |kind: &Kind, route: &str| ask.kinds.contains(kind) && job::may_take(route, &ask.tags);
        let mut found = false;
        self.each_lane(&ask.namespace, queue, |kind, route, _| {
            found = wanted(&kind, route);
            !found
        })?;
        Ok(found)
    }

    fn is_later(&self, ask: &Outstanding, queue: &Queue) -> Result<bool> {
        let until = self.now.wall.after(ask.horizon).as_micros();
        let of = params![ask.namespace.as_str(), queue.as_str(), until];
        self.any(SQL.outstanding_later, of, |_, kind, spec| counts(ask, kind, spec))
    }

    fn is_running(&self, ask: &Outstanding) -> Result<bool> {
        for claim in self.claims()?.into_iter().filter(|claim| claim.namespace == ask.namespace) {
            for id in claim.jobs {
                let of = params![ask.namespace.as_str(), job_id(id), claim.token.get()];
                let runs = self.any(SQL.outstanding_runs, of, |queue, kind, spec| {
                    ask.queues.iter().any(|asked| asked.as_str() == queue) && counts(ask, kind, spec)
                })?;
                if runs {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether one of a statement's rows of queue, kind and spec counts.
    fn any(
        &self,
        statement: &str,
        of: impl Params,
        counts: impl Fn(&str, &str, Option<&str>) -> bool,
    ) -> Result<bool> {
        let mut read = self.at.prepare_cached(statement)?;
        let mut rows = read.query(of)?;
        while let Some(row) = rows.next()? {
            let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null()?);
            if let (Some(queue), Some(kind)) = (text(0)?, text(1)?)
                && counts(queue, kind, text(2)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a job is one that the worker can run.
fn counts(ask: &Outstanding, kind: &str, spec: Option<&str>) -> bool {
    let tags = Spec::from_text(spec).tags;
    ask.kinds.iter().any(|asked| asked.as_str() == kind) && job::may_take(&job::route(&tags), &ask.tags)
}
