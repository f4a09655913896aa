//! Nasty cases for wrapped commands: processes killed at the worst moment, wrong clocks, full disks, folders nobody may
//! write to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::crash::each;
use crate::place::{Place, Running, Seen, is_alive, wait_until};
#[cfg(feature = "postgres")]
use crate::postgres::{Schema, proxy::Proxy};

/// N2: killed between the commit of its claim and the start of its command. The claim stands, nobody can know that
/// nothing was run, and so it is not run again by itself.
#[cfg(feature = "postgres")]
#[test]
fn n2_a_process_killed_between_its_claim_and_its_command_leaves_doubt() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    let (server, schema) = place.store().split_once('?').unwrap();
    let port = server.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let proxy = runtime.block_on(Proxy::before(port));
    let behind = Place::on(&format!("{}?{schema}", proxy.url()));
    proxy.hold_answers_once_asked("pay-17");
    let running = behind.start_once("pay-17", &["--ttl", "2s"], "echo x >> ledger; sleep 60");
    wait_until("its claim is committed", || place.run(&["once", "show", "pay-17"]).code == 0);
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(behind.read("ledger"), "", "it had not begun");
    wait_until("the ttl is over", || place.once("pay-17", &[], "echo x >> ledger").code == 76);
    assert_eq!(place.read("ledger"), "");
    place.once("pay-17", &["--restartable"], "echo x >> ledger; echo paid").printed(0, "paid\n");
    assert_eq!(place.read("ledger"), "x\n");
}

/// N3: killed after the effect and before its record. It is not run again, and whoever looks settles it.
#[test]
fn n3_a_runner_killed_after_its_effect_is_not_run_again() {
    each(|place| {
        let running = place.start_once(
            "k",
            &["--ttl", "3s"],
            "echo $$ > pid; echo x >> ledger; echo on > began; exec sleep 60",
        );
        place.wait_for_file("began");
        let command = place.wait_for_file("pid");
        running.signal(Signal::KILL);
        running.end();
        wait_until("the command dies with its parent", || !is_alive(&command));
        wait_until("the ttl is over", || place.once("k", &[], "echo x >> ledger").code == 76);
        let how = ["once", "resolve", "k", "--done", "--stdout", "-", "--reason", "it is in the ledger"];
        assert_eq!(place.run(&how).code, 0);
        place.once("k", &[], "echo x >> ledger").printed(0, "");
        assert_eq!(place.read("ledger"), "x\n", "charged once");
    });
}

