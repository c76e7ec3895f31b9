//! Where other processes connect to, and how this one connects to others.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsStream;

use crate::hello::{self, Role};
use crate::member::Member;
use crate::{Error, Fate, Stream, Tls};

/// How long a handshake may take: a few round trips, on a host that is busy.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many may be shaking hands at once. One more takes the place of the one that has been at it for
/// longest: the right ones need milliseconds, and strangers who say nothing keep nobody waiting.
const HANDSHAKES_MAX: usize = 64;
/// How long to wait before an address is tried again: twice as long each time…
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// …up to this.
const TRY_AGAIN_MAX: Duration = Duration::from_millis(500);
/// Label of what TLS binds a handshake to (RFC 5705).
const BINDING: &[u8] = b"EXPORTER-thalweg-mesh";

/// Waits for other processes at an address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
}

/// Who called from where, and what came of the handshake.
type Shaken = (SocketAddr, Result<(Role, usize, Socket), Error>);

/// Who is waited for. Shared by the handshakes in progress.
type Wanted = Arc<Mutex<BTreeSet<(usize, Role)>>>;

impl Listener {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened at, or is open to other hosts although there is no TLS.
    pub async fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, Error> {
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(Error::TlsRequired(address.to_string()));
        }
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(|e| Error::io(format!("listening at {address}"), e))?;
        Ok(Self { socket, tls })
    }

    /// Where others connect to.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        let address = self.socket.local_addr();
        address.map_err(|e| Error::io("listening", e))
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Lets in all of `wanted`, once each, and nobody else. Whoever is refused changes nothing for the
    /// others. Calls `arrived` for each.
    pub(crate) async fn admit(
        &self,
        member: &Member,
        wanted: BTreeSet<(usize, Role)>,
        patience: Duration,
        mut arrived: impl FnMut(usize, Role, Socket) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        let mut left = wanted.len();
        let wanted = Arc::new(Mutex::new(wanted));
        let mut handshakes = JoinSet::new();
        let mut oldest = VecDeque::new();
        let mut refused = (0_usize, String::new());
        while left > 0 {
            let next = async {
                tokio::select! {
                    Some(done) = handshakes.join_next() => Some(done),
                    // As many again may have been ended and not been collected yet.
                    accepted = self.socket.accept(), if handshakes.len() < 2 * HANDSHAKES_MAX => {
                        let begun = self.begin(accepted, &mut handshakes, member, &wanted).await;
                        make_room(&mut oldest, begun);
                        None
                    }
                }
            };
            let Ok(next) = timeout_at(deadline, next).await else {
                return Err(missing(&wanted, patience, &refused));
            };
            match next {
                None => {}
                Some(Ok((_, Ok((role, process, socket))))) => {
                    left -= 1;
                    arrived(process, role, socket)?;
                }
                Some(Ok((address, Err(error)))) => {
                    tracing::warn!(%address, %error, "a connection was refused");
                    refused = (refused.0 + 1, error.to_string());
                }
                Some(Err(error)) if error.is_cancelled() => {
                    refused = (refused.0 + 1, "too many came at once".to_owned());
                }
                Some(Err(error)) => return Err(Error::io("a handshake", error.into())),
            }
        }
        Ok(())
    }

    async fn begin(
        &self,
        accepted: std::io::Result<(TcpStream, SocketAddr)>,
        handshakes: &mut JoinSet<Shaken>,
        member: &Member,
        wanted: &Wanted,
    ) -> Option<AbortHandle> {
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The one that connected is gone, or files are short; others may still come.
                tracing::warn!(%error, "a connection was not accepted");
                // Where files are short, the same connection is refused again until some are closed.
                tokio::time::sleep(TRY_AGAIN).await;
                return None;
            }
        };
        let (member, tls) = (member.clone(), self.tls.clone());
        let wanted = Arc::clone(wanted);
        Some(handshakes.spawn(async move {
            let done = timeout(HANDSHAKE, answer(socket, address, &member, tls, &wanted)).await;
            (address, done.unwrap_or(Err(Error::Silent(HANDSHAKE))))
        }))
    }
}

/// Ends the oldest handshakes if there are too many with the one that has `begun`.
fn make_room(oldest: &mut VecDeque<AbortHandle>, begun: Option<AbortHandle>) {
    oldest.retain(|handshake| !handshake.is_finished());
    oldest.extend(begun);
    while oldest.len() > HANDSHAKES_MAX
        && let Some(handshake) = oldest.pop_front()
    {
        handshake.abort();
    }
}

/// A place among those that are waited for, as taken by a caller. Whoever does not hear that it is
/// welcome may come again, so it is given back unless it is kept.
struct Claimed<'a> {
    wanted: &'a Wanted,
    place: Option<(usize, Role)>,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.insert(place);
        }
    }
}

async fn answer(
    socket: TcpStream,
    address: SocketAddr,
    member: &Member,
    tls: Option<Tls>,
    wanted: &Wanted,
) -> Result<(Role, usize, Socket), Error> {
    let mut socket = match tls {
        Some(tls) => Socket::Tls(Box::new(tls.accept(socket).await?)),
        None if address.ip().is_loopback() => Socket::Plain(socket),
        None => return Err(Error::TlsRequired(address.to_string())),
    };
    let binding = socket.binding()?;
    let mut claimed = Claimed {
        wanted,
        place: None,
    };
    let claim = |role, process| {
        let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = wanted.remove(&(process, role));
        claimed.place = expected.then_some((process, role));
        expected
    };
    let answered = match &mut socket {
        Socket::Plain(socket) => hello::answer(socket, member, &binding, claim).await,
        Socket::Tls(socket) => hello::answer(socket, member, &binding, claim).await,
    };
    let (role, process) = answered?;
    claimed.place = None;
    Ok((role, process, socket))
}

