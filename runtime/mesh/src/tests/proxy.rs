//! A cable between two processes that can be cut, held, and disturbed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cable {
    Whole,
    /// Nothing passes, and nobody is told: as if the other end were frozen or out of reach.
    Held,
    /// Closed in both directions.
    Cut,
    /// One bit of what passes next is flipped.
    Noisy,
}

/// Where to connect to instead of `target`, and what happens to the connections.
pub(super) async fn proxy(target: SocketAddr) -> (SocketAddr, watch::Sender<Cable>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (state, watched) = watch::channel(Cable::Whole);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(target).await.expect("the target");
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(pass(near_read, far_write, watched.clone()));
            tokio::spawn(pass(far_read, near_write, watched.clone()));
        }
    });
    (address, state)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cable: watch::Receiver<Cable>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let state = *cable.borrow_and_update();
        if state == Cable::Cut {
            return;
        }
        let count = tokio::select! {
            changed = cable.changed() => match changed {
                Ok(()) => continue,
                // The test is over.
                Err(_) => return,
            },
            count = from.read(&mut buffer), if state != Cable::Held => count,
        };
        let count = count.unwrap_or(0);
        if count == 0 {
            // One direction may end before the other.
            to.shutdown().await.ok();
            return;
        }
        if state == Cable::Noisy {
            buffer[count / 2] ^= 1;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
