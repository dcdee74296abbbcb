//! Server-sent events (HTML living standard, section 9.2), as far as control planes send them.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;

/// Longest single event; a snapshot of 50 zones is far below.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// `message` unless named.
    pub name: String,
    /// Last id seen.
    pub id: String,
    /// Lines joined by newlines.
    pub data: String,
}

/// Events as they arrive.
pub struct Events {
    body: Incoming,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl Events {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default(), ready: VecDeque::new() }
    }

    /// The next event; `None` when the server ended the stream or broke it.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.ready.extend(self.parser.push(&data)?);
            }
        }
    }
}

/// Turns bytes into events.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
    event: Event,
}

impl Parser {
    /// `None` when an event grows beyond its limit.
    fn push(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[start..start + length]).into_owned();
            start += length + 1;
            events.extend(self.line(line.trim_end_matches('\r')));
        }
        self.rest.drain(..start);
        (self.rest.len() + self.event.data.len() <= EVENT_BYTES_MAX).then_some(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let id = self.event.id.clone();
            let done = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
            // An event without data is not dispatched: that is how comments keep a connection alive.
            return (!done.data.is_empty() || !done.name.is_empty()).then_some(done);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.into(),
            "id" => self.event.id = value.into(),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut_of_the_bytes() {
        let text = ": hello\n\nevent: put\nid: 7\ndata: {\"a\":\ndata: 1}\n\r\nid: 8\ndata: x\r\n\r\n";
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let (a, b) = text.as_bytes().split_at(cut);
            let mut events = parser.push(a).unwrap();
            events.extend(parser.push(b).unwrap());
            assert_eq!(events.len(), 2, "cut at {cut}");
            assert_eq!(events[0], Event { name: "put".into(), id: "7".into(), data: "{\"a\":\n1}".into() });
            assert_eq!((events[1].id.as_str(), events[1].data.as_str()), ("8", "x"));
        }
    }
}
