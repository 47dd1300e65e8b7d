//! One attempt: a request in a pool's dialect on one endpoint, up to the head of the answer.

use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Incoming;
use pointsman_policies::facts::Api;

use crate::connect::{ConnectError, Hold, Outgoing, Spliced};
use crate::fleet::Live;
use crate::portfolio::{Endpoint, Pool};

/// Whether a header belongs to one connection or is made anew for each.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "transfer-encoding"
            | "content-length"
            | "content-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "expect"
            | "accept-encoding"
            | "keep-alive"
            | "proxy-connection"
    )
}

/// Whether it is a credential that a caller may carry; they end at the gateway unless the pool says otherwise.
fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "cookie" | "x-api-key" | "api-key" | "openai-organization" | "openai-project")
}

/// Whether it is a header of an answer that is meant for browsers.
fn is_for_browsers(name: &str) -> bool {
    matches!(name, "set-cookie" | "alt-svc")
}

/// Prefixes of headers that tell of the account behind a key.
const ACCOUNT_PREFIXES: [&str; 2] = ["x-ratelimit-", "openai-"];

/// Prefix of the gateway's own headers, which no machine sees or sends on.
const OWN_PREFIX: &str = "x-pointsman-";

/// Sends a request to an endpoint and waits for the head of its answer.
pub async fn call(
    target: (&Pool, &Endpoint, &Live),
    api: Api,
    caller: &HeaderMap,
    added: &[Option<(HeaderName, HeaderValue)>],
    body: Spliced,
    connect_timeout: Duration,
) -> Result<(Response<Incoming>, Hold), ConnectError> {
    let (pool, endpoint, live) = target;
    let outgoing = || {
        let mut headers = headers_for(pool, caller, added.len());
        for (name, value) in added.iter().flatten() {
            headers.insert(name.clone(), value.clone());
        }
        Outgoing { method: Method::POST, path: endpoint.path(api), headers, body: body.clone() }
    };
    live.connections.send(outgoing, connect_timeout).await
}

/// Takes from an answer what belonged to the connection to the machine, what only a browser would obey, what tells of the
/// account behind a pool's key, and what could be taken for the gateway's own; length and framing are made anew.
pub fn strip_headers(pool: &Pool, headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name.as_str());
    }
    let account = |name: &str| ACCOUNT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let ends_here = |name: &&HeaderName| {
        let name = name.as_str();
        (is_ours(name) && name != "content-encoding")
            || is_for_browsers(name)
            || name.starts_with(OWN_PREFIX)
            || (!pool.forward_authorization && account(name))
    };
    // One or two, usually.
    while let Some(name) = headers.keys().find(ends_here).cloned() {
        headers.remove(name);
    }
}

/// Headers that a `connection` header declares to be of one connection only.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "content-type")
        .collect()
}

/// The caller's headers without those of its connection, its credentials and the gateway's own, with the pool's key and room
/// for more.
fn headers_for(pool: &Pool, caller: &HeaderMap, more: usize) -> HeaderMap {
    let named_by_connection = named_by_connection(caller);
    let mut headers = HeaderMap::with_capacity(caller.len() + more + 3);
    for (name, value) in caller {
        let text = name.as_str();
        let ends_here = is_ours(text)
            || text.starts_with(OWN_PREFIX)
            || (is_credential(text) && !pool.forward_authorization)
            || named_by_connection.iter().any(|named| named == text);
        if !ends_here {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(value) = headers.get_mut(header::AUTHORIZATION) {
        value.set_sensitive(true);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = &pool.api_key {
        pool.dialect.authorize(&mut headers, key);
    }
    headers
}
