//! Who is let in, and what those are told who are not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep};

use super::{PATIENCE, address, certificate, join, join_within, lead, listener, member, pair};
use crate::{Attempt, Error, Joined, Listener, Member, Peer, Refusal, Secret};

const SHORT: Duration = Duration::from_millis(200);

/// Sends `bytes` and gives what is answered until the connection is closed.
async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(to).await.expect("somebody listens");
    let mut answer = Vec::new();
    // A refusal may close before all is said.
    if socket.write_all(bytes).await.is_ok() {
        ended(socket.read_to_end(&mut answer).await.map(drop));
    }
    answer
}

/// Closed, with unread bytes or without.
fn ended(result: io::Result<()>) {
    let error = result.err().map(|error| error.kind());
    assert!(
        matches!(error, None | Some(io::ErrorKind::ConnectionReset)),
        "{error:?}"
    );
}

/// What process 1 of 2 says first, by the format's description.
fn hello() -> Vec<u8> {
    let mut bytes = b"thalmesh".to_vec();
    bytes.extend(1_u16.to_le_bytes());
    bytes.push(0);
    bytes.extend(Sha256::digest("fleet"));
    bytes.extend(7_u64.to_le_bytes());
    for number in [1_u32, 0, 2] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([9; 32]);
    bytes
}

/// `hello`, with one byte changed.
fn hello_but(at: usize) -> Vec<u8> {
    let mut bytes = hello();
    bytes[at] ^= 0x40;
    bytes
}

fn refusal(joined: Result<Joined, Error>) -> Refusal {
    let error = joined.expect_err("refused");
    let (Error::RefusedBy {
        refusal,
        process: 0,
    }
    | Error::Refused(refusal)) = error
    else {
        panic!("{error}")
    };
    refusal
}

/// Lets `wrong` try; then the right ones must be let in all the same.
async fn refused<F: Future<Output = ()>>(wrong: impl FnOnce(SocketAddr) -> F) {
    let listener = listener(None).await;
    let at = listener.address().expect("bound");
    let leading = member(0, 2);
    let led = lead(&leading, &listener, PATIENCE);
    let others = async {
        Box::pin(wrong(at)).await;
        join(&member(1, 2), &at.to_string(), None).await
    };
    let (led, joined) = tokio::join!(led, others);
    assert_eq!(led.expect("all come").len(), 1);
    assert_eq!(joined.expect("let in").generation, 7);
}

#[tokio::test]
async fn those_who_belong_elsewhere_are_refused_and_told_why() {
    let other = |change: fn(&mut Member)| {
        let mut other = member(1, 2);
        change(&mut other);
        other
    };
    let table: [(Member, Refusal); 7] = [
        (other(|m| m.job = Arc::from("weather")), Refusal::Job),
        (other(|m| m.attempt = Attempt::Is(6)), Refusal::Generation),
        (other(|m| m.attempt = Attempt::Is(8)), Refusal::Generation),
        // One that has seen this attempt waits for a later one.
        (
            other(|m| m.attempt = Attempt::After(7)),
            Refusal::Generation,
        ),
        (other(|m| m.processes = 3), Refusal::Process),
        (other(|m| m.process = 5), Refusal::Process),
        (
            other(|m| m.secret = Secret::new(&[43; 32]).expect("long enough")),
            Refusal::Secret,
        ),
    ];
    let all = refused(|at| async move {
        for (wrong, expected) in table {
            let joined = join_within(&wrong, &at.to_string(), None, SHORT).await;
            assert_eq!(refusal(joined), expected);
        }
    });
    Box::pin(all).await;
}

