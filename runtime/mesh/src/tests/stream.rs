//! The data connection: what arrives is what was sent, or it is an error.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;

use tokio::net::TcpSocket;

use super::certificate;
use crate::listen::Socket;
use crate::{Fate, Stream, Tls};

/// Bytes of the kernel's buffers: as small as it allows.
const KERNEL_BYTES: u32 = 4 << 10;

async fn sockets() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let small = || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(KERNEL_BYTES).expect("small");
        socket.set_recv_buffer_size(KERNEL_BYTES).expect("small");
        socket
    };
    let listening = small();
    listening
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    let listener = listening.listen(1).expect("listening");
    let at = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(small().connect(at), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

/// Both ends of a connection.
async fn streams(tls: Option<&Tls>) -> [(Stream, Fate); 2] {
    let (near, far) = sockets().await;
    let (near, far) = match tls {
        None => (Socket::Plain(near), Socket::Plain(far)),
        Some(tls) => {
            let (near, far) = tokio::join!(tls.connect("localhost:1", near), tls.accept(far));
            let tls = |stream| Socket::Tls(Box::new(stream));
            (tls(near.expect("TLS")), tls(far.expect("TLS")))
        }
    };
    [near, far].map(|socket| {
        let fate = Fate::default();
        (socket.blocking(1, &fate).expect("a stream"), fate)
    })
}

/// A raw end, and a stream at the other.
async fn raw() -> (TcpStream, Stream, Fate) {
    let (near, far) = sockets().await;
    let fate = Fate::default();
    let stream = Socket::Plain(far).blocking(1, &fate).expect("a stream");
    let near = near.into_std().expect("a socket");
    near.set_nonblocking(false).expect("blocking");
    (near, stream, fate)
}

/// Byte `at` of a flood.
fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn flood(mut stream: Stream, bytes: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let lengths = [1, 48, 1000, 65_536, 300_000, 7];
        let (mut sent, mut round) = (0, 0);
        while sent < bytes {
            let length = lengths[round % lengths.len()].min(bytes - sent);
            let chunk: Vec<u8> = (sent..sent + length).map(pattern).collect();
            stream.write_all(&chunk).expect("written");
            sent += length;
            round += 1;
        }
        stream.shutdown(Shutdown::Write).expect("ended");
    })
}

fn drain(mut stream: Stream, bytes: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 100_000];
        let mut came = 0;
        loop {
            let count = stream.read(&mut buffer).expect("intact");
            if count == 0 {
                break;
            }
            for (at, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, pattern(came + at), "byte {}", came + at);
            }
            came += count;
        }
        assert_eq!(came, bytes);
    })
}

async fn floods_pass_each_other(tls: Option<&Tls>) {
    let [(near, near_fate), (far, far_fate)] = streams(tls).await;
    const BYTES: usize = 16 << 20;
    // Both ends are full before anyone reads.
    let mut threads = vec![flood(near.clone(), BYTES), flood(far.clone(), BYTES)];
    threads.extend([drain(near, BYTES), drain(far, BYTES)]);
    for thread in threads {
        tokio::task::spawn_blocking(|| thread.join().expect("no panic"))
            .await
            .expect("joined");
    }
    assert_eq!((near_fate.reason(), far_fate.reason()), (None, None));
}

#[tokio::test]
async fn plain_floods_pass_each_other() {
    floods_pass_each_other(None).await;
}

#[tokio::test]
async fn encrypted_floods_pass_each_other() {
    let folder = certificate::folder();
    let tls = certificate::tls(folder.path(), "ours", "ours").expect("usable");
    floods_pass_each_other(Some(&tls)).await;
}

/// What a small stream looks like on the wire.
async fn recorded() -> Vec<u8> {
    let (mut near, mut stream, _) = raw().await;
    stream.write_all(b"thal").expect("written");
    stream.write_all(b"weg").expect("written");
    stream.shutdown(Shutdown::Write).expect("ended");
    let mut bytes = Vec::new();
    near.read_to_end(&mut bytes).expect("all of it");
    bytes
}

/// What a stream makes of `bytes`.
async fn replayed(bytes: &[u8]) -> (std::io::Result<Vec<u8>>, Option<String>) {
    let (mut near, mut stream, fate) = raw().await;
    near.write_all(bytes).expect("few enough");
    near.shutdown(Shutdown::Write).expect("ended");
    let mut came = Vec::new();
    let read = stream.read_to_end(&mut came).map(|_| came);
    (read, fate.reason().map(|reason| reason.to_string()))
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_is_an_error_that_the_fate_knows() {
    let whole = recorded().await;
    let (read, reason) = replayed(&whole).await;
    assert_eq!((read.expect("intact"), reason), (b"thalweg".to_vec(), None));
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (read, reason) = replayed(&damaged).await;
        let error = read.expect_err("damaged").to_string();
        assert_eq!(reason.as_deref(), Some(error.as_str()), "bit {bit}");
    }
    for length in 0..whole.len() {
        let (read, reason) = replayed(&whole[..length]).await;
        let error = read.expect_err("cut").to_string();
        assert!(error.contains("closed before its end"), "{length}: {error}");
        assert_eq!(reason, Some(error), "cut at {length}");
    }
    let (read, _) = replayed(&[whole.as_slice(), b"x"].concat()).await;
    let error = read.expect_err("more than there is").to_string();
    assert!(error.contains("something follows the end"), "{error}");
}

#[tokio::test]
async fn an_encrypted_stream_that_is_cut_is_an_error() {
    let folder = certificate::folder();
    let tls = certificate::tls(folder.path(), "ours", "ours").expect("usable");
    let [(mut near, _), (mut far, fate)] = streams(Some(&tls)).await;
    near.write_all(b"thalweg").expect("written");
    near.sever();
    let mut came = Vec::new();
    far.read_to_end(&mut came).expect_err("cut");
    assert_eq!(came, b"thalweg");
    assert!(fate.reason().is_some());
}

#[tokio::test]
async fn severing_frees_who_reads_and_who_writes() {
    let [(near, fate), (far, _)] = streams(None).await;
    let mut reader = near.clone();
    let reading = std::thread::spawn(move || reader.read(&mut [0; 10]).expect_err("severed"));
    let mut writer = near.clone();
    let writing = std::thread::spawn(move || {
        let chunk = vec![0; 1 << 20];
        loop {
            if let Err(error) = writer.write_all(&chunk) {
                return error;
            }
        }
    });
    fate.sever();
    for thread in [reading, writing] {
        let error = thread.join().expect("no panic").to_string();
        assert!(error.contains("cut at this end"), "{error}");
    }
    // Whoever cuts knows why.
    assert_eq!(fate.reason(), None);
    drop(far);
}