/// N13: what the clock of a process says decides nothing: not how long its lease lasts, nor who is next, nor the
/// order of the tokens.
#[test]
fn n13_processes_with_wrong_clocks_hold_and_lose_leases_like_others() {
    let Some(faketime) = std::env::var_os("ONCEWARD_TEST_FAKETIME").filter(|file| !file.is_empty()) else {
        return println!("libfaketime is not here");
    };
    each(|place| {
        let skews = [("ahead", "+400d"), ("behind", "-400d")];
        let skewed = |args: &[&str], skew: &str| {
            let mut command = place.command(args);
            command
                .env("LD_PRELOAD", &faketime)
                .env("FAKETIME", skew)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        };
        // On SQLite the clock of the process is the clock of the store.
        if place.store().starts_with("postgres") {
            for (key, skew) in skews {
                let args = ["once", "--key", key, "--", "echo", "done"];
                let seen = Seen::from(skewed(&args, skew).output().unwrap());
                seen.printed(0, "done\n");
                place.once(key, &[], "echo again").printed(0, "done\n");
            }
        }
        let hold = |(key, skew): (&str, &str)| {
            let script = format!("echo $ONCEWARD_FENCING_TOKEN > token-{key}; exec sleep 600");
            let mut command =
                skewed(&["lease", "--key", key, "--ttl", "3s", "--", "sh", "-c", &script], skew);
            Running::of(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        };
        let holders = skews.map(hold);
        let tokens = skews.map(|(key, _)| place.wait_for_file(&format!("token-{key}")));
        std::thread::sleep(Duration::from_millis(3500));
        for (key, _) in skews {
            // Renewed for longer than its ttl.
            place.run(&["lease", "--key", key, "--", "true"]).refused(75, "OW0201");
        }
        for holder in holders {
            holder.signal(Signal::KILL);
            holder.end();
        }
        for ((key, _), before) in skews.into_iter().zip(tokens) {
            let next =
                || place.run(&["lease", "--key", key, "--", "sh", "-c", "echo $ONCEWARD_FENCING_TOKEN"]);
            let mut seen = next();
            wait_until("the ttl is over, and no more", || {
                seen = next();
                seen.code == 0
            });
            let after: u64 = seen.text().trim().parse().unwrap();
            assert!(after > before.parse().unwrap(), "{key}: {before} and then {after}");
        }
    });
}

/// The binary with these arguments, started by `how` of a shell; where it is to run as another user, in his name.
fn through_a_shell(place: &Place, how: &str, args: &[&str], as_nobody: bool) -> Seen {
    let plain = place.command(args);
    let binary = if as_nobody {
        // Nobody may be kept from the folder it was built in.
        let copy = place.path("onceward");
        if !copy.exists() {
            fs::copy(plain.get_program(), &copy).unwrap();
        }
        copy
    } else {
        plain.get_program().into()
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{how} exec \"$@\""), "sh"]).arg(binary).args(args);
    shell.current_dir(place.path("")).env_clear().stdin(Stdio::null());
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if as_nobody && rustix::process::getuid().is_root() {
        shell.uid(65_534).gid(65_534);
    }
    shell.output().unwrap().into()
}

/// N39, O9: the disk is full. The claim can't be written, so nothing is run, and it says so; with room it goes on.
#[test]
fn n39_on_a_full_disk_nothing_is_run_and_nothing_is_lost() {
    let place = Place::new();
    place.once("before", &[], "echo kept").printed(0, "kept\n");
    // Somebody else has the file open, so that its log is there already.
    let other = place.start_lease("other", &["--ttl", "1s"], "echo on > began; exec sleep 60");
    place.wait_for_file("began");
    let full = "trap '' XFSZ; ulimit -f 4;";
    let args = ["once", "--key", "k", "--deadline", "2s", "--", "sh", "-c", "echo x >> ledger"];
    let seen = through_a_shell(&place, full, &args, false);
    assert_eq!(seen.code, 69, "{seen:?}");
    assert!(seen.stderr.lines().any(|line| line.starts_with("OW0")), "{seen:?}");
    assert_eq!(place.read("ledger"), "");
    place.once("before", &[], "false").printed(0, "kept\n");
    place.once("k", &[], "echo x >> ledger; echo paid").printed(0, "paid\n");
    assert_eq!(place.read("ledger"), "x\n");
    other.signal(Signal::TERM);
    other.end();
    assert_eq!(place.run(&["doctor"]).code, 0);
}

/// N50: a folder or a file that may not be written to is refused with a code, before anything is run.
#[test]
fn n50_what_may_not_be_written_to_is_refused() {
    let place = Place::new();
    let mode =
        |name: &str, mode| fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    let script = "echo x >> /dev/null";
    let args = ["once", "--key", "k", "--deadline", "2s", "--", "sh", "-c", script];
    let refused = |what: &str| {
        let seen = through_a_shell(&place, "", &args, true);
        assert_eq!(seen.code, 69, "{what}: {seen:?}");
        assert!(seen.stderr.lines().any(|line| line.starts_with("OW0")), "{what}: {seen:?}");
        println!("{what}: {}", seen.stderr);
    };
    through_a_shell(&place, "", &["--version"], true);
    mode("", 0o555);
    refused("a folder without a store");
    mode("", 0o755);
    place.once("before", &[], "echo kept").printed(0, "kept\n");
    mode("store.db", 0o444);
    mode("", 0o555);
    refused("a store that may only be read");
    mode("", 0o755);
    mode("store.db", 0o600);
    place.once("before", &[], "false").printed(0, "kept\n");
}
