//! Queues: Put, Get, Peek, Delete, Clear, with visibility.

use axum::http::Method;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reply::Reply;
use crate::storage::{Outcome, Request, http_date, stamped};

/// Most messages of a queue; beyond it the service is busy.
const MESSAGES_MAX: usize = 100_000;
/// Longest text of a message (bytes).
const TEXT_BYTES_MAX: usize = 64 << 10;
const VISIBILITY_MS: i64 = 30_000;

/// A queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: Vec<Message>,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: Uuid,
    /// As it was put: usually base64.
    pub(crate) text: String,
    inserted_ms: i64,
    /// When it can be seen again.
    visible_ms: i64,
    receipt: Uuid,
    dequeued: u32,
}

impl Queue {
    /// Adds a message.
    pub(crate) fn put(&mut self, text: String, now_ms: i64) -> &Message {
        self.messages.push(Message {
            id: Uuid::new_v4(),
            text,
            inserted_ms: now_ms,
            visible_ms: now_ms,
            receipt: Uuid::new_v4(),
            dequeued: 0,
        });
        &self.messages[self.messages.len() - 1]
    }

    /// Takes the visible messages out of sight for good; they come back by [`Self::give_back`].
    pub(crate) fn take_visible(&mut self, now_ms: i64) -> Vec<Message> {
        let (visible, hidden) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| message.visible_ms <= now_ms);
        self.messages = hidden;
        visible
    }

    /// Puts a message back, to be seen from `visible_ms` on.
    pub(crate) fn give_back(&mut self, mut message: Message, visible_ms: i64) {
        message.visible_ms = visible_ms;
        message.dequeued += 1;
        self.messages.push(message);
    }

    pub(super) fn request(&mut self, request: &Request, rest: &str) -> Outcome {
        match request.method {
            Method::POST if rest.is_empty() => {
                let Some(text) = message_text(&request.body) else {
                    return Outcome::error(400, "InvalidXmlDocument");
                };
                if text.len() > TEXT_BYTES_MAX {
                    return Outcome::error(413, "RequestBodyTooLarge");
                }
                if self.messages.len() >= MESSAGES_MAX {
                    return Outcome::error(503, "ServerBusy");
                }
                let message = self.put(text, request.now_ms);
                let details = json!({ "message": message.id.to_string() });
                let body = listed([message], true, false);
                Outcome::applied(stamped(Reply::xml(201, body), request), details)
            }
            Method::GET if rest.is_empty() => self.get(request),
            Method::DELETE => {
                let id = rest.trim_start_matches('/');
                let receipt = request.parameter("popreceipt");
                let found = self.messages.iter().position(|message| {
                    message.id.to_string() == id
                        && receipt == Some(message.receipt.to_string().as_str())
                });
                match found {
                    Some(at) => {
                        self.messages.remove(at);
                        Outcome::applied(stamped(Reply::empty(204), request), Value::Null)
                    }
                    None => Outcome::error(404, "MessageNotFound"),
                }
            }
            _ => Outcome::error(400, "UnsupportedOperation"),
        }
    }

    fn get(&mut self, request: &Request) -> Outcome {
        let number = |name| request.parameter(name).and_then(|n| n.parse::<i64>().ok());
        let count = usize::try_from(number("numofmessages").unwrap_or(1).clamp(1, 32)).unwrap_or(1);
        let hidden_ms =
            number("visibilitytimeout").map_or(VISIBILITY_MS, |s| s.saturating_mul(1000));
        let peek = request.parameter("peekonly") == Some("true");
        let now_ms = request.now_ms;
        let mut seen = Vec::new();
        for message in &mut self.messages {
            if seen.len() >= count || message.visible_ms > now_ms {
                continue;
            }
            if !peek {
                message.visible_ms = now_ms.saturating_add(hidden_ms);
                message.receipt = Uuid::new_v4();
                message.dequeued += 1;
            }
            seen.push(message.clone());
        }
        let details = json!({ "messages": seen.len() });
        let body = listed(&seen, !peek, true);
        Outcome::applied(stamped(Reply::xml(200, body), request), details)
    }
}

/// Messages as answers list them.
fn listed<'m>(
    messages: impl IntoIterator<Item = &'m Message>,
    receipts: bool,
    texts: bool,
) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList>");
    for message in messages {
        let expires = message.inserted_ms.saturating_add(7 * 86_400_000);
        out.push_str(&format!(
            "<QueueMessage><MessageId>{}</MessageId><InsertionTime>{}</InsertionTime>\
             <ExpirationTime>{}</ExpirationTime>",
            message.id,
            http_date(message.inserted_ms),
            http_date(expires)
        ));
        if receipts {
            out.push_str(&format!(
                "<PopReceipt>{}</PopReceipt><TimeNextVisible>{}</TimeNextVisible>",
                message.receipt,
                http_date(message.visible_ms)
            ));
        }
        if texts {
            out.push_str(&format!(
                "<DequeueCount>{}</DequeueCount><MessageText>{}</MessageText>",
                message.dequeued,
                escape(&message.text)
            ));
        }
        out.push_str("</QueueMessage>");
    }
    out.push_str("</QueueMessagesList>");
    out
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the other events mean nothing here"
)]
fn message_text(body: &[u8]) -> Option<String> {
    let mut reader = Reader::from_str(std::str::from_utf8(body).ok()?);
    let (mut text, mut inside) = (None, false);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => inside = tag.name().as_ref() == "MessageText",
            Event::Text(part) if inside => {
                text.get_or_insert_with(String::new).push_str(&part);
            }
            Event::GeneralRef(part) if inside => {
                let resolved = quick_xml::escape::resolve_predefined_entity(&part)?;
                text.get_or_insert_with(String::new).push_str(resolved);
            }
            Event::End(_) => inside = false,
            Event::Eof => return text,
            _ => {}
        }
    }
}
