//! Who is lost while the mesh is being made is not waited for.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{PATIENCE, address, join, lead, listener, member};
use crate::hello::Role;
use crate::listen::connect;
use crate::{Control, Error, Fate, Stream};

/// Less than anybody has patience for.
const SOON: Duration = Duration::from_secs(10);

/// Process `number` of 3, let in by the leader, that has said where it listens and says nothing more.
async fn let_in(number: usize, leader: &str) -> (Control, Stream) {
    let (member, fate) = (member(number, 3), Fate::default());
    let to = |role| connect(&member, role, 0, leader, None, PATIENCE);
    let (control, _) = to(Role::Control).await.expect("let in");
    let control = Control::new(control.halves(), &fate);
    let (data, _) = to(Role::Data).await.expect("let in");
    let listening = Bytes::from_static(br#"{"Listening":"127.0.0.1:1"}"#);
    control.outgoing.send(listening).await.expect("open");
    (control, data.blocking(0, &fate).expect("connected"))
}

#[tokio::test]
async fn a_leader_does_not_wait_for_all_when_one_has_come_and_gone() {
    let listener = listener(None).await;
    let at = address(&listener);
    let leading = member(0, 3);
    let led = timeout(SOON, lead(&leading, &listener, PATIENCE));
    let (led, ()) = tokio::join!(led, async { drop(let_in(1, &at).await) });
    let error = led.expect("soon").expect_err("process 2 never comes");
    assert!(matches!(error, Error::Lost { process: 1, .. }), "{error}");
}

#[tokio::test]
async fn one_that_follows_does_not_wait_for_the_others_when_the_leader_is_lost() {
    let listener = listener(None).await;
    let at = address(&listener);
    let (leading, following) = (member(0, 3), member(1, 3));
    // The other one ends before it connects to this one, which waits for it.
    let other = async {
        let (mut control, data) = let_in(2, &at).await;
        control
            .incoming
            .recv()
            .await
            .expect("the addresses")
            .expect("intact");
        drop((control, data));
    };
    let joined = timeout(SOON, join(&following, &at, None));
    let (led, joined, ()) = tokio::join!(lead(&leading, &listener, PATIENCE), joined, other);
    assert!(
        matches!(led, Err(Error::Lost { process: 2, .. })),
        "{led:?}"
    );
    let error = joined.expect("soon").expect_err("the leader has given up");
    assert!(matches!(error, Error::Lost { process: 0, .. }), "{error}");
}
