//! The control connection: messages, whole and in order, and signs of life.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use thalweg_stream::Fault;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::Fate;
use crate::frame::{self, Assembly, Kind};
use crate::listen::Halves;

/// The longest message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How often a process shows that it lives: so often that the loss of one packet, sent again after 200
/// ms, does not look like the loss of the process.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// After which silence a process is lost: six heartbeats. An attempt must be over 5 s after a process
/// was frozen, and what is left is for ending it.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Messages that wait on either side: they are small but for pieces of state, and whoever sends those
/// waits.
const QUEUE_MAX: usize = 16;
/// How long a reason better than "the connection was closed" may take: the one who sees the process
/// end notices a little later than its connections do.
pub(crate) const BETTER_REASON: Duration = Duration::from_millis(200);
/// How long the engine may take to learn of a loss before its sockets are cut all the same.
const HEED: Duration = Duration::from_secs(1);
/// How long the other end is listened to after both sides have nothing more to say.
const LINGER: Duration = Duration::from_secs(1);

/// The control connection to another process.
#[derive(Debug)]
pub struct Control {
    /// Messages to send, of at most [`MESSAGE_BYTES_MAX`] each. Closed if the connection is lost; when it
    /// is dropped, what was sent is delivered and the connection is ended.
    pub outgoing: mpsc::Sender<Bytes>,
    /// Messages that came. If the process is lost the last item says why, as in "process 1 is lost: …";
    /// if it has ended the connection there is no more.
    pub incoming: mpsc::Receiver<Result<Bytes, Fault>>,
}

impl Control {
    /// Carries messages over a connection until it ends, with tasks of its own.
    pub(crate) fn new((read, write): Halves, fate: &Fate) -> Self {
        let (outgoing, to_send) = mpsc::channel(QUEUE_MAX);
        let (arrived, incoming) = mpsc::channel(QUEUE_MAX);
        let (said, ended) = watch::channel(false);
        let sender = Sender {
            write,
            sequence: 0,
            fate: fate.clone(),
            ended: said,
        };
        let receiver = Receiver {
            read,
            assembly: Assembly::new(MESSAGE_BYTES_MAX),
            fate: fate.clone(),
            ended,
        };
        let sending = tokio::spawn(sender.run(to_send));
        tokio::spawn(async move {
            receiver.run(arrived).await;
            // All that was to be sent is sent, or nobody is there to read it.
            sending.abort();
        });
        Self { outgoing, incoming }
    }
}

struct Sender {
    write: Box<dyn AsyncWrite + Send + Unpin>,
    sequence: u64,
    fate: Fate,
    /// Whether the end has been sent. Heartbeats go on: the other side may have more to say, and has to
    /// know that somebody listens.
    ended: watch::Sender<bool>,
}

impl Sender {
    async fn run(mut self, to_send: mpsc::Receiver<Bytes>) {
        let Err(error) = self.send_all(to_send).await;
        // Once the end is sent, the other side may close.
        if !*self.ended.borrow() {
            self.fate
                .lose(format!("its control connection broke: {error}"));
        }
    }

    async fn send_all(&mut self, mut to_send: mpsc::Receiver<Bytes>) -> io::Result<Infallible> {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let open = !*self.ended.borrow();
            let (kind, content) = tokio::select! {
                _ = beat.tick() => (Kind::Heartbeat, Bytes::new()),
                message = to_send.recv(), if open => match message {
                    Some(message) => (Kind::Content, message),
                    None => (Kind::End, Bytes::new()),
                },
            };
            if content.len() > MESSAGE_BYTES_MAX {
                let length = content.len();
                return Err(io::Error::other(format!(
                    "a message of {length} bytes is too long"
                )));
            }
            let header = frame::header(kind, self.sequence, &content);
            self.sequence += 1;
            let mut frame = Buf::chain(header.as_slice(), content);
            self.write.write_all_buf(&mut frame).await?;
            self.write.flush().await?;
            if kind == Kind::End {
                self.ended.send_replace(true);
            }
        }
    }
}

