//! Every invariant that the project promises is named by at least one test.
//!
//! A test names it in its function's name (`l4_…`) or in a comment directly above: `/// L4, L8: …`. Cases of
//! the conformance suite count as tests.

use std::collections::BTreeSet;

use super::{File, Finding, Tree};

const CONFORMANCE: &str = "crates/onceward-store/src/conformance";

/// What has to be named. A new area adds its invariants here together with its first tests.
const REQUIRED: &[(&str, &str)] = &[
    ("L1", "the tokens of a key strictly increase over grants, for ever"),
    ("L2", "the grants of a key never overlap on the clock of the database"),
    ("L3", "renew, release and guard with an old token change nothing and say so"),
    ("L4", "a guarded transaction and a takeover of the same key happen one after the other"),
    ("L5", "a client trusts its grant only until the margin before the expiry"),
    ("L6", "after a holder's death somebody else gets the key in bounded time"),
    ("L7", "an acquire whose commit is unknown yields no handle"),
    ("L8", "a release frees the grant it names and no later one"),
    ("L9", "a holder that can't renew knows it before the expiry"),
    ("L10", "two handles of one owner name are two sessions"),
    ("L11", "what is promised about fairness, and no more"),
    ("L12", "times to live, heartbeats and margins are bounded"),
    ("O1", "a key starts at most once until it is forgotten"),
    ("O2", "a recorded outcome is never overwritten"),
    ("O3", "a replay is identical to the byte"),
    ("O4", "another request under the same key is refused and learns nothing"),
    ("O5", "running past the deadline becomes uncertain, never absent"),
    ("O6", "uncertain stays until somebody reconciles it"),
    ("O7", "late evidence counts while its token does"),
    ("O8", "nothing is replayed after its retention, and nothing unfinished is forgotten"),
    ("O9", "the claim is durable before the function starts"),
    ("O10", "who waits gets the outcome and starts nothing"),
    ("O11", "a claim in a transaction that rolls back leaves no trace"),
    ("O12", "keys are bounded and belong to a namespace"),
    ("O13", "a result that is too large is recorded as such"),
    ("O14", "nothing is purged while the clock can't be trusted"),
    ("J1", "a job is visible if and only if its enqueue was committed"),
    ("J2", "no acknowledged job is lost"),
    ("J3", "a job has at most one current attempt, and its tokens grow"),
    ("J4", "attempts are counted, and never more than allowed"),
    ("J5", "only the current attempt ends a job; a stale ending changes nothing and says so"),
    ("J6", "what has ended stays as it is, except for who has looked at it"),
    ("J7", "a rescue takes only what still runs in a session that has run out"),
    ("J8", "a job that was called off is not run again"),
    ("J9", "at most one living job per unique key"),
    ("J10", "of one ordering key at most one job runs, and the others keep their order"),
    ("J11", "never more of a queue or a key at the same time than its limit, nor more starts in a time"),
    ("J12", "each tick of a schedule is enqueued once, across changes of the leader and of clocks"),
    ("J13", "a replay keeps payload and line, and is made once"),
    ("J14", "a claim never takes more than asked for"),
    ("J15", "every ready job is run, whatever fails or waits beside it"),
    ("J16", "nothing that has not ended is purged"),
    ("D1", "a journal is only added to, by the one who has its run"),
    ("D2", "code that does not ask for what the journal says is stuck, and runs no step"),
    ("D3", "what has ended is not done again"),
    ("D4", "the effects of a step and its outcome are one commit"),
    ("D5", "a crash anywhere comes to the same result"),
    ("D6", "times come once and not too early; signals are taken once, in order"),
    ("D7", "a run ends once, and its parent hears of it"),
    ("D8", "time and chance come out the same each time"),
    ("D9", "a cancelled run hears of it at its next wait"),
    ("D10", "a run of a version goes on only where that version is known, and is seen to wait"),
    ("D11", "a journal that is too long is a failure, and keeps nobody waiting"),
    ("D12", "the same start is the same run"),
    ("H1", "an HTTP attempt succeeds only by a complete 2xx answer within limits"),
    ("H2", "at most once, only what is proved unsent is tried again"),
    ("H3", "the bytes that are sent are those that were signed and enqueued"),
    ("H4", "an answer is read and kept within bounds, without secrets"),
    ("H5", "no receiver takes more than its share"),
    ("A1", "at most one term of a service runs, and tokens grow"),
    ("A2", "the work of a term has stopped before the next one begins"),
    ("A3", "work that has to stop is told, dropped, and reported where it goes on"),
    ("A4", "an old term renews, ends and begins nothing"),
    ("A5", "a leader without work makes way, and is followed after a while"),
    ("A6", "each cycle is run, or recorded with its reason"),
    ("A7", "who leaves hands over at once"),
    ("A8", "a sticky service stays where it was"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    if !tree.files.iter().any(|file| file.path.starts_with(CONFORMANCE)) {
        return Vec::new();
    }
    let named: BTreeSet<String> = tree.below("", "rs").flat_map(named).collect();
    let missing = REQUIRED.iter().filter(|(id, _)| !named.contains(*id));
    missing.map(|(id, rule)| Finding::new(CONFORMANCE, 1, format!("no test names {id}: {rule}"))).collect()
}

/// The ids that the tests of a file name.
fn named(file: &File) -> BTreeSet<String> {
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let mut ids = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        let function = function(line);
        let case = line.starts_with("case!");
        if function.is_none() && !case {
            continue;
        }
        let attached = attached(&lines[..index]);
        let is_test = attached.iter().any(|line| line.starts_with("#[") && line.contains("test"));
        if case || is_test || file.path.starts_with(CONFORMANCE) {
            ids.extend(function.into_iter().flat_map(|name| name.split('_').filter_map(id)));
            let comments = attached.iter().copied().filter(|line| line.starts_with("//"));
            let texts = comments.chain(case.then_some(*line));
            ids.extend(texts.flat_map(|text| text.split(|it: char| !it.is_alphanumeric()).filter_map(id)));
        }
    }
    ids
}

