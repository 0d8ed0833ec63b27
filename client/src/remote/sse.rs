//! Server-sent events out of a byte stream, after the WHATWG rules: fields, multi-line data, comments, any line end.
//! Pure: bytes in, events out.

/// One event. Without `event:` it is a `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub id: Option<String>,
    pub data: String,
}

/// Takes bytes as they come; an event is told when its empty line is there. What is unfinished at the end of the
/// stream is dropped, as the rules say: it will come again after a resume.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a newline after it is the same line end.
    after_return: bool,
    kind: String,
    id: Option<String>,
    data: String,
    has_data: bool,
}

impl Parser {
    /// The events which `bytes` finish.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(first) = bytes.first() {
            let second_half = std::mem::take(&mut self.after_return) && *first == b'\n';
            if second_half {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.take_line(&line));
        }
        events
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            // Comments (an empty field), `retry` and fields of later standards.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        let has_data = std::mem::take(&mut self.has_data);
        let id = self.id.take();
        has_data.then(|| Event {
            kind: if kind.is_empty() {
                "message".to_owned()
            } else {
                kind
            },
            id,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Event> {
        Parser::default().feed(text.as_bytes())
    }

    #[test]
    fn reads_kind_id_and_data() {
        let events =
            all(": hello\nretry: 500\nevent: line\nid: c1\ndata: {\"a\":1}\n\ndata: x\ndata:\ndata: y\n\n");
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].kind, "line");
        assert_eq!(events[0].id.as_deref(), Some("c1"));
        assert_eq!(events[0].data, "{\"a\":1}");
        assert_eq!(
            events[1],
            Event {
                kind: "message".into(),
                id: None,
                data: "x\n\ny".into()
            }
        );
    }

    #[test]
    fn any_line_end_and_any_cut() {
        for text in [
            "event: a\ndata: 1\n\n",
            "event: a\r\ndata: 1\r\n\r\n",
            "event: a\rdata: 1\r\r",
        ] {
            let mut parser = Parser::default();
            let events: Vec<Event> = text.bytes().flat_map(|byte| parser.feed(&[byte])).collect();
            assert_eq!(events, all(text));
            assert_eq!(events.len(), 1, "{text:?}");
        }
    }

    #[test]
    fn heartbeats_and_unfinished_events_tell_nothing() {
        assert!(all(":\n\n: beat\n\n").is_empty());
        assert!(all("data: cut off").is_empty());
        assert!(all("data: cut off\n").is_empty());
    }
}
