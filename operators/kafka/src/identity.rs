//! The identity of a topic: what tells it from another topic of the same name.
//!
//! Brokers give every topic an id when it is made (KIP-516). A topic that was deleted and made anew
//! has another one; its offsets begin again, so a checkpoint's offsets mean other records there, or
//! none. Services that only speak the protocol may have no ids; then there is nothing to compare.
#![allow(
    unsafe_code,
    reason = "rdkafka's safe administration does not describe topics"
)]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::link::Context;

/// The id of a topic, if its brokers have one and tell it in time.
pub(crate) fn topic_id(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    timeout: Duration,
) -> Option<String> {
    let name = CString::new(topic).ok()?;
    let timeout_ms = i32::try_from(timeout.as_millis()).ok()?;
    let client = consumer.client().native_ptr();
    let mut names = [name.as_ptr()];
    // SAFETY: the client lives as long as `consumer`, the name as long as this function, and the
    // request copies it. What is made here is destroyed here, after the last use of what it lends:
    // the event lends the result, the result the descriptions, a description its id.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut complaint = [0; 128];
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms,
            complaint.as_mut_ptr(),
            complaint.len(),
        );
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd::rd_kafka_DescribeTopics(client, topics, options, queue);
        // The request's own time ends first, and its end is an event too.
        let event = rd::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1000));
        let id = match event.is_null() {
            true => None,
            false => told(rd::rd_kafka_event_DescribeTopics_result(event)),
        };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_queue_destroy(queue);
        id
    }
}

/// The id in an answer; a topic without one has zeros.
///
/// # Safety
/// `result` is null or an answer that has not been destroyed.
unsafe fn told(result: *const rd::rd_kafka_DescribeTopics_result_t) -> Option<String> {
    if result.is_null() {
        return None;
    }
    let mut count = 0;
    // SAFETY: by this function's contract, and as each pointer is checked before it is followed.
    // The descriptions are as many as told.
    let (high, low) = unsafe {
        let described = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count == 0 {
            return None;
        }
        let description = *described;
        let id = rd::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return None;
        }
        (
            rd::rd_kafka_Uuid_most_significant_bits(id),
            rd::rd_kafka_Uuid_least_significant_bits(id),
        )
    };
    ((high, low) != (0, 0)).then(|| format!("{high:016x}{low:016x}"))
}
