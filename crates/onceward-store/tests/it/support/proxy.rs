//! A proxy between the store and its database, whose two directions can be held up, and whose connections can be cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What is held up.
#[derive(Default)]
struct Gates {
    to_server: AtomicBool,
    to_client: AtomicBool,
    cut: Notify,
    /// From the first question with this in it on, answers are held back.
    until_asked: Mutex<Option<String>>,
    /// The first question that is just this is sent as another one.
    instead: Mutex<Option<[Vec<u8>; 2]>>,
}

impl Gates {
    /// Looks at a question on its way to the server, which gets another one if that is wanted.
    fn look_at(&self, question: &mut Vec<u8>) {
        if let Some([_, other]) = self.instead.lock().unwrap().take_if(|[wanted, _]| wanted == question) {
            *question = other;
        }
        let mut wanted = self.until_asked.lock().unwrap();
        let found =
            wanted.as_ref().is_some_and(|text| question.windows(text.len()).any(|it| it == text.as_bytes()));
        if found {
            *wanted = None;
            self.to_client.store(true, Ordering::SeqCst);
        }
    }
}

/// A proxy on a port of its own. It forwards until told otherwise.
pub struct Proxy {
    gates: Arc<Gates>,
    port: u16,
}

impl Proxy {
    pub async fn before(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gates = Arc::<Gates>::default();
        let shared = gates.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let gates = shared.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                        pass(client, server, &gates).await;
                    }
                });
            }
        });
        Self { gates, port }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Holds back what the client sends.
    pub fn hold_questions(&self, hold: bool) {
        self.gates.to_server.store(hold, Ordering::SeqCst);
    }

    /// Holds back what the server answers, or lets it through whatever is asked.
    pub fn hold_answers(&self, hold: bool) {
        *self.gates.until_asked.lock().unwrap() = None;
        self.gates.to_client.store(hold, Ordering::SeqCst);
    }

    /// Holds back what the server answers, from the first question on that has `text` in it.
    pub fn hold_answers_once_asked(&self, text: &str) {
        *self.gates.until_asked.lock().unwrap() = Some(text.to_owned());
    }

    /// Sends one statement in the place of another one, the first time that one is sent, alone and without parameters.
    pub fn ask_instead(&self, wanted: &str, other: &str) {
        let frame = |text: &str| {
            let length = u32::try_from(text.len() + 5).unwrap().to_be_bytes();
            [&b"Q"[..], &length, text.as_bytes(), &[0]].concat()
        };
        *self.gates.instead.lock().unwrap() = Some([frame(wanted), frame(other)]);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.gates.cut.notify_waiters();
    }
}

async fn pass(client: TcpStream, server: TcpStream, gates: &Gates) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let questions = copy(&mut from_client, &mut to_server, &gates.to_server, |text| gates.look_at(text));
    let answers = copy(&mut from_server, &mut to_client, &gates.to_client, |_| ());
    tokio::select! {
        () = questions => {}
        () = answers => {}
        () = gates.cut.notified() => {}
    }
}

async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    held: &AtomicBool,
    look: impl Fn(&mut Vec<u8>),
) {
    let mut room = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut room).await {
        let mut bytes = room[..count].to_vec();
        look(&mut bytes);
        while held.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(2)).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
