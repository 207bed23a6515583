//! A minimal HTTP/1.0 client for the admin interface and for HTTP backends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::PATIENCE;

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole head, as it came.
    pub head: String,
    /// The body, as text.
    pub body: String,
}

/// GET over TCP.
///
/// # Errors
///
/// When the connection fails or what comes back is no HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    get_on(stream, path)
}

/// GET over a Unix socket.
///
/// # Errors
///
/// When the connection fails or what comes back is no HTTP.
pub fn get_unix(socket: &Path, path: &str) -> io::Result<Response> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    get_on(stream, path)
}

/// PUT of a text over TCP.
///
/// # Errors
///
/// When the connection fails or what comes back is no HTTP.
pub fn put(address: SocketAddr, path: &str, content_type: &str, text: &str) -> io::Result<Response> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = text.len();
    let head = format!(
        "PUT {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    exchange(stream, &(head + text))
}

/// GET over a connection that is there already.
///
/// # Errors
///
/// When the connection fails or what comes back is no HTTP.
pub fn get_on(stream: impl Read + Write, path: &str) -> io::Result<Response> {
    exchange(stream, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Response> {
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text.into_owned()))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        let response = parse("HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody").expect("that is HTTP");
        assert_eq!((response.status, response.body.as_str()), (200, "body"));
        assert!(parse("no http").is_none());
    }
}
