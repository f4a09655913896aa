//! Servers of our own: a PostgreSQL in a folder of its own, and pgbouncer in front of it.
//!
//! Each is watched over by a shell that waits for its standard input to close: when we let go of it, or die in
//! whatever way, the server is stopped and its folder removed.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 100
shared_buffers = 64MB
";

/// Runs a program, stops it when standard input closes, and removes its folder unless told to keep it: whoever can't
/// say so has died.
/// INT ends the sessions of a PostgreSQL, but a shell starts its background commands deaf to it; TERM they all hear.
const WATCH: &str = r#"
"$@" >>"$LOG" 2>&1 </dev/null &
server=$!
word=$(cat)
kill -TERM "$server" 2>/dev/null
kill -INT "$server" 2>/dev/null
wait "$server"
[ -n "$word" ] || rm -rf "$FOLDER"
"#;

/// A PostgreSQL.
pub struct Server {
    folder: PathBuf,
    port: u16,
    watcher: Option<Child>,
    /// The postmaster.
    pid: String,
    extra: Vec<String>,
}

impl Server {
    /// A fresh cluster, running.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings (`name=value`).
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), settings)
    }

    /// The same in a folder below another one.
    pub fn start_in(parent: &Path, settings: &[&str]) -> Self {
        let folder = fresh_folder_in(parent, "postgres");
        let mut initdb = as_unprivileged(&programs().join("initdb"));
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        initdb.arg("--pgdata").arg(folder.join("data")).current_dir(&folder);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let file = folder.join("data/postgresql.conf");
        let mut text = fs::read_to_string(&file).unwrap() + SETTINGS;
        text += &format!("unix_socket_directories = '{}'\n", folder.display());
        fs::write(&file, text).unwrap();
        let mut server =
            Self { folder, port: free_port(), watcher: None, pid: String::new(), extra: Vec::new() };
        server.set(settings);
        server.launch();
        server
    }

    /// A copy of a running server that follows it.
    pub fn standby_of(primary: &Self) -> Self {
        let folder = fresh_folder("standby");
        let mut copy = as_unprivileged(&programs().join("pg_basebackup"));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname"]).arg(primary.url());
        copy.arg("--pgdata").arg(folder.join("data")).current_dir(&folder);
        let made = copy.output().unwrap();
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        let mut server =
            Self { folder, port: free_port(), watcher: None, pid: String::new(), extra: Vec::new() };
        let sockets = format!("unix_socket_directories={}", server.folder.display());
        server.set(&[&sockets]);
        server.launch();
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder; the data lies in `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives a file in the folder to whom the server runs as, and to nobody else.
    pub fn own(&self, name: &str) {
        let file = self.folder.join(name);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = unprivileged() {
            chown(&file, Some(user), Some(group)).unwrap();
        }
    }

    /// Adds settings (`name=value`) for the next start.
    pub fn set(&mut self, settings: &[&str]) {
        self.extra.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    }

    /// Kills the postmaster and every process of it, as a power cut would.
    pub fn kill(&mut self) {
        let children = Command::new("ps").args(["--ppid", &self.pid, "-o", "pid="]).output().unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let victims = std::iter::once(self.pid.as_str()).chain(children.split_whitespace());
        // Some may be gone already.
        let _ = Command::new("kill").arg("-KILL").args(victims).output().unwrap();
        self.end();
    }

    /// Stops it as an administrator would: sessions are told that they end.
    pub fn stop(&mut self) {
        self.end();
    }

    /// Starts it again, on the same data and the same port.
    pub fn start_again(&mut self) {
        self.launch();
    }

    fn launch(&mut self) {
        let mut server = as_unprivileged(&programs().join("postgres"));
        server.arg("-D").arg(self.folder.join("data")).arg("-p").arg(self.port.to_string()).args(&self.extra);
        self.watcher = Some(watched(&server, &self.folder));
        let url = self.url();
        let began = Instant::now();
        while !accepts(&url) {
            assert!(began.elapsed() < PATIENCE, "PostgreSQL does not answer: {}", last_words(&self.folder));
            sleep(Duration::from_millis(20));
        }
        // Read while the disk it is on can be read.
        let pid = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        self.pid = pid.lines().next().unwrap().trim().to_owned();
    }

    fn end(&mut self) {
        dismiss(self.watcher.take());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A pgbouncer in transaction mode.
pub struct Bouncer {
    folder: PathBuf,
    port: u16,
    watcher: Option<Child>,
}

impl Bouncer {
    /// In front of a server: few connections with short lives, so that whatever leans on a session fails.
    pub fn start(server: &Server) -> Self {
        let folder = fresh_folder("pgbouncer");
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 500\nserver_idle_timeout = 1\nserver_lifetime = 5\n",
            server.port()
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let mut bouncer = as_unprivileged(Path::new("pgbouncer"));
        bouncer.arg(&file);
        let watcher = Some(watched(&bouncer, &folder));
        let began = Instant::now();
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            assert!(began.elapsed() < PATIENCE, "pgbouncer does not answer: {}", last_words(&folder));
            sleep(Duration::from_millis(20));
        }
        Self { folder, port, watcher }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        dismiss(self.watcher.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ends a server and its watcher; the folder stays.
fn dismiss(watcher: Option<Child>) {
    let Some(mut watcher) = watcher else { return };
    if let Some(mut stdin) = watcher.stdin.take() {
        let _ = stdin.write_all(b"keep");
    }
    let _ = watcher.wait();
}

/// Starts a command under a shell that ends it with us.
fn watched(command: &Command, folder: &Path) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCH, "watch"]).arg(command.get_program()).args(command.get_args());
    shell.env("LOG", folder.join("log")).env("FOLDER", folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().unwrap()
}

/// Whether it takes connections. Asked on a thread of its own: this one may belong to a runtime.
fn accepts(url: &str) -> bool {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).is_ok()
    };
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

fn last_words(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// An empty folder that belongs to whom the servers run as.
fn fresh_folder(name: &str) -> PathBuf {
    fresh_folder_in(&std::env::temp_dir(), name)
}

fn fresh_folder_in(parent: &Path, name: &str) -> PathBuf {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let folder = parent.join(format!("onceward-{name}-{unique}"));
    fs::create_dir(&folder).unwrap();
    if let Some((user, group)) = unprivileged() {
        chown(&folder, Some(user), Some(group)).unwrap();
    }
    folder
}

/// A command that does not run as root, where the servers refuse to.
fn as_unprivileged(program: &Path) -> Command {
    let Some((user, group)) = unprivileged() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
    command.arg("--").arg(program);
    command
}

/// Whom to become: nobody in particular if we are root already, else no one.
fn unprivileged() -> Option<(u32, u32)> {
    if id(&["-u"])? != 0 {
        return None;
    }
    let name = if id(&["-u", "postgres"]).is_some() { "postgres" } else { "nobody" };
    Some((id(&["-u", name])?, id(&["-g", name])?))
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The folder with `initdb` and `postgres`: as told, else that of the newest version installed.
pub fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("ONCEWARD_TEST_PG_BIN") {
        return folder.into();
    }
    let versions = match fs::read_dir("/usr/lib/postgresql") {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        entries => entries.unwrap().map(|entry| entry.unwrap().path()).collect(),
    };
    let number = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.into_iter().filter(|folder| number(folder).is_some()).max_by_key(number);
    newest
        .map(|folder| folder.join("bin"))
        .expect("PostgreSQL is installed, or ONCEWARD_TEST_PG_BIN names its folder")
}
