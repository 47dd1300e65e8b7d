//! A receiver of traces over OTLP/HTTP that keeps every span.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::double::{Act, Double};

/// Starts one.
pub async fn start() -> Double {
    let answer = Act::json(200, "").header("content-type", "application/x-protobuf");
    Double::always(answer).await
}

/// The spans that have arrived.
pub fn spans(receiver: &Double) -> Vec<Span> {
    let decode = |body: &[u8]| ExportTraceServiceRequest::decode(body).expect("OTLP");
    let messages: Vec<_> = receiver.seen().iter().map(|seen| decode(&seen.body)).collect();
    let resources = messages.into_iter().flat_map(|message| message.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

/// Attributes by name, their values as text.
pub fn attributes(list: &[KeyValue]) -> HashMap<String, String> {
    list.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}
