//! The source as the engine drives it: every byte of every file once, from wherever it resumes.

mod damage;
mod listed;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::source::{SplitSpec, SplitStart, SplitState, Waker};
use thalweg_stream::{Chunk, Class, Fault, Framing, SplitId, SplitReader};

use super::{FileSource, FileSourceOptions, Header, MetadataField, Order, Records};
use crate::compression::Compression;
use crate::reader::{self, FileReader, Plan};

/// A reader with small chunks, and what wakes whoever polls it.
struct Driver {
    reader: FileReader,
    woken: Receiver<()>,
    splits: u32,
}

impl Driver {
    /// Opens files of `folder` at offsets.
    fn open(folder: &Path, files: &[(&str, Option<u64>)], change: fn(&mut Plan)) -> Self {
        let mut plan = Plan {
            folder: folder.to_owned(),
            records: Records::default(),
            compression: Compression::Auto,
            order: Order::Time,
            chunk_bytes: 64,
            record_bytes_max: 1000,
        };
        change(&mut plan);
        let (wake, woken) = channel();
        let waker: Waker = Arc::new(move || wake.send(()).unwrap_or(()));
        let starts = (files.iter().enumerate())
            .map(|(at, (name, offset))| SplitStart {
                id: SplitId(at as u32),
                spec: SplitSpec {
                    name: (*name).into(),
                    detail: serde_json::Value::Null,
                },
                offset: *offset,
                finished: false,
            })
            .collect();
        let metadata = Arc::new([
            MetadataField::Path,
            MetadataField::Offset,
            MetadataField::Header,
        ]);
        let clock = Arc::new(SystemClock::new());
        Self {
            reader: reader::open(plan, None, metadata, clock, starts, waker).unwrap(),
            woken,
            splits: files.len() as u32,
        }
    }

    /// The next chunk, waited for; nothing at the end of all splits.
    fn next(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        loop {
            if let Some(chunk) = self.reader.poll(bytes_max)? {
                return Ok(Some(chunk));
            }
            let finished = |split| self.reader.status(SplitId(split)).state;
            if (0..self.splits).all(|split| finished(split) == SplitState::Finished) {
                return Ok(None);
            }
            let woken = self.woken.recv_timeout(Duration::from_secs(30));
            woken.expect("something to read, and nobody is woken");
        }
    }

    /// All that is left, chunk by chunk.
    fn drain(&mut self, bytes_max: usize) -> Result<Vec<Chunk>, Fault> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next(bytes_max)? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    fn fault(&mut self) -> Fault {
        let fault = self.drain(1 << 20).unwrap_err();
        assert_eq!(self.reader.poll(1).unwrap_err(), fault, "told only once");
        fault
    }
}

