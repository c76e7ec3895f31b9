//! The input in a Kafka broker: written bit by bit while the job is tormented.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use thalweg_generate::Generator;
use thalweg_tests::kafka::Broker;

/// Pause between two batches.
const PAUSE: Duration = Duration::from_millis(100);

/// One topic: its records, and how many are written at a time.
struct Topic {
    name: &'static str,
    generator: Generator,
    batch: u64,
    written: u64,
}

/// A broker with a thread that keeps writing to it.
pub(crate) struct Feed {
    address: String,
    enough: Arc<AtomicBool>,
    writer: Option<JoinHandle<(Broker, [u64; 2])>>,
}

impl Feed {
    /// Begins to write both inputs; partitions are the splits of the generators.
    pub(crate) fn begin(
        mut broker: Broker,
        vehicles: Generator,
        weather: Generator,
        folder: PathBuf,
    ) -> Self {
        let address = broker.address();
        let enough = Arc::new(AtomicBool::new(false));
        let topic = |name, generator: Generator, rounds| Topic {
            // Whole rounds of all partitions, so that a partition's offsets are its split's numbers.
            batch: u64::from(generator.spec().splits) * rounds,
            name,
            generator,
            written: 0,
        };
        let mut topics = [
            topic("vehicles", vehicles, 40),
            topic("weather", weather, 4),
        ];
        for topic in &topics {
            broker.create(topic.name, topic.generator.spec().splits);
        }
        let stop = Arc::clone(&enough);
        let writer = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for topic in &mut topics {
                    topic.write(&mut broker, &folder);
                }
                std::thread::park_timeout(PAUSE);
            }
            (broker, topics.map(|topic| topic.written))
        });
        Self {
            address,
            enough,
            writer: Some(writer),
        }
    }

    /// Where the broker is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Writes no more; the broker, and how many records there are of each.
    pub(crate) fn end(mut self) -> (Broker, [u64; 2]) {
        self.enough.store(true, Ordering::Relaxed);
        let writer = self.writer.take().expect("a writer");
        writer.thread().unpark();
        writer.join().expect("the writer ends")
    }
}

impl Topic {
    fn write(&mut self, broker: &mut Broker, folder: &std::path::Path) {
        let mut lines = Vec::new();
        for number in self.written..self.written + self.batch {
            let (split, index) = self.generator.place(number);
            self.generator.record(split, index, &mut lines);
            lines.push(b'\n');
        }
        let file = folder.join(format!("{}.jsonl", self.name));
        std::fs::write(&file, lines).expect("a file");
        let partitions = self.generator.spec().splits;
        assert_eq!(
            broker.produce_lines(self.name, partitions, &file),
            self.batch
        );
        self.written += self.batch;
    }
}
