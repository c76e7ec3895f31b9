//! The file sink: what stands on disk after every possible half of a publication.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::Int64Type;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::epoch::{Generation, Lineage};
use thalweg_stream::sink::{
    Encoded, EncodedObject, PublishUnit, Published, Released, SinkContext, StageStore, StagedObject,
};
use thalweg_stream::{Class, Column, ColumnType, Epoch, Fault, Sink, StreamSchema};

use super::{FileSink, FileSinkOptions};
use crate::encode::{EncoderFactory, RowEncoder};

/// A stream of one number a row.
pub(crate) fn schema() -> StreamSchema {
    StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], false)
}

/// Rows of [`schema`] with these numbers, which are their offsets too.
pub(crate) fn batch(numbers: Range<i64>) -> RecordBatch {
    let origins = numbers.clone().map(i64::cast_unsigned);
    let columns = vec![
        Arc::new(Int64Array::from_iter_values(numbers)) as _,
        Arc::new(UInt64Array::from_iter_values(origins)) as _,
    ];
    RecordBatch::try_new(schema().arrow(), columns).unwrap()
}

/// Encoders that write `row N`.
pub(crate) fn encoders() -> EncoderFactory {
    Arc::new(|| {
        let encode = |batch: &RecordBatch, out: &mut Vec<u8>| {
            for number in batch.column(0).as_primitive::<Int64Type>().values() {
                out.extend_from_slice(format!("row {number}\n").as_bytes());
            }
            Ok(())
        };
        Ok(Box::new(encode) as Box<dyn RowEncoder>)
    })
}

/// The context of generation 1 of a job.
pub(crate) fn context(lineage: &str) -> SinkContext {
    SinkContext {
        job: "job".into(),
        sink: "out".into(),
        lineage: Lineage(lineage.to_owned()),
        generation: Generation(1),
        clock: Arc::new(SystemClock::new()),
        state: serde_json::Value::Null,
    }
}

/// Stages an object as the engine does.
pub(crate) async fn stage(
    store: &dyn StageStore,
    object: &EncodedObject,
    epoch: u64,
    worker: u32,
) -> StagedObject {
    let name = format!("out/{epoch}-{worker}-0-g1");
    store.put(&name, object.bytes.clone()).await.unwrap();
    StagedObject {
        name,
        epoch: Epoch(epoch),
        worker,
        sequence: 0,
        bytes: object.bytes.len() as u64,
        crc32: crc32fast::hash(&object.bytes),
        rows: object.rows,
        note: object.note.clone(),
    }
}

/// A sink's parts as the engine drives them, and its folder.
struct Driver {
    folder: tempfile::TempDir,
    sink: FileSink,
}

impl Driver {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = FileSinkOptions::new(folder.path().join("out"));
        Self {
            sink: FileSink::new(options, schema(), encoders()).unwrap(),
            folder,
        }
    }

    /// Stages rows as objects of one row each, as worker `rows.start` of an epoch.
    async fn stage(&self, epoch: u64, rows: Range<i64>) -> PublishUnit {
        let store = self.sink.stage_store().unwrap();
        let mut objects = Vec::new();
        for number in rows {
            let (worker, mut out) = (number as u32, Encoded::default());
            let mut writer = self.sink.writer(0, &context("aa")).unwrap();
            writer.write(&batch(number..number + 1), &mut out).unwrap();
            writer.seal(Epoch(epoch), &mut out).unwrap();
            objects.push(stage(&*store, &out.objects[0], epoch, worker).await);
        }
        // The order of publication must not depend on the order in the list.
        objects.reverse();
        PublishUnit {
            lineage: Lineage("aa".to_owned()),
            epoch: Epoch(epoch),
            objects,
        }
    }

    /// Publishes by a publisher of its own, as a new start of the job does.
    async fn publish(&self, unit: &PublishUnit) -> Result<Published, Fault> {
        let publisher = self.sink.publisher(context("aa")).await?;
        let store = self.sink.stage_store().unwrap();
        let unit = Released::by_commit(unit.clone(), 1);
        publisher.publish(&unit, &*store).await
    }

    /// Visible files and what is in them, and staged names.
    async fn found(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.folder.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
        (
            files,
            self.sink.stage_store().unwrap().list("").await.unwrap(),
        )
    }

    fn staged(&self, unit: &PublishUnit, n: usize) -> PathBuf {
        let name = &unit.objects[unit.objects.len() - 1 - n].name;
        self.folder.path().join("out/.thalweg-stage").join(name)
    }

    fn published(&self, n: usize) -> PathBuf {
        self.folder
            .path()
            .join(format!("out/part-aa-0000000007-{n}.jsonl"))
    }
}

fn expected(rows: Range<i64>) -> BTreeMap<String, String> {
    (rows.enumerate())
        .map(|(n, row)| {
            (
                format!("part-aa-0000000007-{n}.jsonl"),
                format!("row {row}\n"),
            )
        })
        .collect()
}

#[tokio::test]
async fn nothing_is_visible_before_publication_and_all_of_it_once_after() {
    let driver = Driver::new();
    let unit = driver.stage(7, 3..6).await;
    let (files, staged) = driver.found().await;
    assert_eq!((files.len(), staged.len()), (0, 3));
    for _ in 0..3 {
        driver.publish(&unit).await.unwrap();
        assert_eq!(driver.found().await, (expected(3..6), vec![]));
    }
    let empty = driver.stage(8, 0..0).await;
    driver.publish(&empty).await.unwrap();
    assert_eq!(driver.found().await.0.len(), 3);
}