/// Reads one file from `offset` in chunks of about `bytes_max`, and checks how they join.
fn read(folder: &Path, name: &str, offset: u64, bytes_max: usize) -> Vec<u8> {
    let mut driver = Driver::open(folder, &[(name, Some(offset))], |_| ());
    let (mut content, mut next) = (Vec::new(), offset);
    for chunk in driver.drain(bytes_max).unwrap() {
        assert_eq!(chunk.start, next);
        next = chunk.end;
        assert_eq!(chunk.bytes.len() as u64, chunk.end - chunk.start);
        assert!(matches!(chunk.framing, Framing::Lines));
        content.extend_from_slice(&chunk.bytes);
    }
    content
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// Line feeds with and without carriage returns, empty lines, long lines, no line feed at the end.
fn mixed() -> Vec<u8> {
    let mut content = Vec::new();
    for line in 0..40u8 {
        content.extend(std::iter::repeat_n(
            b'a' + line % 26,
            usize::from(line) * 7 % 150,
        ));
        content.extend_from_slice(if line % 3 == 0 { b"\r\n" } else { b"\n" });
        if line % 5 == 0 {
            content.push(b'\n');
        }
    }
    content.extend_from_slice(b"no line feed at the end");
    content
}

/// The offsets at which records begin, and the end: where a checkpoint may say to go on.
fn boundaries(content: &[u8]) -> Vec<usize> {
    let feeds = content
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n');
    let mut at: Vec<usize> = feeds.map(|(at, _)| at + 1).collect();
    at.push(0);
    at.push(content.len());
    at
}

#[test]
fn every_kind_of_file_resumes_at_every_boundary_with_every_chunk_size() {
    let content = mixed();
    let half = content.len() / 2;
    let two =
        |pack: fn(&[u8]) -> Vec<u8>| [pack(&content[..half]), pack(&content[half..])].concat();
    let folder = folder(&[
        ("plain", &content),
        ("gzip", &gzip(&content)),
        ("zstd", &zstd(&content)),
        ("gzip of two members", &two(gzip)),
        ("gzip in blocks", &[two(gzip), vec![0; 300 << 10]].concat()),
        ("zstd of two frames", &two(zstd)),
    ]);
    for name in [
        "plain",
        "gzip",
        "zstd",
        "gzip of two members",
        "gzip in blocks",
        "zstd of two frames",
    ] {
        for offset in boundaries(&content) {
            for bytes_max in [1, 50, 1 << 20] {
                let read = read(folder.path(), name, offset as u64, bytes_max);
                assert!(
                    read == content[offset..],
                    "{name} from {offset} by {bytes_max}"
                );
            }
        }
    }
}

#[test]
fn chunks_end_with_lines_and_have_the_size_asked_for() {
    let content = mixed();
    let folder = folder(&[("plain", &content)]);
    let mut driver = Driver::open(folder.path(), &[("plain", None)], |plan| {
        plan.chunk_bytes = 400
    });
    let chunks = driver.drain(100).unwrap();
    for chunk in &chunks {
        let last = chunk.end == content.len() as u64;
        assert!(last || chunk.bytes.ends_with(b"\n"));
        let lines = chunk.bytes.iter().filter(|byte| **byte == b'\n').count();
        assert!(chunk.bytes.len() <= 100 || lines == 1, "{chunk:?}");
    }
    assert!(chunks.len() >= content.len() / 100);
}

#[test]
fn quoted_line_feeds_are_in_no_chunk_boundary_and_headers_in_every_chunk() {
    let quoting = thalweg_stream::Quoting {
        delimiter: b',',
        quote: Some(b'"'),
    };
    let header = b"\xef\xbb\xbf\"a\nb\",c\r\n";
    let mut content = header.to_vec();
    let mut starts = vec![content.len() as u64];
    for record in 0..60usize {
        let text = "x\"\"\n,".repeat(record * 7 % 23);
        content.extend_from_slice(format!("{record},\"{text}\"\n").as_bytes());
        starts.push(content.len() as u64);
    }
    content.extend_from_slice(b"61,\"open\n");
    let folder = folder(&[("plain", &content), ("gzip", &gzip(&content))]);
    for name in ["plain", "gzip"] {
        for chunk_bytes in (1..40).chain([64, 333, 5000]) {
            let begin = starts[chunk_bytes % starts.len()];
            for offset in [None, Some(begin)] {
                CHUNK_BYTES.set(chunk_bytes);
                let mut driver = Driver::open(folder.path(), &[(name, offset)], |plan| {
                    plan.chunk_bytes = CHUNK_BYTES.get();
                    plan.records = Records {
                        quoting: Some(thalweg_stream::Quoting {
                            delimiter: b',',
                            quote: Some(b'"'),
                        }),
                        header: Header::Carried,
                    };
                });
                let mut at = offset.unwrap_or(header.len() as u64);
                while let Some(chunk) = driver.next(chunk_bytes).unwrap() {
                    assert_eq!(chunk.start, at);
                    at = chunk.end;
                    let last = at == content.len() as u64;
                    assert!(
                        last || starts.contains(&at),
                        "{name} by {chunk_bytes}: {at}"
                    );
                    let carried = chunk.metadata[2].as_ref().unwrap().as_binary_view();
                    assert_eq!(carried.value(0), header);
                    let records = thalweg_stream::RecordEnds::new(quoting, 0).next(&chunk.bytes);
                    assert!(records.is_some() || last);
                }
                assert_eq!(at, content.len() as u64, "{name} by {chunk_bytes}");
            }
        }
    }
}

#[test]
fn a_header_with_bare_carriage_returns_is_refused_for_all_records_are_in_it() {
    let read = |content: &[u8]| {
        let folder = folder(&[("x", content)]);
        let mut driver = Driver::open(folder.path(), &[("x", None)], |plan| {
            plan.records = Records {
                quoting: Some(thalweg_stream::Quoting {
                    delimiter: b',',
                    quote: Some(b'"'),
                }),
                header: Header::Carried,
            };
        });
        let chunks = driver.drain(1 << 20);
        chunks.map(|chunks| chunks.iter().map(|c| c.bytes.len()).sum::<usize>())
    };
    for content in ["a,b\r1,2\r", "a,b\r1,2\n", "\"a\"\r1"] {
        let fault = read(content.as_bytes()).unwrap_err();
        assert_eq!(fault.class, Class::User);
        let what = "\"x\" ends lines with a carriage return alone";
        assert!(fault.message.contains(what), "{fault}");
    }
    for content in ["a,b\r\n1,2\r\n", "\"a\rb\",c\n1,2\r\n", "a\n1\r34\n"] {
        assert_eq!(read(content.as_bytes()).unwrap(), 5, "{content:?}");
    }
    assert_eq!(read(b"a,b\r").unwrap(), 0);
}

thread_local! {
    /// A plan is changed by a plain function, which takes the size from here.
    static CHUNK_BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(64) };
}

