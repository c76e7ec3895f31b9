//! The handshake: both ends prove that they belong together before anything else is believed.
//!
//! The caller says what it is (`Hello`, 97 bytes) with a nonce. The listener answers with a byte that
//! welcomes or refuses, its generation, a nonce of its own, and an HMAC over all of it; the caller
//! checks it and answers with another, and gets a last byte. Both are keyed with the job's secret,
//! differ in their first words, so that neither can be sent back as the other, and cover the binding
//! of the TLS session (RFC 5705) if there is one, so that nobody can stand in between. Numbers are
//! little-endian. A caller that does not know the generation yet says 0 and learns it.

use std::io::ErrorKind;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::member::{Attempt, Member};
use crate::secret::random;
use crate::{Error, Refusal};

const MAGIC: [u8; 8] = *b"thalmesh";
const VERSION: u16 = 1;
const HELLO_BYTES: usize = 8 + 2 + 1 + 32 + 8 + 4 + 4 + 4 + 32;
const WELCOME: u8 = 0;
/// What is proved by whom.
const LISTENER: &[u8] = b"thalweg mesh, listener";
const CALLER: &[u8] = b"thalweg mesh, caller";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Messages between a process and the leader.
    Control,
    /// The dataflow's.
    Data,
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control connection",
            Self::Data => "data connection",
        }
    }
}

/// What a caller says first.
struct Hello {
    role: u8,
    job: [u8; 32],
    generation: u64,
    from: u32,
    to: u32,
    processes: u32,
    nonce: [u8; 32],
}

impl Hello {
    fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let parts: [&[u8]; 9] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[self.role],
            &self.job,
            &self.generation.to_le_bytes(),
            &self.from.to_le_bytes(),
            &self.to.to_le_bytes(),
            &self.processes.to_le_bytes(),
            &self.nonce,
        ];
        bytes.copy_from_slice(&parts.concat());
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Self {
        let mut rest = &bytes[MAGIC.len() + 2..];
        Self {
            role: take::<1>(&mut rest)[0],
            job: take(&mut rest),
            generation: u64::from_le_bytes(take(&mut rest)),
            from: u32::from_le_bytes(take(&mut rest)),
            to: u32::from_le_bytes(take(&mut rest)),
            processes: u32::from_le_bytes(take(&mut rest)),
            nonce: take(&mut rest),
        }
    }
}

/// The next `N` bytes of what has been read whole.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest.split_first_chunk().unwrap_or((&[0; N], &[]));
    *rest = after;
    *taken
}

fn job(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

/// Process numbers are far below; one that is not matches nothing.
fn number(process: usize) -> u32 {
    u32::try_from(process).unwrap_or(u32::MAX)
}

/// As the caller: to `process`. Gives the generation of the listener.
pub(crate) async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    member: &Member,
    role: Role,
    process: usize,
    binding: &[u8],
) -> Result<u64, Error> {
    let io = |error| Error::io(format!("handshake with process {process}"), error);
    let hello = Hello {
        role: role.code(),
        job: job(&member.job),
        generation: match member.attempt {
            Attempt::Is(generation) => generation,
            Attempt::After(_) => 0,
        },
        from: number(member.process),
        to: number(process),
        processes: number(member.processes),
        nonce: random()?,
    };
    let hello = hello.encode();
    socket.write_all(&hello).await.map_err(io)?;
    socket.flush().await.map_err(io)?;
    welcome(socket, process).await?;
    let mut answer = [0; 8 + 32];
    socket.read_exact(&mut answer).await.map_err(io)?;
    let mut proof = [0; 32];
    socket.read_exact(&mut proof).await.map_err(io)?;
    let known = [&hello, answer.as_slice(), binding];
    let [a, b, c] = known;
    if !member.secret.verifies(&[LISTENER, a, b, c], &proof) {
        return Err(Error::Refused(Refusal::Secret));
    }
    let generation = u64::from_le_bytes(take(&mut answer.as_slice()));
    let meant = match member.attempt {
        Attempt::Is(ours) => generation == ours,
        Attempt::After(last) => generation > last,
    };
    if !meant {
        return Err(Error::Refused(Refusal::Generation));
    }
    let proof = member.secret.sign(&[CALLER, a, b, c]);
    socket.write_all(&proof).await.map_err(io)?;
    socket.flush().await.map_err(io)?;
    welcome(socket, process).await?;
    Ok(generation)
}

