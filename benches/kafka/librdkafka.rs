//! What librdkafka alone reads: `librdkafka BROKERS TOPIC PARTITIONS CONSUMERS`.
//!
//! Consumer n of N has a thread and the partitions n modulo N, and takes messages by batches from one queue,
//! which is librdkafka's fastest way. It touches nothing of a message but its length. Prints messages,
//! bytes and seconds.
#![allow(clippy::print_stdout, reason = "a benchmark reports")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the time")]
#![allow(
    unsafe_code,
    reason = "rdkafka's safe consumers hand out single messages, at half the speed"
)]

use std::ffi::CString;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

/// Messages taken at once.
const BATCH: usize = 4096;
/// The first offset there is (`RD_KAFKA_OFFSET_BEGINNING`).
const BEGINNING: i64 = -2;
/// Longest wait for a batch, after which what is there is handed out (milliseconds).
const WAIT_MS: i32 = 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, partitions, consumers] = arguments.as_slice() else {
        return Err(anyhow!("librdkafka BROKERS TOPIC PARTITIONS CONSUMERS"));
    };
    let (partitions, consumers) = (partitions.parse::<i32>()?, consumers.parse::<i32>()?);
    let start = Instant::now();
    let read = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..consumers)
            .map(|first| {
                let step = usize::try_from(consumers)?;
                let mine: Vec<i32> = (first..partitions).step_by(step).collect();
                Ok(scope.spawn(move || read(brokers, topic, &mine)))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut total = (0, 0);
        for thread in threads {
            let joined = thread
                .join()
                .map_err(|_| anyhow!("a consumer has panicked"))?;
            let (messages, bytes) = joined?;
            total = (total.0 + messages, total.1 + bytes);
        }
        anyhow::Ok(total)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} {} {seconds:.4}", read.0, read.1);
    Ok(())
}

/// Messages and bytes of some partitions, from their beginnings to their ends.
fn read(brokers: &str, topic: &str, partitions: &[i32]) -> anyhow::Result<(u64, usize)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.partition.eof", "true")
        .create()?;
    let client = consumer.client().native_ptr();
    let name = CString::new(topic)?;
    // SAFETY: the client lives until the end of this function; a null configuration is its default.
    let topic = unsafe { rd::rd_kafka_topic_new(client, name.as_ptr(), std::ptr::null_mut()) };
    ensure!(!topic.is_null(), "no such topic");
    // SAFETY: as above.
    let queue = unsafe { rd::rd_kafka_queue_new(client) };
    for partition in partitions {
        // SAFETY: topic and queue are destroyed below only.
        let started =
            unsafe { rd::rd_kafka_consume_start_queue(topic, *partition, BEGINNING, queue) };
        ensure!(started == 0, "partition {partition} cannot be read");
    }
    let mut messages = vec![std::ptr::null_mut(); BATCH];
    let (mut ended, mut count, mut bytes) = (0, 0, 0);
    while ended < partitions.len() {
        // SAFETY: there is room for as many pointers as told.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(queue, WAIT_MS, messages.as_mut_ptr(), BATCH)
        };
        let taken = usize::try_from(taken).context("the queue is broken")?;
        for message in messages.iter().take(taken) {
            // SAFETY: librdkafka has just written this pointer.
            let (error, length) = unsafe { ((**message).err, (**message).len) };
            // SAFETY: destroyed once, as each pointer is another message.
            unsafe { rd::rd_kafka_message_destroy(*message) };
            use rd::rd_kafka_resp_err_t as code;
            if error == code::RD_KAFKA_RESP_ERR_NO_ERROR {
                count += 1;
                bytes += length;
            } else if error == code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                ended += 1;
            } else {
                return Err(anyhow!("{error:?}"));
            }
        }
    }
    for partition in partitions {
        // SAFETY: started above.
        unsafe { rd::rd_kafka_consume_stop(topic, *partition) };
    }
    // SAFETY: made above, and used no more.
    unsafe {
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_topic_destroy(topic);
    }
    Ok((count, bytes))
}
