//! What a run shows to whoever looks at it: counters, values, how far it is.
//!
//! It is no part of the journal: the code says it again each time it comes by, and so it comes out the same. The driver
//! writes down what it has come to, now and then, as the progress of the run's job.

use onceward_core::{Code, Error, Result, limits};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ambient::peek;
use super::run::Run;

/// What a run shows, and whether that is news.
#[derive(Default)]
pub(super) struct Report {
    shown: Map<String, Value>,
    news: bool,
}

impl Report {
    /// What is to be written down now, if anything.
    pub(super) fn take_news(&mut self) -> Option<Value> {
        core::mem::take(&mut self.news).then(|| Value::Object(self.shown.clone()))
    }

    pub(super) fn is_news(&self) -> bool {
        self.news
    }

    /// Shows something; refused where all of it would be too long.
    fn show(&mut self, key: &str, value: Value) -> Result<()> {
        let before = self.shown.insert(key.to_owned(), value);
        let bytes = serde_json::to_vec(&self.shown).map_or(usize::MAX, |bytes| bytes.len());
        if bytes > limits::PROGRESS_BYTES_MAX {
            match before {
                Some(before) => drop(self.shown.insert(key.to_owned(), before)),
                None => drop(self.shown.remove(key)),
            }
            let max = limits::PROGRESS_BYTES_MAX;
            let why = format!("with this the run would show {bytes} bytes; {max} is the most");
            return Err(Error::new(Code::ProgressInvalid, why));
        }
        self.news |= before.as_ref() != self.shown.get(key);
        Ok(())
    }

    fn count(&mut self, key: &str, more: i64) -> Result<i64> {
        let count = self.shown.get(key).and_then(Value::as_i64).unwrap_or_default().saturating_add(more);
        self.show(key, count.into()).map(|()| count)
    }
}

/// Shows a value to whoever looks at the run: [`RunHandle::report`](super::RunHandle::report), `onceward runs show`,
/// `onceward runs watch`. All that a run shows may have 4 KiB as JSON.
///
/// It costs no entry in the journal. What is shown is written down now and then, and at the latest before the run is
/// parked; it is forgotten when the run has succeeded.
///
/// ```
/// use onceward::durable::{AnyError, count, progress, report, step};
///
/// #[onceward::durable]
/// async fn import(files: Vec<String>) -> Result<i64, AnyError> {
///     let (mut lines, all) = (0, files.len() as u64);
///     for (done, file) in (0..).zip(files) {
///         report("file", &file)?;
///         lines = count("lines", step("read", || async { Ok::<i64, AnyError>(10) }).await?)?;
///         progress(done + 1, all)?;
///     }
///     Ok(lines)
/// }
/// ```
///
/// # Errors
/// [`RunAbsent`](Code::RunAbsent) outside of a durable function and in the body of a step;
/// [`ProgressInvalid`](Code::ProgressInvalid) for what is no JSON or too long.
pub fn report(key: &str, value: &impl Serialize) -> Result<()> {
    let value = serde_json::to_value(value).map_err(|error| {
        Error::new(Code::ProgressInvalid, "what the run shows can't be written as JSON").with_source(error)
    })?;
    peek()?.0.with_report(|report| report.show(key, value))
}

/// Adds to a counter that the run shows; what it has come to.
///
/// # Errors
/// As [`report`].
pub fn count(key: &str, more: i64) -> Result<i64> {
    peek()?.0.with_report(|report| report.count(key, more))
}

/// Shows how much of the work is done: `onceward runs watch` draws it.
///
/// # Errors
/// As [`report`].
pub fn progress(done: u64, of: u64) -> Result<()> {
    peek()?.0.with_report(|report| report.show(PROGRESS, json!({ "done": done, "of": of })))
}

/// The key of [`progress`].
const PROGRESS: &str = "progress";

impl Run {
    fn with_report<T>(&self, change: impl FnOnce(&mut Report) -> Result<T>) -> Result<T> {
        change(&mut self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_again_is_no_news_and_what_is_too_long_changes_nothing() {
        let mut report = Report::default();
        report.show("file", "a.csv".into()).unwrap();
        assert_eq!(report.count("lines", 2).unwrap(), 2);
        assert_eq!(report.count("lines", 3).unwrap(), 5);
        assert_eq!(report.take_news(), Some(json!({ "file": "a.csv", "lines": 5 })));
        report.show("file", "a.csv".into()).unwrap();
        assert_eq!(report.take_news(), None);
        let long = "x".repeat(limits::PROGRESS_BYTES_MAX);
        assert_eq!(report.show("file", long.clone().into()).unwrap_err().code(), Code::ProgressInvalid);
        assert_eq!(report.show("more", long.into()).unwrap_err().code(), Code::ProgressInvalid);
        assert!(!report.is_news() && report.shown.len() == 2 && report.shown["file"] == "a.csv");
    }
}