async fn welcome<S: AsyncRead + Unpin>(socket: &mut S, process: usize) -> Result<(), Error> {
    let answer = socket.read_u8().await;
    match answer.map_err(|e| Error::io(format!("handshake with process {process}"), e))? {
        WELCOME => Ok(()),
        code => Err(match Refusal::of(code) {
            Some(refusal) => Error::RefusedBy { process, refusal },
            None => Error::Stranger,
        }),
    }
}

/// As the listener: gives who called and what for. `claim` says whether that is waited for, and from
/// then on it is not any more.
pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    member: &Member,
    binding: &[u8],
    claim: impl FnOnce(Role, usize) -> bool,
) -> Result<(Role, usize), Error> {
    let io = |error| Error::io("handshake", error);
    let mut hello = [0; HELLO_BYTES];
    let (opening, rest) = hello.split_at_mut(MAGIC.len() + 2);
    socket.read_exact(opening).await.map_err(io)?;
    if opening[..MAGIC.len()] != MAGIC {
        return Err(Error::Stranger);
    }
    if opening[MAGIC.len()..] != VERSION.to_le_bytes() {
        return refuse(socket, Refusal::Version).await;
    }
    socket.read_exact(rest).await.map_err(io)?;
    let (role, from, generation) = match examine(&Hello::decode(&hello), member) {
        Ok(found) => found,
        Err(refusal) => return refuse(socket, refusal).await,
    };
    let nonce: [u8; 32] = random()?;
    let answer = [generation.to_le_bytes().as_slice(), &nonce].concat();
    let proof = member.secret.sign(&[LISTENER, &hello, &answer, binding]);
    let message = [&[WELCOME], answer.as_slice(), &proof].concat();
    socket.write_all(&message).await.map_err(io)?;
    socket.flush().await.map_err(io)?;
    let mut proof = [0; 32];
    let proved = socket.read_exact(&mut proof).await;
    proved.map_err(|error| match error.kind() == ErrorKind::UnexpectedEof {
        true => Error::Unconvinced,
        false => io(error),
    })?;
    let known = [CALLER, &hello, &answer, binding];
    if !member.secret.verifies(&known, &proof) {
        return refuse(socket, Refusal::Secret).await;
    }
    if !claim(role, from) {
        return refuse(socket, Refusal::Unexpected).await;
    }
    socket.write_u8(WELCOME).await.map_err(io)?;
    socket.flush().await.map_err(io)?;
    Ok((role, from))
}

/// Who a caller says it is, if it fits.
fn examine(hello: &Hello, member: &Member) -> Result<(Role, usize, u64), Refusal> {
    // A listener belongs to an attempt.
    let Attempt::Is(generation) = member.attempt else {
        return Err(Refusal::Generation);
    };
    let roles = [Role::Control, Role::Data];
    let role = roles.into_iter().find(|role| role.code() == hello.role);
    let role = role.ok_or(Refusal::Unexpected)?;
    if hello.job != job(&member.job) {
        return Err(Refusal::Job);
    }
    if hello.generation != 0 && hello.generation != generation {
        return Err(Refusal::Generation);
    }
    let fits = hello.processes == number(member.processes)
        && hello.to == number(member.process)
        && hello.from < hello.processes
        && hello.from != hello.to;
    let from = usize::try_from(hello.from).map_err(|_| Refusal::Process)?;
    fits.then_some((role, from, generation))
        .ok_or(Refusal::Process)
}

async fn refuse<S: AsyncWrite + Unpin, T>(socket: &mut S, refusal: Refusal) -> Result<T, Error> {
    // Who is refused need not listen.
    let told = socket.write_u8(refusal.code()).await;
    if told.is_ok() {
        socket.flush().await.ok();
    }
    Err(Error::Refused(refusal))
}
