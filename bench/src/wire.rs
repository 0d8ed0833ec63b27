//! HTTP/1.1 on one kept connection, as thin as it can be: the load generator shares the cores with what it measures.
//! Understands what a qwex server and axum send; not for anything else.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection on which one request is out at a time.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Head and body of the last answer.
    buffer: Vec<u8>,
}

/// An answer, lent until the next request.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Wire {
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a whole request, as bytes, and reads the whole answer.
    ///
    /// # Errors
    /// The connection breaks, or the answer does not tell its length.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (mut searched, head_end) = (0_usize, HEAD_END.len());
        let head = loop {
            self.more().await?;
            // The mark may lie across two reads.
            let from = searched.saturating_sub(head_end);
            if let Some(at) = find(&self.buffer[from..], HEAD_END) {
                break from + at + head_end;
            }
            searched = self.buffer.len();
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("the head is no text")?;
        let status = status(text)?;
        let whole = head + length(text)?;
        while self.buffer.len() < whole {
            self.more().await?;
        }
        ensure!(self.buffer.len() == whole, "the answer is longer than it said");
        let body = &self.buffer[head..];
        Ok(Answer { status, body })
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed in the middle of an answer");
        Ok(())
    }
}

/// Bytes of a request. `headers` are whole lines.
#[must_use]
pub fn request(method: &str, path: &str, headers: &[String], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Where `needle` begins.
#[must_use]
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// The string value of the first `"key":"…"` in `body`, for values without escapes.
#[must_use]
pub fn string_of<'a>(body: &'a [u8], key: &str) -> Option<&'a str> {
    let mark = format!("\"{key}\":\"");
    let from = find(body, mark.as_bytes())? + mark.len();
    let length = body[from..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&body[from..from + length]).ok()
}

fn status(head: &str) -> Result<u16> {
    let word = head.split(' ').nth(1).context("no status line")?;
    word.parse().with_context(|| format!("{word} is no status"))
}

fn length(head: &str) -> Result<usize> {
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return value.trim().parse().context("no length");
        }
    }
    bail!("an answer without content-length:\n{head}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = "HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(status(head).unwrap(), 201);
        assert_eq!(length(head).unwrap(), 12);
        assert!(length("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn strings_are_found() {
        let body = br#"{"id":"a-1","next_page_token":"xyz"}"#;
        assert_eq!(string_of(body, "id"), Some("a-1"));
        assert_eq!(string_of(body, "next_page_token"), Some("xyz"));
        assert_eq!(string_of(body, "none"), None);
    }
}