#[test]
fn empty_files_end_at_once() {
    let folder = folder(&[
        ("empty", b""),
        ("empty.gz", &gzip(b"")),
        ("empty.zst", &zstd(b"")),
    ]);
    let files = [("empty", None), ("empty.gz", None), ("empty.zst", Some(0))];
    let mut driver = Driver::open(folder.path(), &files, |_| ());
    assert_eq!(driver.drain(100).unwrap().len(), 0);
    let mut forced = Driver::open(folder.path(), &[("empty", None)], |plan| {
        plan.compression = Compression::Gzip;
    });
    assert_eq!(forced.drain(100).unwrap().len(), 0);
    let mut none = Driver::open(folder.path(), &[], |_| ());
    assert_eq!(none.drain(100).unwrap().len(), 0);
}

#[test]
fn thousands_of_small_files_pass_through_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..700).map(|at| format!("{at:03}")).collect();
    for (at, name) in names.iter().enumerate() {
        let content = if at % 2 == 0 { "" } else { "line\n" };
        fs::write(folder.path().join(name), content).unwrap();
    }
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    for order in [
        |_: &mut Plan| (),
        |plan: &mut Plan| plan.order = Order::Name,
    ] {
        let mut driver = Driver::open(folder.path(), &files, order);
        assert_eq!(driver.drain(1000).unwrap().len(), 350);
    }
}

#[test]
fn a_record_larger_than_a_chunk_extends_it_up_to_the_limit() {
    for (bytes, pack) in [(999, None), (999, Some(zstd as fn(&[u8]) -> Vec<u8>))] {
        let content = [
            b"short\n".to_vec(),
            vec![b'x'; bytes],
            b"\nshort\n".to_vec(),
        ]
        .concat();
        let packed = pack.map_or(content.clone(), |pack| pack(&content));
        let folder = folder(&[("huge", &packed)]);
        assert_eq!(read(folder.path(), "huge", 0, 10), content);
    }
    let content = [b"short\n".to_vec(), vec![b'x'; 1001], b"\n".to_vec()].concat();
    for packed in [content.clone(), gzip(&content)] {
        let folder = folder(&[("huge", &packed)]);
        let fault = Driver::open(folder.path(), &[("huge", None)], |_| ()).fault();
        assert_eq!(fault.class, Class::User);
        let expected = "file: \"huge\" has a record of more than 1000 bytes at offset 6";
        assert_eq!(fault.message, expected);
    }
}

