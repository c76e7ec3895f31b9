//! librdkafka's own calls: reading partitions by batches into one queue, without a consumer group.
//!
//! The interface is `rd_kafka_consume_start_queue` and `rd_kafka_consume_batch_queue` of
//! `rdkafka.h`. All that is unsafe about reading is in this file; what leaves it borrows from a batch and
//! cannot outlive it.
#![allow(
    unsafe_code,
    reason = "rdkafka's safe consumers hand out single messages and need a consumer group"
)]

use std::ffi::{CStr, CString};
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::link::Context;

/// Messages taken from the queue at once.
const BATCH_MESSAGES: usize = 4096;

/// A topic whose partitions are read into one queue.
pub(crate) struct Topic {
    consumer: BaseConsumer<Context>,
    name: CString,
    topic: NonNull<rd::rd_kafka_topic_t>,
    queue: NonNull<rd::rd_kafka_queue_t>,
    started: Vec<i32>,
    messages: Vec<*mut rd::rd_kafka_message_t>,
}

// SAFETY: librdkafka's handles may be used from any thread (INTRODUCTION.md, "Threads and
// callbacks"); the message pointers are only valid, and only used, inside `fetch`.
unsafe impl Send for Topic {}

/// What the queue held.
pub(crate) enum Event<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of a partition was reached; the next offset would be `offset`.
    End {
        /// The partition.
        partition: i32,
        /// Where it ends, after records, control records and holes.
        offset: i64,
    },
    /// A partition could not be read.
    Failed {
        /// The partition.
        partition: i32,
        /// From where it was to be read.
        offset: i64,
        /// Why.
        code: RDKafkaErrorCode,
        /// Why, in words.
        reason: String,
    },
}

/// A record in the memory of librdkafka.
pub(crate) struct Record<'a> {
    message: &'a rd::rd_kafka_message_t,
}

impl Topic {
    /// A topic of a consumer that has no group. Nothing is read yet.
    ///
    /// # Errors
    /// What librdkafka says.
    pub(crate) fn new(consumer: BaseConsumer<Context>, name: &str) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| "its name has a null character".to_owned())?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `consumer`; a null configuration stands for the
        // client's default one, and the name is copied.
        let topic = unsafe { rd::rd_kafka_topic_new(client, name.as_ptr(), std::ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| last_error().1)?;
        // SAFETY: as above.
        let queue = unsafe { rd::rd_kafka_queue_new(client) };
        let Some(queue) = NonNull::new(queue) else {
            // SAFETY: made above, and used by nobody else.
            unsafe { rd::rd_kafka_topic_destroy(topic.as_ptr()) };
            return Err("there is no queue".to_owned());
        };
        Ok(Self {
            consumer,
            name,
            topic,
            queue,
            started: Vec::new(),
            messages: vec![std::ptr::null_mut(); BATCH_MESSAGES],
        })
    }

    /// The consumer, for events and questions.
    pub(crate) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// Begins to read a partition.
    ///
    /// # Errors
    /// What librdkafka says.
    pub(crate) fn start(&mut self, partition: i32, offset: i64) -> Result<(), String> {
        // SAFETY: topic and queue live as long as this; the call itself does no I/O.
        let started = unsafe {
            rd::rd_kafka_consume_start_queue(
                self.topic.as_ptr(),
                partition,
                offset,
                self.queue.as_ptr(),
            )
        };
        if started != 0 {
            return Err(last_error().1);
        }
        self.started.push(partition);
        Ok(())
    }

    /// Ends the reading of a partition; nothing more of it will come.
    pub(crate) fn stop(&mut self, partition: i32) {
        let Some(at) = self
            .started
            .iter()
            .position(|started| *started == partition)
        else {
            return;
        };
        self.started.swap_remove(at);
        // SAFETY: the topic lives as long as this. It fails only for a partition that was not
        // started.
        unsafe { rd::rd_kafka_consume_stop(self.topic.as_ptr(), partition) };
    }

    /// Waits for something to come, at most `wait`, and hands out what there is then. Whether there
    /// may be more.
    pub(crate) fn fetch(&mut self, wait: Duration, mut each: impl FnMut(Event<'_>)) -> bool {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // A call returns when it has as many as it may, or after its time: so first one message,
        // then all that are there.
        let mut count = self.take(0, 1, wait_ms);
        if count == 1 {
            count += self.take(1, BATCH_MESSAGES - 1, 0);
        }
        for message in self.messages.iter().take(count) {
            if let Some(message) = NonNull::new(*message) {
                // SAFETY: librdkafka has just written this pointer, and the message is ours until
                // it is destroyed below; `each` cannot keep the borrow.
                each(Event::of(unsafe { message.as_ref() }));
                // SAFETY: destroyed once, as every pointer of a batch is another message.
                unsafe { rd::rd_kafka_message_destroy(message.as_ptr()) };
            }
        }
        count == BATCH_MESSAGES
    }

    /// Takes messages into `messages` from `from` on; how many.
    fn take(&mut self, from: usize, count: usize, wait_ms: i32) -> usize {
        let Some(room) = self.messages.get_mut(from..from + count) else {
            return 0;
        };
        // SAFETY: the queue lives as long as this, and there is room for as many pointers as told.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                wait_ms,
                room.as_mut_ptr(),
                room.len(),
            )
        };
        usize::try_from(taken).unwrap_or(0)
    }

    /// The offset after the newest record of a partition, as of the last answer of its broker.
    pub(crate) fn newest(&self, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives as long as the consumer; both numbers are written or left.
        let answer = unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                self.name.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        let known = answer == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        (known && high >= 0).then_some(high)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        for partition in std::mem::take(&mut self.started) {
            // SAFETY: the topic is destroyed below.
            unsafe { rd::rd_kafka_consume_stop(self.topic.as_ptr(), partition) };
        }
        // SAFETY: both were made in `new`, are used by nobody else, and go before the client.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
            rd::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}

