//! The ids that a cluster gives its topics, by librdkafka's DescribeTopics, which the Rust crate
//! does not wrap. It guarantees that every pointer it takes is given back; what another id means
//! is decided by whoever kept the first one.
#![expect(unsafe_code, reason = "the crate has no safe call for DescribeTopics")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The ids of the topics that exist, by full name, as the cluster prints them. Blocks.
pub(crate) fn fetch<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<HashMap<String, String>, KafkaError> {
    let names: Vec<CString> =
        topics.iter().map(|topic| CString::new(topic.as_str())).collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`; `pointers` point into `names`, which outlives the
    // call that copies them. Collection, options, queue and event are destroyed below, each once,
    // the event last of those that borrow from it.
    unsafe {
        let collection =
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = native::rd_kafka_AdminOptions_new(
            rk,
            native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut reason = [0; 128];
        native::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms,
            reason.as_mut_ptr(),
            reason.len(),
        );
        let queue = native::rd_kafka_queue_new(rk);
        native::rd_kafka_DescribeTopics(rk, collection, options, queue);
        let event = native::rd_kafka_queue_poll(queue, timeout_ms);
        let found = read(event);
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_TopicCollection_destroy(collection);
        found
    }
}

/// Copies what the event says.
///
/// # Safety
/// `event` is null or an event that is not destroyed before the return.
unsafe fn read(
    event: *mut native::rd_kafka_event_t,
) -> Result<HashMap<String, String>, KafkaError> {
    if event.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    }
    // SAFETY: the event is alive; everything read here belongs to it and is copied.
    unsafe {
        let error = native::rd_kafka_event_error(event);
        if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::InvalidType));
        }
        let mut count = 0;
        let descriptions = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut found = HashMap::with_capacity(count);
        for index in 0..count {
            let description = *descriptions.add(index);
            let error = native::rd_kafka_TopicDescription_error(description);
            let code = native::rd_kafka_error_code(error);
            if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                continue;
            }
            let id = native::rd_kafka_TopicDescription_topic_id(description);
            let id = native::rd_kafka_Uuid_base64str(id);
            let name = native::rd_kafka_TopicDescription_name(description);
            if !id.is_null() && !name.is_null() {
                found.insert(
                    CStr::from_ptr(name).to_string_lossy().into_owned(),
                    CStr::from_ptr(id).to_string_lossy().into_owned(),
                );
            }
        }
        Ok(found)
    }
}
