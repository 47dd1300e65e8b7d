//! Asks an issuer for its keys: at the start, now and then, and when somebody shows a token signed by one that is not
//! known. The last good ones stay as long as no newer ones come. Where to ask stands in the process file; what a token
//! says of that (`jku`, `x5u`) is never followed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use pointsman_backends::connect::{Connections, Outgoing, Spliced, Version};
use pointsman_backends::endpoint::Address;
use pointsman_backends::tls;
use tokio_util::task::TaskTracker;

use super::key_set::{KeySet, LARGEST};
use crate::config::process::{Jwt, KeysAt};
use crate::gateway::Gateway;

/// An issuer that has not answered by then does not.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Where it does not answer, it is asked again after this.
const RETRY: Duration = Duration::from_secs(10);
/// Whether somebody wants keys is looked at this often where no issuer has to be asked.
const IDLE: Duration = Duration::from_secs(1);

/// Asks until dropped.
pub async fn ask_issuer(gateway: Arc<Gateway>) {
    let mut failed = false;
    loop {
        let process = gateway.snapshot().process.clone();
        let issuer = &gateway.identity().issuer;
        let Some((jwt, address, ca_file)) = process.auth.jwt.as_ref().and_then(asked) else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        let answer = tokio::time::timeout(ANSWER_TIME, fetch(address, ca_file)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIME:?}")));
        let metrics = gateway.telemetry().metrics();
        metrics.credentials_read("issuer-keys", answer.is_ok());
        metrics.credentials_ok("issuer-keys", answer.is_ok());
        let wait = match answer {
            Ok(keys) => {
                failed = false;
                gateway.identity().take_keys(&gateway, jwt, keys);
                jwt.refresh
            }
            Err(problem) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::error!("the keys of `{}` cannot be had, the last ones stay: {problem}", jwt.issuer);
                }
                RETRY.min(jwt.refresh)
            }
        };
        issuer.asked.send_modify(|count| *count += 1);
        let moved = async {
            loop {
                tokio::time::sleep(IDLE).await;
                if gateway.snapshot().process.auth.jwt.as_ref() != Some(jwt) {
                    return;
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = issuer.wanted.notified() => {}
            () = moved => {}
        }
    }
}

fn asked(jwt: &Jwt) -> Option<(&Jwt, &Address, Option<&Path>)> {
    match &jwt.keys {
        KeysAt::Url(address, ca_file) => Some((jwt, address, ca_file.as_deref())),
        KeysAt::File(_) => None,
    }
}

async fn fetch(address: &Address, ca_file: Option<&Path>) -> Result<KeySet, String> {
    let config = match address.tls {
        true => Some(tls::client(ca_file, Version::Negotiated).map_err(|error| error.to_string())?),
        false => None,
    };
    let tasks = TaskTracker::new();
    let connections = Arc::new(Connections::new(address.clone(), config, Version::Negotiated, tasks.clone()));
    let path = if address.base_path.is_empty() { "/" } else { &address.base_path };
    let path: http::uri::PathAndQuery = path.parse().map_err(|error| format!("not a path: {error}"))?;
    let headers = HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static("application/json"))]);
    let outgoing =
        || Outgoing { method: Method::GET, path: path.clone(), headers: headers.clone(), body: Spliced::default() };
    let answered = connections.send(outgoing, ANSWER_TIME).await;
    let (response, hold) = answered.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), LARGEST as usize).collect().await;
    let text: Bytes = body.map_err(|error| error.to_string())?.to_bytes();
    drop((hold, connections)); // closes the connection, and its task ends
    tasks.close();
    tasks.wait().await;
    KeySet::parse(&text)
}
