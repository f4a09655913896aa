//! What goes on inside, told on stderr while a command works: warnings, and more where more is asked for.

use onceward::{Code, Error, Result};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Reads what is to be told: a level, and levels of modules, with commas between them.
pub(crate) fn filter(text: &str) -> Result<Targets> {
    let refused = |what: &str| {
        let said =
            format!("{what:?} does not say what to log: a level is off, error, warn, info, debug or trace");
        Error::new(Code::UsageInvalid, said)
    };
    // A word alone would be the name of a module, and of it everything: who writes one means a level.
    let is_level = |part: &&str| {
        let part = part.trim();
        part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok())
    };
    if let Some(wrong) = text.split(',').find(|part| !is_level(part)) {
        return Err(refused(wrong));
    }
    text.parse().map_err(|_| refused(text))
}

/// Begins to tell. Nothing of it is data: stdout is left alone.
pub(crate) fn begin(filter: &Targets) {
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    // Another program that offers these commands may tell in its own way already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter.clone())).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_the_rest_is_refused() {
        for good in ["warn", "off", "info,onceward=debug", "onceward::service=trace"] {
            filter(good).unwrap();
        }
        for bad in ["loud", "onceward=loud", "warn,"] {
            assert_eq!(filter(bad).unwrap_err().code(), Code::UsageInvalid, "{bad}");
        }
    }
}
