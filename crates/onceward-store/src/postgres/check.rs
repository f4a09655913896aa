//! The self-check: what the promises stand on, looked at when a store is opened and whenever somebody asks.

use onceward_core::{Code, Error, Result};
use tokio_postgres::Row;

use super::Inner;
use super::lease::only;
use super::link::Call;
use super::live::Param;
use super::row::Columns;
use super::statements::Statement;
use crate::migrate::{self, Applied, POSTGRES};
use crate::store::{Finding, Severity};

/// The oldest version with everything our statements use.
const VERSION_MIN: i64 = 140_000;
/// How far the clock may lie behind the newest grant before somebody should look at it, in seconds.
const CLOCK_BEHIND_MAX: f64 = 300.0;
/// How many leases are looked at for the newest grant: when somebody asks, and whenever a store is opened, which must
/// not take longer the more there are.
const TOKENS_LOOKED_AT: i64 = 1_000_000;
const TOKENS_LOOKED_AT_OPENING: i64 = 1_000;
/// How full the queue of notifications may be; when it is full, commits that notify fail.
const NOTIFICATION_QUEUE_MAX: f64 = 0.5;

const TABLES: [&str; 29] = [
    "endpoint",
    "history",
    "job",
    "job_arrived",
    "job_cancel",
    "job_claim",
    "job_done",
    "job_done_rest",
    "job_gate",
    "job_held",
    "job_key",
    "job_later",
    "job_limit",
    "job_permit",
    "job_queue",
    "job_ready",
    "job_turn",
    "lease",
    "lease_waiter",
    "migration",
    "once",
    "schedule",
    "service",
    "session",
    "term",
    "trigger",
    "trigger_heard",
    "trigger_watch",
    "upkeep",
];

struct Settings {
    version_num: i64,
    version: String,
    encoding: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    in_recovery: bool,
    read_only: String,
    notification_queue: f64,
    has_schema: bool,
    may_use_schema: bool,
    has_migrations: bool,
}

impl Settings {
    fn read(row: &Row) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            version_num: columns.get()?,
            version: columns.get()?,
            encoding: columns.get()?,
            fsync: columns.get()?,
            full_page_writes: columns.get()?,
            synchronous_commit: columns.get()?,
            in_recovery: columns.get()?,
            read_only: columns.get()?,
            notification_queue: columns.get()?,
            has_schema: columns.get()?,
            may_use_schema: columns.get()?,
            has_migrations: columns.get()?,
        })
    }

    fn findings(&self) -> Vec<Finding> {
        let read_only = self.in_recovery || self.read_only == "on";
        let writes = if read_only { "refused: a standby, or read-only" } else { "accepted" };
        let queue = format!("{:.0} % full", self.notification_queue * 100.0);
        let behind = self.notification_queue > NOTIFICATION_QUEUE_MAX;
        vec![
            check("version", &self.version, self.version_num >= VERSION_MIN, Code::PostgresTooOld),
            check("encoding", &self.encoding, self.encoding == "UTF8", Code::EncodingWrong),
            check("fsync", &self.fsync, self.fsync == "on", Code::FsyncOff),
            check("full_page_writes", &self.full_page_writes, self.full_page_writes == "on", Code::FsyncOff),
            synchronous_commit(&self.synchronous_commit),
            check("writes", writes, !read_only, Code::StoreReadOnly),
            // A session somewhere listens inside a transaction that does not end (N35).
            warn("notification queue", queue, behind, Code::StoreBusy),
        ]
    }
}

fn check(check: &'static str, found: impl Into<String>, good: bool, code: Code) -> Finding {
    let severity = if good { Severity::Ok } else { Severity::Error };
    Finding { severity, check, found: found.into(), code: (!good).then_some(code) }
}

/// Decision 24: a commit that is confirmed is on the disk, and on those of the standbys that the server waits for.
fn synchronous_commit(set: &str) -> Finding {
    const CHECK: &str = "synchronous_commit";
    match set {
        "local" => {
            warn(CHECK, "local: a standby may not have it yet".to_owned(), true, Code::CommitNotDurable)
        }
        set => check(CHECK, set, set != "off", Code::CommitNotDurable),
    }
}

fn warn(check: &'static str, found: String, bad: bool, code: Code) -> Finding {
    let severity = if bad { Severity::Warning } else { Severity::Ok };
    Finding { severity, check, found, code: bad.then_some(code) }
}

impl Inner {
    /// Looks at everything.
    pub(super) async fn check(&self) -> Result<Vec<Finding>> {
        self.check_with(TOKENS_LOOKED_AT).await
    }