#[tokio::test]
async fn publication_goes_on_after_a_crash_at_every_step() {
    for crashed_after in 0..=3 {
        for leave_staged in [false, true] {
            let driver = Driver::new();
            let unit = driver.stage(7, 0..3).await;
            for n in 0..crashed_after {
                let (from, to) = (driver.staged(&unit, n), driver.published(n));
                fs::copy(&from, to).unwrap();
                // A rename across a crash may leave both names on some file systems.
                if !leave_staged {
                    fs::remove_file(from).unwrap();
                }
            }
            driver.publish(&unit).await.unwrap();
            assert_eq!(driver.found().await, (expected(0..3), vec![]));
        }
    }
}

#[tokio::test]
async fn what_is_nowhere_or_damaged_stops_the_job() {
    type Change = fn(&Driver, &PublishUnit);
    let cases: [(&str, Change); 5] = [
        (
            "is missing, and so is the published file",
            |driver, unit| {
                fs::remove_file(driver.staged(unit, 1)).unwrap();
            },
        ),
        ("is not what the manifest says", |driver, unit| {
            fs::write(driver.staged(unit, 1), "row 2\n").unwrap();
        }),
        ("already there with other content", |driver, _| {
            fs::write(driver.published(1), "row 2\n").unwrap();
        }),
        ("already there with other content", |driver, unit| {
            fs::remove_file(driver.staged(unit, 1)).unwrap();
            fs::write(driver.published(1), "row 1").unwrap();
        }),
        ("already there with other content", |driver, _| {
            fs::write(driver.published(1), "row 1\nrow 1\n").unwrap();
        }),
    ];
    for (message, change) in cases {
        let driver = Driver::new();
        let unit = driver.stage(7, 0..3).await;
        driver
            .publish(&PublishUnit {
                objects: vec![],
                ..unit.clone()
            })
            .await
            .unwrap();
        change(&driver, &unit);
        let before = fs::read(driver.published(1)).ok();
        let fault = driver.publish(&unit).await.unwrap_err();
        assert_eq!(fault.class, Class::Corrupt, "{fault}");
        assert!(fault.message.contains(message), "{fault}");
        assert_eq!(
            fs::read(driver.published(1)).ok(),
            before,
            "a published file was touched"
        );
    }
}

#[tokio::test]
async fn a_published_file_stays_even_if_what_is_left_staged_is_damaged() {
    let driver = Driver::new();
    let unit = driver.stage(7, 0..2).await;
    driver.publish(&unit).await.unwrap();
    fs::write(driver.staged(&unit, 0), "rubbish").unwrap();
    driver.publish(&unit).await.unwrap();
    assert_eq!(driver.found().await, (expected(0..2), vec![]));
}

#[tokio::test]
async fn at_once_every_object_is_a_file_and_another_start_writes_others() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileSinkOptions {
        at_once: true,
        ..FileSinkOptions::new(folder.path().join("out"))
    };
    let sink = FileSink::new(options, schema(), encoders()).unwrap();
    assert!(sink.stage_store().is_none() && !sink.capabilities().exactly_once);
    // What the engine keeps in memory.
    let kept = crate::stage::FileStageStore::new(folder.path());
    for generation in [1, 2] {
        let context = SinkContext {
            generation: Generation(generation),
            ..context("aa")
        };
        let mut out = Encoded::default();
        let mut writer = sink.writer(1, &context).unwrap();
        writer.write(&batch(1..3), &mut out).unwrap();
        writer.seal(Epoch(7), &mut out).unwrap();
        let unit = PublishUnit {
            lineage: Lineage("aa".to_owned()),
            // Units of such a sink are numbered; the number says nothing of the epoch.
            epoch: Epoch(1),
            objects: vec![stage(&kept, &out.objects[0], 7, 1).await],
        };
        let publisher = sink.publisher(context).await.unwrap();
        for _repeated in 0..2 {
            let unit = Released::at_least_once(unit.clone());
            publisher.publish(&unit, &kept).await.unwrap();
        }
    }
    let mut files: Vec<_> = (fs::read_dir(folder.path().join("out")).unwrap())
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort_unstable();
    let file = |generation| {
        let name = format!("part-aa-0000000007-1-0-g{generation}.jsonl");
        (name, "row 1\nrow 2\n".to_owned())
    };
    assert_eq!(files, [file(1), file(2)]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_is_a_fault_at_the_start() {
    let driver = Driver::new();
    fs::write(driver.folder.path().join("out"), "a file, not a folder").unwrap();
    let fault = driver.sink.publisher(context("aa")).await.err().unwrap();
    let refused = format!(
        "cannot create folder {:?}",
        driver.folder.path().join("out")
    );
    assert!(fault.message.contains(&refused), "{fault}");
}

#[test]
fn the_size_of_files_has_limits() {
    for (roll_bytes, valid) in [(0, false), (1, true), (64 << 20, true), (65 << 20, false)] {
        let options = FileSinkOptions {
            roll_bytes,
            ..FileSinkOptions::new("out")
        };
        assert_eq!(FileSink::new(options, schema(), encoders()).is_ok(), valid);
    }
}
