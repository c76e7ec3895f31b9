//! The mesh over real sockets: who is let in, what is noticed, how long that takes.

mod certificate;
mod control;
mod gathering;
mod handshake;
mod proxy;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Attempt, Error, Fate, Joined, Listener, Member, Peer, Secret, Tls};

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn member(process: usize, processes: usize) -> Member {
    Member {
        job: Arc::from("fleet"),
        attempt: Attempt::Is(7),
        process,
        processes,
        secret: Secret::new(&[42; 32]).expect("long enough"),
    }
}

async fn listener(tls: Option<&Tls>) -> Listener {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Listener::bind(address, tls.cloned()).await;
    bound.expect("a free port")
}

/// Where to connect to: by the name in the certificates, if there are any.
fn address(listener: &Listener) -> String {
    let port = listener.address().expect("bound").port();
    match listener.tls() {
        Some(_) => format!("localhost:{port}"),
        None => format!("127.0.0.1:{port}"),
    }
}

async fn lead(
    member: &Member,
    listener: &Listener,
    patience: Duration,
) -> Result<Vec<Peer>, Error> {
    let fates: Vec<Fate> = (0..member.processes).map(|_| Fate::default()).collect();
    member.lead(listener, patience, &fates).await
}

async fn join(member: &Member, leader: &str, tls: Option<&Tls>) -> Result<Joined, Error> {
    join_within(member, leader, tls, PATIENCE).await
}

async fn join_within(
    member: &Member,
    leader: &str,
    tls: Option<&Tls>,
    patience: Duration,
) -> Result<Joined, Error> {
    let own = listener(tls).await;
    member.join(leader, &own, address(&own), patience).await
}

/// A leader and one that follows, directly or by an address that leads to the leader.
async fn pair(leader: &Listener, by: &str, tls: Option<&Tls>) -> (Peer, Joined) {
    let (leading, following) = (member(0, 2), member(1, 2));
    let (led, joined) = tokio::join!(lead(&leading, leader, PATIENCE), join(&following, by, tls));
    let [peer] = <[Peer; 1]>::try_from(led.expect("all come")).expect("one");
    (peer, joined.expect("let in"))
}