    async fn check_with(&self, tokens: i64) -> Result<Vec<Finding>> {
        let row = only(self.look(&self.sql.settings, &[]).await?)?;
        let settings = Settings::read(&row)?;
        let mut findings = settings.findings();
        findings.push(self.check_lineage().await);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Ok(findings);
        }
        let schema = self.check_schema(&settings).await?;
        let usable = schema.severity < Severity::Error;
        findings.push(schema);
        if settings.may_use_schema {
            let known = self.check_objects(usable).await?;
            let readable = known.iter().all(|finding| finding.severity < Severity::Error);
            findings.extend(known);
            if usable && readable {
                findings.push(self.check_clock(tokens).await?);
            }
        }
        Ok(findings)
    }

    /// What opening makes of it: the first error stands in the way.
    pub(super) async fn check_at_open(&self, unmigrated: bool) -> Result<()> {
        for finding in self.check_with(TOKENS_LOOKED_AT_OPENING).await? {
            let about_schema = matches!(finding.check, "schema" | "tables" | "rights");
            match finding.severity {
                Severity::Error if unmigrated && about_schema => {}
                Severity::Error => {
                    let code = finding.code.unwrap_or(Code::StoreFailed);
                    return Err(Error::new(code, format!("{}: {}", finding.check, finding.found)));
                }
                Severity::Warning => {
                    tracing::warn!(check = finding.check, found = %finding.found, "onceward store");
                }
                Severity::Ok => {}
            }
        }
        Ok(())
    }

    async fn check_lineage(&self) -> Finding {
        match self.admin.lineage().await {
            Ok(()) if self.dial.lineage.epoch() == 0 => {
                let found =
                    "unknown: this server does not tell; old primaries can't be recognised".to_owned();
                Finding { severity: Severity::Warning, check: "timeline", found, code: None }
            }
            Ok(()) => check("timeline", "the newest this process has seen", true, Code::TimelineBehind),
            Err(error) => check("timeline", error.message(), false, error.code()),
        }
    }

    async fn check_schema(&self, settings: &Settings) -> Result<Finding> {
        if settings.has_schema && !settings.may_use_schema {
            let found = format!("the user lacks USAGE on the schema {}", self.schema);
            return Ok(check("schema", found, false, Code::RightsMissing));
        }
        let applied = match settings.has_migrations {
            true => match self.look(&self.sql.migrations, &[]).await {
                Err(error) if error.code() == Code::RightsMissing => {
                    return Ok(check("schema", error.message(), false, Code::RightsMissing));
                }
                rows => applied(&rows?)?,
            },
            false => Vec::new(),
        };
        Ok(match migrate::compare(POSTGRES, applied) {
            Err(error) => check("schema", error.message(), false, error.code()),
            Ok(status) if status.pending.is_empty() => {
                let found = format!("{} migrations applied, {} ahead", status.applied.len(), status.ahead);
                check("schema", found, true, Code::SchemaBehind)
            }
            Ok(status) => {
                let names: Vec<_> = status.pending.iter().map(|(_, name)| name.as_str()).collect();
                let url = self.url_with_schema();
                let found = format!("lacks {}: run `onceward migrate up --store {url}`", names.join(" and "));
                check("schema", found, false, Code::SchemaBehind)
            }
        })
    }

    async fn check_objects(&self, all_expected: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut missing = Vec::new();
        let tables: &[&str] = &TABLES;
        for row in self.look(&self.sql.objects, &[&tables]).await? {
            let object = Object::read(&row)?;
            if let Some(why) = object.foreign(all_expected) {
                let found = format!("{}.{} {why}", self.schema, object.name);
                findings.push(check("tables", found, false, Code::SchemaObjectForeign));
            }
            // The table of migrations is only read, and the one row of upkeep and of whose turn it is only changed.
            // Partitions are written through their parent.
            let needed: &[&str] = match object.name.as_str() {
                "migration" => &["SELECT"],
                "upkeep" | "job_turn" => &["SELECT", "UPDATE"],
                "job_done" => &["SELECT", "INSERT"],
                "job_done_rest" => &["SELECT", "UPDATE", "DELETE"],
                _ => &["SELECT", "INSERT", "UPDATE", "DELETE"],
            };
            let lacks = object.lacks.filter(|lacks| needed.iter().any(|right| lacks.contains(right)));
            missing.extend(lacks.map(|rights| format!("{rights} on {}.{}", self.schema, object.name)));
        }
        for row in self.look(&self.sql.functions, &[]).await? {
            let name: &str = Columns::of(&row).get()?;
            missing.push(format!("EXECUTE on {}.{name}", self.schema));
        }
        if !missing.is_empty() {
            let found = format!("the user lacks {}", missing.join("; "));
            findings.push(check("rights", found, false, Code::RightsMissing));
        }
        if findings.is_empty() {
            findings.push(check("tables", "ours, and ours alone", true, Code::SchemaObjectForeign));
            findings.push(check("rights", "complete", true, Code::RightsMissing));
        }
        Ok(findings)
    }

    async fn check_clock(&self, rows: i64) -> Result<Finding> {
        let row = only(self.look(&self.sql.tokens, &[&rows]).await?)?;
        let ahead: f64 = Columns::of(&row).get()?;
        let behind = ahead > CLOCK_BEHIND_MAX;
        let found = match behind {
            true => format!("the database clock is {ahead:.0} s behind the newest grant"),
            false => "not behind the newest grant".to_owned(),
        };
        Ok(warn("clock", found, behind, Code::ClockBehind))
    }

    async fn look(&self, statement: &Statement, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.admin.read(&Call { verb: "check", statement, params, rows: 1 }).await
    }
}

