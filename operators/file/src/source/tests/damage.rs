//! Files that are not what they were: each is a fault that names the file and the offset.

use std::fs;

use thalweg_stream::{Chunk, Class};

use super::{Driver, folder, gzip, mixed, zstd};

#[test]
fn a_file_that_vanished_is_a_fault_that_names_it_and_the_offset() {
    let folder = folder(&[("here", b"a\n")]);
    let fault = Driver::open(folder.path(), &[("here", None), ("gone", Some(7))], |_| ()).fault();
    assert_eq!(fault.class, Class::Unavailable);
    let expected = "file: \"gone\" has vanished; it was to be read from offset 7 on";
    assert_eq!(fault.message, expected);
}

#[test]
fn a_file_that_shrank_is_a_fault_that_names_it_and_the_offset() {
    let content = b"a\nb\nc\n";
    let folder = folder(&[("plain", content), ("packed", &gzip(content))]);
    for name in ["plain", "packed"] {
        let fault = Driver::open(folder.path(), &[(name, Some(8))], |_| ()).fault();
        assert_eq!(fault.class, Class::Corrupt);
        let expected = "has shrunk: it ends at 6 and was to be read from 8 on";
        assert_eq!(fault.message, format!("file: {name:?} {expected}"));
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_a_fault() {
    // More than fits the queue, so that the thread is still at it.
    let content = vec![b'\n'; 16 << 20];
    let folder = folder(&[("plain", &content)]);
    let mut driver = Driver::open(folder.path(), &[("plain", None)], |plan| {
        plan.chunk_bytes = 1 << 20;
    });
    assert!(driver.next(1 << 20).unwrap().is_some());
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("plain"))
        .unwrap();
    file.set_len(8 << 20).unwrap();
    assert!(
        driver
            .fault()
            .message
            .contains("has shrunk: it ends at 8388608")
    );
}

#[test]
fn damaged_compression_is_a_fault_behind_what_was_good() {
    let content = mixed();
    for (name, mut packed) in [("gz", gzip(&content)), ("zst", zstd(&content))] {
        let folder = folder(&[("cut", &packed[..packed.len() - 9])]);
        let fault = Driver::open(folder.path(), &[("cut", None)], |_| ()).fault();
        assert_eq!(fault.class, Class::Corrupt, "{name}: {fault}");
        assert!(
            fault.message.contains("\"cut\" is damaged behind offset"),
            "{fault}"
        );
        let middle = packed.len() / 2;
        packed[middle] ^= 0x55;
        fs::write(folder.path().join("cut"), packed).unwrap();
        let damaged = Driver::open(folder.path(), &[("cut", None)], |_| ()).drain(1 << 20);
        // zstd's frames have a checksum only where it was asked for: then nothing is noticed.
        assert!(damaged.is_err() || name == "zst", "{name}");
    }
}

#[test]
fn what_is_no_member_of_gzip_behind_one_is_damage() {
    let behind = |rest: &[u8]| {
        let folder = folder(&[("x", &[&gzip(b"first\n"), rest].concat())]);
        let mut driver = Driver::open(folder.path(), &[("x", None)], |_| ());
        driver.drain(1 << 20).map_err(|fault| fault.message)
    };
    let bytes = |chunks: Vec<Chunk>| chunks.iter().map(|c| c.bytes.len()).sum();
    assert_eq!(behind(&[0; 9]).map(bytes), Ok(6));
    assert_eq!(
        behind(&[&[0; 9], &gzip(b"x\n")[..]].concat()).map(bytes),
        Ok(8)
    );
    for rest in [b"\0\0x".as_slice(), b"\x1f", b"text\n"] {
        let message = behind(rest).unwrap_err();
        assert!(
            message.contains("\"x\" is damaged behind offset"),
            "{message}"
        );
    }
}