/// The comments and attributes directly above an item: back to an empty line or the end of other code.
fn attached<'a>(above: &'a [&'a str]) -> &'a [&'a str] {
    let ends = |line: &&str| line.is_empty() || !line.starts_with("//") && line.ends_with(['}', ';', '{']);
    let start = above.iter().rposition(ends).map_or(0, |last| last + 1);
    &above[start..]
}

/// The name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let mut words = line.split(' ').skip_while(|word| word.starts_with("pub") || *word == "async");
    (words.next() == Some("fn")).then(|| words.next())?.and_then(|rest| rest.split(['(', '<']).next())
}

/// `L4` from `L4` or `l4`, and so on; nothing from anything else.
fn id(word: &str) -> Option<String> {
    let digits = word.strip_prefix(|letter: char| "ADHJLOadhjlo".contains(letter))?;
    let number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    number.then(|| word.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(path: &str, text: &str) -> Vec<String> {
        named(&File { path: path.to_owned(), text: text.to_owned() }).into_iter().collect()
    }

    #[test]
    fn a_test_names_ids_in_its_name_and_in_the_comment_above() {
        let above = "\n/// L4, and (O13).\n#[tokio::test(\n    flavor = \"multi_thread\"\n)]\n";
        let text = format!("{above}async fn l8_release_is_exact() {{\n");
        assert_eq!(ids("a.rs", &text), ["L4", "L8", "O13"]);
    }

    #[test]
    fn what_is_not_attached_to_a_test_does_not_count() {
        assert_eq!(ids("a.rs", "// L1\nfn l2_of_no_test() {}\n// L3\n\n#[test]\nfn a() {}\n"), [""; 0]);
        assert_eq!(ids("a.rs", "#[test]\n// XL1 L1x\nfn a() {}\n"), [""; 0]);
    }

    #[test]
    fn conformance_cases_count() {
        assert_eq!(ids("a.rs", "// O2\ncase!(o3_replays_are_identical, \"O5\");\n"), ["O2", "O3", "O5"]);
        assert_eq!(
            ids(&format!("{CONFORMANCE}/lease.rs"), "/// L1.\npub async fn l2_no_overlap(s: &S) {\n"),
            ["L1", "L2"]
        );
    }

    #[test]
    fn an_invariant_without_a_test_is_found_once_there_is_a_suite() {
        assert_eq!(check(&Tree::of(&[("a.rs", "")])), []);
        let path = format!("{CONFORMANCE}/mod.rs");
        let findings = check(&Tree::of(&[(&path, "/// L1 and O14.\nfn a() {}\n")]));
        assert_eq!(findings.len(), REQUIRED.len() - 2);
        assert!(findings[0].what.starts_with("no test names L2"), "{}", findings[0]);
    }
}