#[test]
fn the_file_furthest_behind_in_event_time_is_read_first() {
    // A record is a second of event time; the second file begins a hundred seconds later.
    let line = |second: u64| format!("{second:09}\n").into_bytes();
    let content = |from: u64| (from..from + 5000).flat_map(line).collect::<Vec<u8>>();
    let folder = folder(&[("early", &content(0)), ("late", &content(100))]);
    let files = [("early", None), ("late", None)];
    let mut driver = Driver::open(folder.path(), &files, |plan| plan.chunk_bytes = 100);
    let mut newest = [0i64; 2];
    let mut apart_max = 0;
    while let Some(chunk) = driver.next(100).unwrap() {
        let at = chunk.split.0 as usize;
        let last = chunk.bytes.rchunks(10).next().unwrap();
        newest[at] = std::str::from_utf8(last).unwrap().trim().parse().unwrap();
        driver.reader.observe(chunk.split, newest[at]);
        apart_max = apart_max.max((newest[0] - newest[1]).abs());
    }
    assert_eq!(newest, [4999, 5099]);
    // 64 pieces of ten records may be under way in one file, and the other start with as many.
    assert!(apart_max < 1500, "{apart_max} s apart");
}

#[test]
fn by_name_one_file_is_read_after_the_other() {
    let content = mixed();
    let folder = folder(&[("a", &content), ("b", &content), ("c", b"x\n")]);
    let files = [("a", None), ("b", None), ("c", None)];
    let mut driver = Driver::open(folder.path(), &files, |plan| plan.order = Order::Name);
    let splits: Vec<u32> = (driver.drain(1 << 20).unwrap().iter())
        .map(|c| c.split.0)
        .collect();
    assert!(splits.is_sorted());
    assert_eq!(splits.last(), Some(&2));
}

#[test]
fn metadata_says_the_path_once_a_chunk_and_leaves_the_offset_to_the_decoder() {
    let folder = folder(&[("some name", b"x\n")]);
    let mut driver = Driver::open(folder.path(), &[("some name", None)], |_| ());
    let chunk = driver.next(100).unwrap().unwrap();
    let path = chunk.metadata[0].as_ref().unwrap().as_string_view();
    assert_eq!((path.len(), path.value(0)), (1, "some name"));
    assert!(chunk.metadata[1].is_none());
    assert_eq!(chunk.bytes, Bytes::from_static(b"x\n"));
}

#[test]
fn what_is_unread_is_known_for_plain_files() {
    let folder = folder(&[("plain", b"aaa\nbbb\n"), ("packed", &gzip(b"aaa\n"))]);
    let mut driver = Driver::open(folder.path(), &[("plain", None), ("packed", None)], |_| ());
    let status = |driver: &Driver, split| driver.reader.status(SplitId(split));
    let first = driver.next(4).unwrap().unwrap();
    assert_eq!(
        (first.split, status(&driver, 0).behind),
        (SplitId(0), Some(4))
    );
    assert_eq!(status(&driver, 0).state, SplitState::Reading);
    driver.drain(100).unwrap();
    assert_eq!(status(&driver, 0).behind, Some(0));
    assert_eq!(
        (status(&driver, 1).behind, status(&driver, 1).state),
        (None, SplitState::Finished)
    );
}

#[test]
fn options_that_there_are_not_are_refused() {
    let refused = |change: fn(&mut FileSourceOptions)| {
        let mut options = FileSourceOptions::new(".", "x");
        change(&mut options);
        let clock = Arc::new(SystemClock::new());
        FileSource::new(options, clock).unwrap_err().to_string()
    };
    let ends = refused(|options| (options.follow, options.order) = (true, Order::Name));
    let message = "\"order\" is \"name\", but must be time where files are followed";
    assert!(ends.contains(message), "{ends}");
    let packed = refused(|options| {
        (options.follow, options.compression) = (true, Compression::Gzip);
    });
    let message = "file: \"compression\" is \"gzip\", but must be none where files are followed";
    assert_eq!(packed, message);
    let unknown = refused(|options| options.metadata = vec!["size".to_owned()]);
    assert_eq!(
        unknown,
        "file: \"metadata\" is \"size\", but must be path or offset"
    );
    assert!("bzip2".parse::<Compression>().is_err());
    assert_eq!("zstd".parse::<Compression>().unwrap(), Compression::Zstd);
    assert_eq!("name".parse::<Order>().unwrap(), Order::Name);
}
