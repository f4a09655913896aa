//! The statements of the store, cut out of their files once.

use std::sync::LazyLock;

use crate::StoreKind;
use crate::enlist::EnlistSql;
use crate::sql::{sqlite_sql, step};

/// The part of a file that stands before its first step, or the file itself.
macro_rules! text {
    ($file:literal) => {
        sqlite_sql!($file)
    };
    ($file:literal, $step:literal) => {
        step(sqlite_sql!($file), $step)
    };
}

macro_rules! statements {
    ($($name:ident = $file:literal $(, $step:literal)?;)*) => {
        /// The text of every statement.
        pub(crate) struct Statements {
            $(pub(crate) $name: &'static str,)*
        }

        /// The text of every statement.
        pub(crate) static SQL: LazyLock<Statements> =
            LazyLock::new(|| Statements { $($name: text!($file $(, $step)?),)* });

        #[cfg(test)]
        impl Statements {
            /// Every statement with its name.
            pub(crate) fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

statements! {
    lease_places = "lease/acquire", "read";
    lease_ahead = "lease/acquire", "ahead";
    lease_grant = "lease/acquire", "grant";
    lease_regrant = "lease/acquire", "regrant";
    lease_ended = "lease/acquire", "history";
    lease_renew = "lease/renew";
    lease_release_read = "lease/release", "read";
    lease_release = "lease/release", "release";
    lease_released = "lease/release", "history";
    lease_wait_tidy = "lease/wait", "tidy";
    lease_wait_keep = "lease/wait", "keep";
    lease_wait_last = "lease/wait", "last";
    lease_wait_take = "lease/wait", "take";
    lease_leave = "lease/leave";
    lease_break = "lease/break", "break";
    lease_broken = "lease/break", "history";
    lease_lookup = "lease/lookup";
    lease_list = "lease/list", "of_namespace";
    lease_list_all = "lease/list", "of_all";
    once_insert = "once/claim", "insert";
    once_read = "once/claim", "read";
    once_told = "once/claim", "told";
    once_reclaim = "once/claim", "reclaim";
    once_expire = "once/claim", "expire";
    once_history = "once/claim", "history";
    once_renew = "once/renew";
    once_settle_read = "once/settle", "read";
    once_settle = "once/settle", "settle";
    once_settled = "once/settle", "history";
    once_resolve = "once/resolve";
    once_lookup = "once/lookup";
    once_list = "once/list", "of_namespace";
    once_list_all = "once/list", "of_all";
    once_list_open = "once/list", "open_of_namespace";
    once_list_all_open = "once/list", "open_of_all";
    history_list = "history/list", "list";
    history_live = "history/list", "live";
    prune_history = "upkeep/prune", "history";
    prune_live = "upkeep/prune", "live";
    prune_told = "upkeep/prune", "told";
    prune_once = "upkeep/prune", "once";
    prune_leases = "upkeep/prune", "leases";
    prune_waiting = "upkeep/prune", "waiting";
    tables = "upkeep/check", "tables";
    migrations = "upkeep/check", "migrations";
    migration_applied = "upkeep/check", "applied";
    migration_undone = "upkeep/check", "undone";
    meta = "upkeep/check", "meta";
    meta_opened = "upkeep/check", "opened";
    meta_doubt = "upkeep/check", "doubt";
    meta_touch = "upkeep/check", "touch";
    newest_token = "upkeep/check", "newest_token";
    triggers = "upkeep/check", "triggers";
}

/// The statements that join a caller's transaction.
pub(crate) fn enlist() -> EnlistSql {
    let steps = |file, names: &[&str]| names.iter().map(|name| step(file, name).into()).collect();
    EnlistSql {
        kind: StoreKind::Sqlite,
        guard: steps(sqlite_sql!("lease/guard"), &["lock", "check"]),
        claim_in: steps(sqlite_sql!("once/claim_in"), &["lock", "ended", "claim", "read"]),
        settle_in: steps(sqlite_sql!("once/settle_in"), &["settle", "history"]),
    }
}
