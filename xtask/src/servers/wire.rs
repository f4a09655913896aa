//! Whether something at a port speaks PostgreSQL and is ready for a query. No more of the protocol than that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PROTOCOL_3: i32 = 196_608;
const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";
const TERMINATE: &[u8] = &[b'X', 0, 0, 0, 4];
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whether a session can be opened at 127.0.0.1:`port`. Behind a pooler this reaches through to the database.
pub(crate) fn answers(port: u16) -> bool {
    open(port).unwrap_or(false)
}

fn open(port: u16) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
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
        assert!(answers(server(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")));
    }

    #[test]
    fn an_error_or_a_closed_connection_is_none() {
        assert!(!answers(server(b"E\0\0\0\x05\0")));
        assert!(!answers(server(b"R\0\0\0\x08\0\0\0\0")));
    }
}
