//! Whether something at a port speaks PostgreSQL, or Redis, and is ready for a query. No more of them than that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PROTOCOL_3: i32 = 196_608;
const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";
const TERMINATE: &[u8] = &[b'X', 0, 0, 0, 4];
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whether a session can be opened at 127.0.0.1:`port`. Behind a pooler this reaches through to the database.
pub(crate) fn postgres_answers(port: u16) -> bool {
    open(port).unwrap_or(false)
}

/// Whether a Redis at 127.0.0.1:`port` takes commands.
pub(crate) fn redis_answers(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = connect(port)?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer == *b"+PONG")
    };
    ping().unwrap_or(false)
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(stream)
}

fn open(port: u16) -> std::io::Result<bool> {
    let mut stream = connect(port)?;
    stream.write_all(&startup())?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let body = (u32::from_be_bytes(length) as usize).saturating_sub(4);
        if kind == b'E' || body > BODY_BYTES_MAX {
            return Ok(false);
        }
        stream.read_exact(&mut vec![0; body])?;
        if kind == b'Z' {
            stream.write_all(TERMINATE)?;
            return Ok(true);
        }
    }
}

fn startup() -> Vec<u8> {
    let length = 8 + PARAMETERS.len() as i32;
    [&length.to_be_bytes(), &PROTOCOL_3.to_be_bytes(), PARAMETERS].concat()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that reads a startup packet and says `reply`.
    fn server(reply: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut vec![0; startup().len()]).unwrap();
            stream.write_all(reply).unwrap();
        });
        port
    }

    #[test]
    fn ready_for_query_is_an_answer() {
        assert!(postgres_answers(server(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")));
    }

    #[test]
    fn only_a_redis_that_takes_commands_answers() {
        let server = |reply: &'static [u8]| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                stream.read_exact(&mut [0; 6]).unwrap();
                stream.write_all(reply).unwrap();
            });
            port
        };
        assert!(redis_answers(server(b"+PONG\r\n")));
        assert!(!redis_answers(server(b"-LOADING Redis is loading the dataset in memory\r\n")));
    }

    #[test]
    fn an_error_or_a_closed_connection_is_none() {
        assert!(!postgres_answers(server(b"E\0\0\0\x05\0")));
        assert!(!postgres_answers(server(b"R\0\0\0\x08\0\0\0\0")));
    }
}