struct Receiver {
    read: Box<dyn AsyncRead + Send + Unpin>,
    assembly: Assembly,
    fate: Fate,
    /// Whether this side has sent its end.
    ended: watch::Receiver<bool>,
}

impl Receiver {
    async fn run(mut self, arrived: mpsc::Sender<Result<Bytes, Fault>>) {
        let heard = self.receive(&arrived).await;
        if let Err(reason) = &heard {
            self.fate.lose(Arc::clone(reason));
            let fault = Err(Fault::transient(reason.to_string()));
            // Nobody need listen any more.
            if timeout(HEED, arrived.send(fault)).await.is_err() {
                tracing::warn!(%reason, "nobody takes notice of a lost process");
            }
        }
        // Whoever listens knows that there is no more.
        drop(arrived);
        let ended = match heard {
            Ok(true) => self.outlast().await,
            Ok(false) => Ok(()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = ended {
            self.fate.lose(reason);
            self.fate.sever();
        }
    }

    /// Receives until the other side has sent its end, or nobody here is interested: whether it has.
    async fn receive(
        &mut self,
        arrived: &mpsc::Sender<Result<Bytes, Fault>>,
    ) -> Result<bool, Arc<str>> {
        let fate = self.fate.clone();
        let mut abandoned = pin!(abandoned(arrived, self.ended.clone()));
        loop {
            let (kind, content) = tokio::select! {
                reason = fate.lost() => return Err(reason),
                () = &mut abandoned => return Ok(false),
                frame = self.frame() => frame?,
            };
            match kind {
                Kind::Heartbeat => {}
                Kind::End => return Ok(true),
                Kind::Content => tokio::select! {
                    reason = fate.lost() => return Err(reason),
                    // What nobody waits for is dropped.
                    _ = arrived.send(Ok(content)) => {}
                },
            }
        }
    }

    /// The other side has sent its end: sees to it that it lives until this one has.
    async fn outlast(&mut self) -> Result<(), Arc<str>> {
        let (fate, mut ended) = (self.fate.clone(), self.ended.clone());
        let mut ended = pin!(async move { ended.wait_for(|ended| *ended).await.is_ok() });
        loop {
            tokio::select! {
                reason = fate.lost() => return Err(reason),
                ended = &mut ended => return match ended {
                    true => Ok(()),
                    // The sender has failed, and has told why.
                    false => Err(fate.lost().await),
                },
                frame = self.frame() => drop(frame?),
            }
        }
    }

    /// The next frame, or why there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    async fn frame(&mut self) -> Result<(Kind, Bytes), Arc<str>> {
        loop {
            match self.assembly.frame() {
                Ok(Some((kind, content))) => return Ok((kind, Bytes::copy_from_slice(content))),
                Ok(None) => {}
                Err(damage) => return Err(format!("its control connection broke: {damage}").into()),
            }
            // Whatever comes is a sign of life, a part of a long message too.
            let read = timeout(SILENCE, self.read.read(self.assembly.space())).await;
            let Ok(read) = read else {
                let silence = SILENCE.as_secs();
                return Err(format!("it has not been heard of for {silence} s").into());
            };
            match read {
                Ok(0) => return Err(closed(&self.fate, "it has closed its connection").await),
                Ok(count) => self.assembly.filled(count),
                Err(error) => {
                    let message = format!("its control connection broke: {error}");
                    return Err(closed(&self.fate, &message).await);
                }
            }
        }
    }
}

/// Why the connection has ended: what is known, or becomes known at once, of the process.
async fn closed(fate: &Fate, otherwise: &str) -> Arc<str> {
    let known = timeout(BETTER_REASON, fate.lost()).await;
    known.unwrap_or_else(|_| otherwise.into())
}

/// Waits until nobody here sends or receives any more, and for a while that what was sent may arrive.
async fn abandoned(arrived: &mpsc::Sender<Result<Bytes, Fault>>, mut ended: watch::Receiver<bool>) {
    if ended.wait_for(|ended| *ended).await.is_err() {
        // The sender has failed, which the fate tells.
        return std::future::pending().await;
    }
    arrived.closed().await;
    sleep(LINGER).await;
}