#[tokio::test]
async fn strangers_and_rubbish_are_refused() {
    refused(|at| async move {
        assert_eq!(say(at, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await, b"");
        assert_eq!(say(at, &[0xff; 5000]).await, b"");
        assert_eq!(say(at, &hello_but(0)).await, b"");
        // Version, role, job, generation, from, to, processes.
        for (at_byte, code) in [(8, 1), (10, 5), (20, 2), (43, 3), (51, 4), (55, 4), (59, 4)] {
            assert_eq!(say(at, &hello_but(at_byte)).await, [code], "byte {at_byte}");
        }
        // Who does not know the secret has to guess.
        let guess = [hello(), vec![0; 32]].concat();
        let answer = say(at, &guess).await;
        assert_eq!((answer.len(), answer[0], answer[73]), (74, 0, 6));
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_at_any_byte_changes_nothing() {
    refused(|at| async move {
        let whole = [hello(), vec![0; 32]].concat();
        for length in 0..whole.len() {
            let mut socket = TcpStream::connect(at).await.expect("somebody listens");
            socket.write_all(&whole[..length]).await.expect("sent");
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_said_once_is_not_believed_again() {
    // A wire-tapper has what the right process said.
    let listener = listener(None).await;
    let at = listener.address().expect("bound");
    let tapped = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let tap = tapped.local_addr().expect("bound");
    let heard = async {
        let (mut near, _) = tapped.accept().await.expect("the caller");
        let mut far = TcpStream::connect(at).await.expect("the leader");
        let mut said = vec![0; 95];
        near.read_exact(&mut said).await.expect("hello");
        far.write_all(&said).await.expect("passed on");
        let mut answer = [0; 73];
        far.read_exact(&mut answer).await.expect("answer");
        near.write_all(&answer).await.expect("passed on");
        let mut proof = vec![0; 32];
        near.read_exact(&mut proof).await.expect("proof");
        said.extend(proof);
        said
    };
    let following = member(1, 2);
    let tap = tap.to_string();
    let join = join_within(&following, &tap, None, SHORT);
    let leading = member(0, 2);
    let led = lead(&leading, &listener, PATIENCE);
    let said = tokio::select! {
        said = heard => said,
        _ = led => panic!("nobody is let in"),
        _ = join => panic!("it waits for the last byte"),
    };
    assert_eq!(said.len(), hello().len() + 32);
    refused(|at| async move {
        assert_eq!(say(at, &said).await.last(), Some(&6));
    })
    .await;
}

#[tokio::test]
async fn the_silent_and_the_slow_are_given_up() {
    refused(|at| async move {
        let silent = async {
            let mut socket = TcpStream::connect(at).await.expect("somebody listens");
            let mut answer = Vec::new();
            ended(socket.read_to_end(&mut answer).await.map(drop));
            assert_eq!(answer, b"");
        };
        let slow = async {
            let mut socket = TcpStream::connect(at).await.expect("somebody listens");
            let mut pace = interval(Duration::from_millis(200));
            for byte in hello() {
                pace.tick().await;
                if socket.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
            panic!("it had 19 s");
        };
        tokio::join!(silent, slow);
    })
    .await;
}

#[tokio::test]
async fn many_silent_ones_keep_nobody_waiting() {
    refused(|at| async move {
        // Given up a few dozen at a time, as each has been silent, they would take more than a minute.
        for _ in 0..1000 {
            let silent = TcpStream::connect(at).await.expect("somebody listens");
            tokio::spawn(async move {
                sleep(PATIENCE).await;
                drop(silent);
            });
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_of_the_same_number_is_refused() {
    let listener = listener(None).await;
    let at = address(&listener);
    let leading = member(0, 3);
    let led = lead(&leading, &listener, PATIENCE);
    let first = member(1, 3);
    let first = join(&first, &at, None);
    let others = async {
        // Whichever of the two comes first is in.
        let second = member(1, 3);
        let second = join_within(&second, &at, None, SHORT);
        tokio::pin!(first);
        let second = tokio::select! {
            biased;
            _ = &mut first => panic!("process 2 is missing"),
            second = second => second,
        };
        assert_eq!(refusal(second), Refusal::Unexpected);
        let last = member(2, 3);
        tokio::join!(first, join(&last, &at, None))
    };
    let (led, (first, last)) = tokio::join!(led, others);
    assert_eq!(led.expect("all come").len(), 2);
    let places = |joined: &Joined| joined.data.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(places(&first.expect("let in")), [true, false, true]);
    assert_eq!(places(&last.expect("let in")), [true, true, false]);
}

#[tokio::test]
async fn who_does_not_come_is_named() {
    let listener = listener(None).await;
    let at = listener.address().expect("bound");
    let leading = member(0, 2);
    let led = lead(&leading, &listener, Duration::from_secs(1));
    let (led, _) = tokio::join!(led, say(at, b"GET / HTTP/1.1\r\n"));
    assert_eq!(
        led.expect_err("nobody").to_string(),
        "process 1 (control connection), process 1 (data connection) did not connect within 1 s; \
         1 refused, the last because what it says is not the protocol of Thalweg's processes"
    );
}

#[tokio::test]
async fn one_that_only_claims_to_be_the_leader_learns_nothing() {
    let impostor = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = impostor.local_addr().expect("bound");
    let answer = async {
        let (mut socket, _) = impostor.accept().await.expect("the caller");
        let mut hello = [0; 95];
        socket.read_exact(&mut hello).await.expect("hello");
        let mut answer = [1; 73];
        answer[0] = 0;
        socket.write_all(&answer).await.expect("answer");
        let mut more = Vec::new();
        ended(socket.read_to_end(&mut more).await.map(drop));
        more
    };
    let following = member(1, 2);
    let at = at.to_string();
    let (joined, more) = tokio::join!(join(&following, &at, None), answer);
    assert_eq!(refusal(joined), Refusal::Secret);
    assert_eq!(more, b"", "no proof for who has none");
}

#[tokio::test]
async fn one_that_follows_may_learn_the_generation() {
    let listener = listener(None).await;
    let at = address(&listener);
    let mut following = member(1, 2);
    following.attempt = Attempt::After(6);
    let leading = member(0, 2);
    let (led, joined) = tokio::join!(
        lead(&leading, &listener, PATIENCE),
        join(&following, &at, None)
    );
    assert_eq!(led.expect("all come").len(), 1);
    assert_eq!(joined.expect("let in").generation, 7);
}

#[tokio::test]
async fn other_hosts_need_tls() {
    let open = Listener::bind(SocketAddr::from(([0, 0, 0, 0], 0)), None).await;
    assert!(matches!(open, Err(Error::TlsRequired(_))));
}

#[tokio::test]
async fn tls_lets_in_whom_our_authority_knows() {
    let folder = certificate::folder();
    let tls = |authority, process| certificate::tls(folder.path(), authority, process);
    let ours = tls("ours", "ours").expect("usable");
    let listener = listener(Some(&ours)).await;
    let at = address(&listener);
    let leading = member(0, 2);
    let led = lead(&leading, &listener, PATIENCE);
    let others = async {
        let following = member(1, 2);
        // Signed by another; believing another; none at all; under a name that is not in the certificate.
        let stranger = tls("ours", "theirs").expect("usable");
        let joined = join_within(&following, &at, Some(&stranger), SHORT).await;
        assert!(matches!(joined, Err(Error::Tls(_))), "{joined:?}");
        let doubter = tls("theirs", "ours").expect("usable");
        let joined = join_within(&following, &at, Some(&doubter), SHORT).await;
        assert!(matches!(joined, Err(Error::Tls(_))), "{joined:?}");
        let joined = join_within(&following, &at, None, SHORT).await;
        joined.expect_err("no TLS");
        let misnamed = at.replace("localhost", "127.0.0.1");
        let joined = join_within(&following, &misnamed, Some(&ours), SHORT).await;
        assert!(matches!(joined, Err(Error::Tls(_))), "{joined:?}");
        // TLS is not enough.
        let mut guesser = member(1, 2);
        guesser.secret = Secret::new(&[43; 32]).expect("long enough");
        let joined = join_within(&guesser, &at, Some(&ours), SHORT).await;
        assert_eq!(refusal(joined), Refusal::Secret);
        join(&following, &at, Some(&ours)).await
    };
    let (led, joined) = tokio::join!(led, others);
    let [peer] = <[Peer; 1]>::try_from(led.expect("all come")).expect("one");
    let mut joined = joined.expect("let in");
    let sent = peer.control.outgoing.send("encrypted".into()).await;
    sent.expect("open");
    let came = joined.control.incoming.recv().await;
    assert_eq!(came.expect("a message").expect("no loss"), "encrypted");
}

#[tokio::test]
async fn a_mesh_without_tls_carries_messages() {
    let listener = listener(None).await;
    let (mut peer, joined) = pair(&listener, &address(&listener), None).await;
    let sent = joined.control.outgoing.send("plain".into()).await;
    sent.expect("open");
    let came = peer.control.incoming.recv().await;
    assert_eq!(came.expect("a message").expect("no loss"), "plain");
}
