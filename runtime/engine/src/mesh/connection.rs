//! Messages over a control connection: cut into frames, and put together again.
//!
//! A message is a head in JSON, with its length before it, and what follows it as it is. Each frame
//! begins with a byte that says whether it is the last of its message.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thalweg_stream::Fault;
use tokio::sync::mpsc;

use super::FRAME_BYTES_MAX;
use crate::failure::Failure;

/// Bytes of one message: an object to be staged has 64 MiB at most, a piece of state a few.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

const MORE: u8 = 0;
const LAST: u8 = 1;

/// The sending side.
pub(super) struct Sending {
    /// The other process.
    pub(super) process: usize,
    pub(super) frames: mpsc::Sender<Bytes>,
}

/// The receiving side.
pub(super) struct Receiving {
    pub(super) process: usize,
    pub(super) frames: mpsc::Receiver<Result<Bytes, Fault>>,
    /// The message so far.
    pub(super) begun: BytesMut,
}

impl Sending {
    /// Whether the connection takes no more. The receiving side then comes to its end, too.
    pub(super) fn closed(&self) -> bool {
        self.frames.is_closed()
    }

    /// Sends a message; waits while the connection takes no more.
    pub(super) async fn send(&self, head: &impl Serialize, body: &[Bytes]) -> Result<(), Failure> {
        for frame in frames(head, body)? {
            let sent = self.frames.send(frame).await;
            sent.map_err(|_| Failure::lost(self.process, "its connection is closed"))?;
        }
        Ok(())
    }
}

impl Receiving {
    /// The next message.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Bytes), Failure> {
        loop {
            let frame = match self.frames.recv().await {
                Some(Ok(frame)) => frame,
                Some(Err(why)) => return Err(Failure::lost(self.process, why)),
                None => return Err(Failure::lost(self.process, "its connection is closed")),
            };
            match join(&mut self.begun, &frame) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let parts = parts(message);
                    return parts.map_err(|why| Failure::lost(self.process, why));
                }
                Err(why) => return Err(Failure::lost(self.process, why)),
            }
        }
    }
}

fn frames(head: &impl Serialize, body: &[Bytes]) -> Result<Vec<Bytes>, Fault> {
    let head = serde_json::to_vec(head)
        .map_err(|error| Fault::bug(format!("a message cannot be written: {error}")))?;
    let length = 4 + head.len() + body.iter().map(Bytes::len).sum::<usize>();
    let mut message = BytesMut::with_capacity(length);
    message.put_u32_le(u32::try_from(head.len()).unwrap_or(u32::MAX));
    message.put_slice(&head);
    body.iter().for_each(|part| message.put_slice(part));
    if message.len() > MESSAGE_BYTES_MAX {
        let what = format!("a message of {} bytes is too long", message.len());
        return Err(Fault::bug(what));
    }
    let mut rest = message.freeze();
    let mut frames = Vec::new();
    loop {
        let piece = rest.split_to(rest.len().min(FRAME_BYTES_MAX - 1));
        let mut frame = BytesMut::with_capacity(1 + piece.len());
        frame.put_u8(if rest.is_empty() { LAST } else { MORE });
        frame.put_slice(&piece);
        frames.push(frame.freeze());
        if rest.is_empty() {
            return Ok(frames);
        }
    }
}

/// Adds a frame to the message that has begun, and gives it if it is the last.
fn join(begun: &mut BytesMut, frame: &[u8]) -> Result<Option<Bytes>, String> {
    let Some((&kind, piece)) = frame.split_first() else {
        return Err("a frame is empty".to_owned());
    };
    if begun.len() + piece.len() > MESSAGE_BYTES_MAX {
        return Err(format!("a message has more than {MESSAGE_BYTES_MAX} bytes"));
    }
    begun.put_slice(piece);
    match kind {
        MORE => Ok(None),
        LAST => Ok(Some(begun.split().freeze())),
        other => Err(format!("a frame is of kind {other}")),
    }
}

fn parts<T: DeserializeOwned>(mut message: Bytes) -> Result<(T, Bytes), String> {
    let length = message.first_chunk::<4>().copied().map(u32::from_le_bytes);
    let length = length.map_or(usize::MAX, |length| length as usize);
    if message.len().saturating_sub(4) < length {
        return Err("a message is cut off".to_owned());
    }
    let head = message.split_to(4 + length).slice(4..);
    let head = serde_json::from_slice(&head)
        .map_err(|error| format!("a message cannot be read: {error}"))?;
    Ok((head, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_come_as_they_went() {
        for length in [0, 1, FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX, 3_000_000] {
            let body = [
                Bytes::from(vec![7; length / 2]),
                vec![9; length - length / 2].into(),
            ];
            let frames = frames(&("head", length), &body).expect("plain");
            assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
            let mut begun = BytesMut::new();
            let mut came = Vec::new();
            for frame in &frames {
                came.extend(join(&mut begun, frame).expect("as it went"));
            }
            let [message] = <[Bytes; 1]>::try_from(came).expect("one");
            let ((head, told), rest) = parts::<(String, usize)>(message).expect("as it went");
            assert_eq!((head.as_str(), told), ("head", length));
            assert_eq!(rest, body.concat());
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut begun = BytesMut::new();
        assert!(join(&mut begun, &[]).is_err());
        assert!(join(&mut begun, &[7, 1]).is_err());
        for damaged in [&b""[..], b"\x01", b"\x09\0\0\0{}", b"\x02\0\0\0{]"] {
            let message = Bytes::copy_from_slice(damaged);
            assert!(parts::<Vec<u8>>(message).is_err(), "{damaged:?}");
        }
    }
}
