//! Sends spans to an OTLP receiver over HTTP/protobuf, in batches, behind the data path: what a slow or absent receiver
//! cannot take is dropped and counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use pointsman_backends::connect::{Connections, Outgoing, Spliced, Version};
use pointsman_backends::endpoint::Address;
use pointsman_backends::tls;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::health::Health;
use super::metrics::Metrics;
use super::spans::spans;
use crate::config::process::TelemetryShape;
use crate::record::Record;

/// Spans in one message.
const BATCH: usize = 512;
/// How long spans wait for a batch to fill.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one message may take.
const SEND_TIME: Duration = Duration::from_secs(5);
/// What is read of a receiver's answer, bytes.
const LONGEST_ANSWER: usize = 64 << 10;
/// How often a failing receiver is mentioned in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Turns records into spans and sends them, until the last sender is gone; then passes each record on to the tap.
/// Without a receiver records are let go.
pub async fn export(
    mut records: mpsc::Receiver<Arc<Record>>,
    exporter: Option<SpanExporter>,
    tap: Option<mpsc::Sender<Arc<Record>>>,
    (metrics, health): (Arc<Metrics>, Arc<Health>),
) {
    let mut complaint: Option<tokio::time::Instant> = None;
    let mut batch = Vec::with_capacity(BATCH);
    let mut open = true;
    while open {
        open = gather(&mut records, &mut batch, exporter.is_some(), tap.as_ref()).await;
        let Some(exporter) = exporter.as_ref().filter(|_| !batch.is_empty()) else { continue };
        let count = batch.len() as u64;
        let problem = send(exporter, std::mem::take(&mut batch)).await.err();
        health.sent(count, problem.as_deref());
        metrics.spans(if problem.is_none() { "sent" } else { "failed" }, count);
        if let Some(problem) = problem
            && complaint.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY)
        {
            complaint = Some(tokio::time::Instant::now());
            tracing::warn!("traces cannot be sent: {problem}");
        }
    }
}

/// Sends spans once; an error says why they did not arrive.
pub async fn send(exporter: &SpanExporter, spans: Vec<SpanData>) -> Result<(), String> {
    match tokio::time::timeout(SEND_TIME, exporter.export(spans)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {SEND_TIME:?}")),
    }
}

/// Fills a batch until it is full or the interval is over; false when no more will come.
async fn gather(
    records: &mut mpsc::Receiver<Arc<Record>>,
    batch: &mut Vec<SpanData>,
    wanted: bool,
    tap: Option<&mpsc::Sender<Arc<Record>>>,
) -> bool {
    let until = tokio::time::Instant::now() + INTERVAL;
    while batch.len() < BATCH {
        match tokio::time::timeout_at(until, records.recv()).await {
            Ok(Some(record)) => {
                if wanted && record.trace.sampled {
                    batch.extend(spans(&record));
                }
                if let Some(tap) = tap {
                    let _ = tap.try_send(record); // a tap without room misses it
                }
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
    true
}

/// The receiver that the configuration or the environment names, if any.
pub fn receiver(telemetry: &TelemetryShape) -> Option<String> {
    let from_environment = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty());
    telemetry.otlp_endpoint.as_ref().map(|url| url.value.clone()).or_else(from_environment)
}

/// The exporter to it; an error says why it cannot be made.
pub fn exporter(telemetry: &TelemetryShape) -> Result<Option<SpanExporter>, String> {
    let Some(base) = receiver(telemetry) else { return Ok(None) };
    let client = OtlpClient::new(&base)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        // Its retries would sleep on a thread of the data path; a batch that fails is counted and let go.
        .with_retry_policy(RetryPolicy::disabled())
        .with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
        .build()
        .map_err(|error| format!("telemetry.otlp_endpoint `{base}`: {error}"))?;
    let name = telemetry.service().to_owned();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(&Resource::builder().with_service_name(name).with_attribute(version).build());
    Ok(Some(exporter))
}

/// HTTP for the exporter, on the gateway's own connections.
struct OtlpClient {
    connections: Arc<Connections>,
}

impl OtlpClient {
    fn new(base: &str) -> Result<OtlpClient, String> {
        let address = Address::parse(base).map_err(|error| format!("telemetry.otlp_endpoint `{base}`: {error}"))?;
        let tls = match address.tls {
            true => Some(tls::client(None, Version::Negotiated).map_err(|error| error.to_string())?),
            false => None,
        };
        let connections = Connections::new(address, tls, Version::Negotiated, TaskTracker::new());
        Ok(OtlpClient { connections: Arc::new(connections) })
    }
}

impl fmt::Debug for OtlpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpClient")
    }
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned().ok_or("the receiver's URL has no path")?;
        let body = Spliced::new([body, Bytes::new(), Bytes::new()]);
        let outgoing = Outgoing { method: head.method, path, headers: head.headers, body };
        let (response, hold) = self.connections.send(|| outgoing.clone(), SEND_TIME).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
        hold.finish();
        Ok(Response::from_parts(head, body))
    }
}