fn missing(wanted: &Wanted, waited: Duration, refused: &(usize, String)) -> Error {
    let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
    let who: Vec<String> = wanted
        .iter()
        .map(|(process, role)| format!("process {process} ({})", role.name()))
        .collect();
    let refused = match refused {
        (0, _) => String::new(),
        (count, last) => format!("; {count} refused, the last because {last}"),
    };
    Error::Missing {
        who: who.join(", "),
        waited,
        refused,
    }
}

/// Connects to `process` at `address`, "host:port", until it is there or `patience` is at its end.
/// Gives its generation, too.
pub(crate) async fn connect(
    member: &Member,
    role: Role,
    process: usize,
    address: &str,
    tls: Option<&Tls>,
    patience: Duration,
) -> Result<(Socket, u64), Error> {
    let deadline = Instant::now() + patience;
    let mut pause = TRY_AGAIN;
    loop {
        let attempt = timeout(HANDSHAKE, call(member, role, process, address, tls));
        let error = match attempt.await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => error,
            Err(_) => Error::Silent(HANDSHAKE),
        };
        if !error.may_pass() || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::debug!(process, address, %error, "not connected yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(TRY_AGAIN_MAX);
    }
}

async fn call(
    member: &Member,
    role: Role,
    process: usize,
    address: &str,
    tls: Option<&Tls>,
) -> Result<(Socket, u64), Error> {
    let io = |error| {
        Error::io(
            format!("connecting to process {process} at {address}"),
            error,
        )
    };
    let socket = TcpStream::connect(address).await.map_err(io)?;
    let mut socket = match tls {
        Some(tls) => Socket::Tls(Box::new(tls.connect(address, socket).await?)),
        None if socket.peer_addr().map_err(io)?.ip().is_loopback() => Socket::Plain(socket),
        None => return Err(Error::TlsRequired(address.to_owned())),
    };
    let binding = socket.binding()?;
    let generation = match &mut socket {
        Socket::Plain(socket) => hello::call(socket, member, role, process, &binding).await,
        Socket::Tls(socket) => hello::call(socket, member, role, process, &binding).await,
    };
    Ok((socket, generation?))
}

/// A connection that is made.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The halves of a connection, for tasks.
pub(crate) type Halves = (
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
);

impl Socket {
    /// What only the two ends of the TLS session know; nothing without TLS.
    fn binding(&self) -> Result<Vec<u8>, Error> {
        let Self::Tls(stream) = self else {
            return Ok(Vec::new());
        };
        let exported = match &**stream {
            TlsStream::Client(s) => s.get_ref().1.export_keying_material([0; 32], BINDING, None),
            TlsStream::Server(s) => s.get_ref().1.export_keying_material([0; 32], BINDING, None),
        };
        exported
            .map(Vec::from)
            .map_err(|e| Error::Tls(e.to_string()))
    }

    /// For threads: the data connection to `process`.
    pub(crate) fn blocking(self, process: usize, fate: &Fate) -> Result<Stream, Error> {
        let (socket, tls) = match self {
            Self::Plain(socket) => (socket, None),
            Self::Tls(stream) => match *stream {
                TlsStream::Client(stream) => {
                    let (socket, tls) = stream.into_inner();
                    (socket, Some(tls.into()))
                }
                TlsStream::Server(stream) => {
                    let (socket, tls) = stream.into_inner();
                    (socket, Some(tls.into()))
                }
            },
        };
        socket
            .into_std()
            .and_then(|socket| Stream::new(process, socket, tls, fate))
            .map_err(|e| Error::io(format!("the connection to process {process}"), e))
    }

    /// For tasks.
    pub(crate) fn halves(self) -> Halves {
        match self {
            Self::Plain(socket) => {
                // Without it, small messages wait for each other; they arrive all the same.
                socket.set_nodelay(true).ok();
                let (read, write) = socket.into_split();
                (Box::new(read), Box::new(write))
            }
            Self::Tls(stream) => {
                stream.get_ref().0.set_nodelay(true).ok();
                let (read, write) = tokio::io::split(*stream);
                (Box::new(read), Box::new(write))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attempt, Secret};

    #[tokio::test]
    async fn a_connection_that_is_not_accepted_is_not_asked_for_again_at_once() {
        let member = Member {
            job: "job".into(),
            attempt: Attempt::Is(1),
            process: 0,
            processes: 2,
            secret: Secret::new(&[7; 32]).unwrap(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(address, None).await.unwrap();
        let (mut handshakes, began) = (JoinSet::new(), Instant::now());
        let short = std::io::Error::other("too many open files");
        let wanted = Wanted::default();
        listener
            .begin(Err(short), &mut handshakes, &member, &wanted)
            .await;
        assert!(handshakes.is_empty() && began.elapsed() >= TRY_AGAIN);
    }
}
