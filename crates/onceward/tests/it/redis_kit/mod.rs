//! A Redis for the tests: the one `cargo xtask test` started, or one of the test's own that can be stopped and killed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The Redis that all tests of this process share.
pub(crate) fn shared() -> String {
    // Kept for the life of the process, and ended with it.
    static OWN: OnceLock<Server> = OnceLock::new();
    let given = std::env::var("ONCEWARD_TEST_REDIS").ok().filter(|url| !url.is_empty());
    given.unwrap_or_else(|| OWN.get_or_init(Server::start).url())
}

/// A server of one's own.
pub(crate) struct Server {
    port: u16,
    options: Vec<String>,
    child: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(options: &[&str]) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let server = Self { port, child: spawn(port, &options), options };
        server.until_it_answers();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same port.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.options);
        self.until_it_answers();
    }

    fn until_it_answers(&self) {
        let began = Instant::now();
        while !answers(self.port) {
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, options: &[String]) -> Child {
    // It ends with us, however we end.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", "--", "redis-server", "--port", &port.to_string()]);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Whether it takes commands, or asks for a password first.
fn answers(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer == *b"+PONG" || answer == *b"-NOAU")
    };
    ping().unwrap_or(false)
}
