//! The control connection: messages in order, and losses noticed in time.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::proxy::{Cable, proxy};
use super::{PATIENCE, address, certificate, listener, pair};
use crate::{Control, Joined, MESSAGE_BYTES_MAX, Peer, SILENCE, Tls};

/// A pair over a cable.
async fn cabled() -> (Peer, Joined, watch::Sender<Cable>) {
    let listener = listener(None).await;
    let (at, cable) = proxy(listener.address().expect("bound")).await;
    let (peer, joined) = pair(&listener, &at.to_string(), None).await;
    (peer, joined, cable)
}

/// The last word of a connection, and how long it took.
async fn last_word(control: &mut Control) -> (String, Duration) {
    let start = Instant::now();
    let last = timeout(PATIENCE, control.incoming.recv()).await;
    let last = last
        .expect("in time")
        .expect("a reason")
        .expect_err("a loss");
    let next = timeout(PATIENCE, control.incoming.recv()).await;
    assert!(next.expect("in time").is_none(), "nothing follows a loss");
    (last.message.to_string(), start.elapsed())
}

fn message(number: usize) -> Bytes {
    let length = [0, 1, 100, 70_000, MESSAGE_BYTES_MAX][number % 5];
    Bytes::from(vec![number as u8; length])
}

async fn messages_pass_both_ways(tls: Option<&Tls>) {
    const MESSAGES: usize = 200;
    let listener = listener(tls).await;
    let (peer, joined) = pair(&listener, &address(&listener), tls).await;
    let talk = |control: Control| async move {
        let Control {
            outgoing,
            mut incoming,
        } = control;
        let send = async move {
            for number in 0..MESSAGES {
                outgoing.send(message(number)).await.expect("open");
            }
        };
        let receive = async {
            for number in 0..MESSAGES {
                let came = incoming.recv().await.expect("open").expect("no loss");
                assert!(came == message(number), "message {number}");
            }
            assert!(incoming.recv().await.is_none(), "ended, not lost");
        };
        tokio::join!(send, receive);
    };
    let talks = async { tokio::join!(talk(peer.control), talk(joined.control)) };
    timeout(PATIENCE, talks).await.expect("in time");
    assert_eq!((peer.fate.reason(), joined.fate.reason()), (None, None));
}

#[tokio::test]
async fn plain_messages_pass_both_ways_and_end() {
    messages_pass_both_ways(None).await;
}

#[tokio::test]
async fn encrypted_messages_pass_both_ways_and_end() {
    let folder = certificate::folder();
    let tls = certificate::tls(folder.path(), "ours", "ours").expect("usable");
    messages_pass_both_ways(Some(&tls)).await;
}

#[tokio::test]
async fn one_side_may_go_on_after_the_other_has_ended() {
    let listener = listener(None).await;
    let (peer, mut joined) = pair(&listener, &address(&listener), None).await;
    let Control {
        outgoing,
        mut incoming,
    } = peer.control;
    drop(outgoing);
    assert!(joined.control.incoming.recv().await.is_none());
    // Longer than silence may last: it is none.
    let end = Instant::now() + SILENCE + Duration::from_secs(1);
    while Instant::now() < end {
        let sent = joined.control.outgoing.send("still here".into()).await;
        sent.expect("open");
        let came = incoming.recv().await.expect("open").expect("no loss");
        assert_eq!(came, "still here");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(joined.control.outgoing);
    assert!(incoming.recv().await.is_none());
    assert_eq!(joined.fate.reason(), None);
}

#[tokio::test]
async fn a_frozen_process_is_lost_within_four_seconds_on_both_sides() {
    let (mut peer, mut joined, cable) = cabled().await;
    cable.send_replace(Cable::Held);
    let (near, far) = tokio::join!(last_word(&mut peer.control), last_word(&mut joined.control));
    for (reason, took) in [near, far] {
        assert_eq!(reason, "it has not been heard of for 3 s");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    // What the dataflow waits for is let go.
    let mut data = peer.data.clone();
    let read = move || std::io::Read::read(&mut data, &mut [0; 1]);
    let read = tokio::task::spawn_blocking(read);
    timeout(PATIENCE, read)
        .await
        .expect("in time")
        .expect("joined")
        .expect_err("severed");
}

#[tokio::test]
async fn a_frozen_process_is_noticed_while_a_message_is_on_its_way() {
    let (mut peer, _joined, cable) = cabled().await;
    cable.send_replace(Cable::Held);
    let outgoing = peer.control.outgoing.clone();
    let send = async move {
        while outgoing
            .send(vec![0; MESSAGE_BYTES_MAX].into())
            .await
            .is_ok()
        {}
    };
    let ((reason, took), ()) = tokio::join!(last_word(&mut peer.control), send);
    assert_eq!(reason, "it has not been heard of for 3 s");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_cut_connection_is_noticed_at_once() {
    let (mut peer, mut joined, cable) = cabled().await;
    cable.send_replace(Cable::Cut);
    let (near, far) = tokio::join!(last_word(&mut peer.control), last_word(&mut joined.control));
    for (_, took) in [near, far] {
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_noticed() {
    let (mut peer, joined, cable) = cabled().await;
    cable.send_replace(Cable::Noisy);
    let sent = joined.control.outgoing.send(vec![0; 1000].into()).await;
    sent.expect("open");
    let (reason, _) = last_word(&mut peer.control).await;
    assert!(reason.contains("fails its check"), "{reason}");
    assert_eq!(peer.fate.reason().as_deref(), Some(reason.as_str()));
}

#[tokio::test]
async fn the_reason_that_is_known_is_told() {
    let (mut peer, joined, _cable) = cabled().await;
    peer.fate.lose("it was killed by signal 9");
    peer.fate.lose("its connection was closed");
    let (reason, _) = last_word(&mut peer.control).await;
    assert_eq!(reason, "it was killed by signal 9");
    drop(joined);
}