impl<'a> Event<'a> {
    fn of(message: &'a rd::rd_kafka_message_t) -> Self {
        use rd::rd_kafka_resp_err_t as code;
        let (partition, offset) = (message.partition, message.offset);
        if message.err == code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Self::Record(Record { message });
        }
        if message.err == code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            return Self::End { partition, offset };
        }
        Self::Failed {
            partition,
            offset,
            code: message.err.into(),
            // SAFETY: the text lives as long as the message, which is borrowed.
            reason: text(unsafe { rd::rd_kafka_message_errstr(message) }),
        }
    }
}

#[cfg(test)]
impl Record<'_> {
    /// A message with this value, as librdkafka would hand it out; without headers and time.
    pub(crate) fn message(partition: i32, offset: i64, value: &[u8]) -> rd::rd_kafka_message_t {
        rd::rd_kafka_message_t {
            err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: std::ptr::null_mut(),
            partition,
            payload: value.as_ptr().cast_mut().cast(),
            len: value.len(),
            key: std::ptr::null_mut(),
            key_len: 0,
            offset,
            _private: std::ptr::null_mut(),
        }
    }
}

impl<'a> Event<'a> {
    /// The event that a message of librdkafka is.
    #[cfg(test)]
    pub(crate) fn told(message: &'a rd::rd_kafka_message_t) -> Self {
        Self::of(message)
    }
}

impl<'a> Record<'a> {
    /// Its partition.
    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    /// Its offset.
    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Its value; nothing if it is null.
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: the value has this length and lives as long as the message, which is borrowed.
        unsafe { bytes(self.message.payload, self.message.len) }
    }

    /// Its key; nothing if it is null.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the key has this length and lives as long as the message, which is borrowed.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }

    /// When it was produced or appended, milliseconds since 1970.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is borrowed; the kind is written.
        let at = unsafe { rd::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && at >= 0)
            .then_some(at)
    }

    /// Calls `each` with name and value of every header, in order.
    pub(crate) fn headers(&self, mut each: impl FnMut(&str, Option<&[u8]>)) {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is borrowed; the headers stay its own.
        let found = unsafe { rd::rd_kafka_message_headers(self.message, &raw mut headers) };
        if found != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
            // SAFETY: `headers` is not null; name, value and size are written if there is one at
            // this index.
            let answer = unsafe {
                rd::rd_kafka_header_get_all(
                    headers,
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut size,
                )
            };
            if answer != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return;
            }
            // SAFETY: both live as long as the message; the name ends with a null character, the
            // value has this size.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, size)) };
            each(&name.to_string_lossy(), value);
        }
    }
}

/// # Safety
/// Unless null, `start` points to `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by this function's own contract.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), length) })
}

/// A text of librdkafka, which may be null.
fn text(start: *const std::os::raw::c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's texts end with a null character; it is copied at once.
    unsafe { CStr::from_ptr(start) }
        .to_string_lossy()
        .into_owned()
}

/// The error of this thread's last call.
fn last_error() -> (RDKafkaErrorCode, String) {
    // SAFETY: both only read what librdkafka keeps per thread or for ever.
    let (code, words) = unsafe {
        let code = rd::rd_kafka_last_error();
        (code, rd::rd_kafka_err2str(code))
    };
    (code.into(), text(words))
}