/// What is known of a table.
struct Object {
    name: String,
    kind: Option<String>,
    triggers: i64,
    foreign_keys: i64,
    row_security: bool,
    lacks: Option<String>,
}

impl Object {
    fn read(row: &Row) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            name: columns.get()?,
            kind: columns.get()?,
            triggers: columns.get()?,
            foreign_keys: columns.get()?,
            row_security: columns.get()?,
            lacks: columns.get()?,
        })
    }

    /// Why it is not the table we made, if it is not (N46).
    fn foreign(&self, expected: bool) -> Option<String> {
        match self.kind.as_deref() {
            None if expected => Some("is missing".to_owned()),
            None => None,
            Some("r" | "p") if self.triggers > 0 => Some(format!("has {} triggers on it", self.triggers)),
            Some("r" | "p") if self.foreign_keys > 0 => Some("has foreign keys on it".to_owned()),
            Some("r" | "p") if self.row_security => Some("hides rows from us by row security".to_owned()),
            Some("r" | "p") => None,
            Some(kind) => Some(format!("is no table (relkind {kind})")),
        }
    }
}

/// The rows of the table of migrations.
pub(super) fn applied(rows: &[Row]) -> Result<Vec<Applied>> {
    let read = |row: &Row| {
        let mut columns = Columns::of(row);
        let version: i32 = columns.get()?;
        Ok(Applied {
            version: u32::try_from(version).unwrap_or(0),
            name: columns.get()?,
            checksum: columns.get()?,
            applied_at: columns.time()?,
        })
    };
    rows.iter().map(read).collect::<Result<Vec<Applied>>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Settings {
        let on = || "on".to_owned();
        Settings {
            version_num: 170_000,
            version: "17.0".to_owned(),
            encoding: "UTF8".to_owned(),
            fsync: on(),
            full_page_writes: on(),
            synchronous_commit: on(),
            in_recovery: false,
            read_only: "off".to_owned(),
            notification_queue: 0.0,
            has_schema: true,
            may_use_schema: true,
            has_migrations: true,
        }
    }

    fn findings(settings: &Settings) -> Vec<(&'static str, Severity)> {
        let bad = settings.findings().into_iter().filter(|finding| finding.severity != Severity::Ok);
        bad.map(|finding| (finding.check, finding.severity)).collect()
    }

    /// N35: a queue of notifications that fills up, because somebody listens in a transaction that does not end, is
    /// warned of. It refuses nothing: what we enqueue does not notify in the caller's transaction.
    #[test]
    fn n35_a_notification_queue_that_fills_up_is_warned_of() {
        assert_eq!(findings(&healthy()), []);
        let behind = Settings { notification_queue: NOTIFICATION_QUEUE_MAX + 0.01, ..healthy() };
        assert_eq!(findings(&behind), [("notification queue", Severity::Warning)]);
    }

    #[test]
    fn a_server_that_loses_commits_is_refused() {
        let off = || "off".to_owned();
        assert_eq!(findings(&Settings { fsync: off(), ..healthy() }), [("fsync", Severity::Error)]);
        let lazy = Settings { synchronous_commit: off(), ..healthy() };
        assert_eq!(findings(&lazy), [("synchronous_commit", Severity::Error)]);
        let local = Settings { synchronous_commit: "local".to_owned(), ..healthy() };
        assert_eq!(findings(&local), [("synchronous_commit", Severity::Warning)]);
        assert_eq!(findings(&Settings { in_recovery: true, ..healthy() }), [("writes", Severity::Error)]);
    }
}
