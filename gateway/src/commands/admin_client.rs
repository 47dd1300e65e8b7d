//! How commands ask a running gateway: one request at a time, and every refusal in words that say what to do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use pointsman_backends::connect::{ConnectError, Connections, Outgoing, Spliced, Version};
use pointsman_backends::endpoint::Address;
use pointsman_backends::tls;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::admin::guard::WHO_HEADER;

/// The environment variable with the token; a flag would show it to whoever lists processes.
const TOKEN_VARIABLE: &str = "POINTSMAN_ADMIN_TOKEN";
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long a whole answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Largest answer that is read, bytes.
const MOST_ANSWER_BYTES: usize = 256 << 20;

/// What is wrong where something else than the admin API answers.
const OTHER_LISTENER: &str =
    "--admin wants the listener for operators (`admin_listen`, port 7071 by default), not the one for clients";

/// What to do where somebody else was faster.
const STALE: &str = "look at it with `pointsman policy show`, make the change to that text and apply it again";

/// Which gateway a command asks.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArguments {
    /// Address of the gateway's admin listener; its token, where it has one, is read from POINTSMAN_ADMIN_TOKEN.
    #[arg(long, value_name = "URL", env = "POINTSMAN_ADMIN", default_value = "http://127.0.0.1:7071", global = true)]
    pub admin: String,
}

/// A client of one gateway's admin API.
#[derive(Debug)]
pub struct AdminClient {
    url: String,
    base_path: String,
    connections: Arc<Connections>,
    runtime: tokio::runtime::Runtime,
    headers: HeaderMap,
}

/// A whole answer that is no refusal.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("the gateway's answer is not JSON; is it another version?")
    }

    /// A header as text; empty where absent.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A refusal of the gateway, as it stands in the answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}{}", help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default())]
pub struct Refused {
    /// The answer's status.
    pub status: StatusCode,
    /// Stable name of the kind of problem.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The whole `error` object, for what else is in it, such as `diagnostics`.
    pub error: Value,
}

impl AdminClient {
    /// A client; nothing is asked yet.
    pub fn new(arguments: &AdminArguments) -> anyhow::Result<AdminClient> {
        let url = arguments.admin.trim_end_matches('/').to_owned();
        let written = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        let address = Address::parse(&written).map_err(|error| anyhow!("--admin `{url}`: {error}"))?;
        let tls = if address.tls { Some(tls::client(None, Version::Http1)?) } else { None };
        let base_path = address.base_path.clone();
        let connections = Arc::new(Connections::new(address, tls, Version::Http1, TaskTracker::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(AdminClient { url, base_path, connections, runtime, headers: headers()? })
    }

    /// Where it asks.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads something; the path starts with `/api/v1/`.
    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.send(Method::GET, path, &[], Bytes::new())
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.send(Method::POST, path, &[(header::CONTENT_TYPE, "application/json")], Bytes::from(body.to_string()))
    }

    /// Sends a request. A refusal of the gateway is an error of type [`Refused`].
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> anyhow::Result<Reply> {
        let path: PathAndQuery = format!("{}{path}", self.base_path).parse().context("not a path")?;
        let mut all = self.headers.clone();
        for (name, value) in headers {
            all.insert(name, HeaderValue::try_from(*value).with_context(|| format!("`{value}` cannot be a header"))?);
        }
        let outgoing = Outgoing { method, path, headers: all, body: Spliced::new([body, Bytes::new(), Bytes::new()]) };
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER_TIME, self.answer(outgoing)).await });
        let reply = answer.map_err(|_| anyhow!("no answer from {} within {ANSWER_TIME:?}", self.url))??;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            return Err(self.refused(&reply));
        }
        Ok(reply)
    }

    async fn answer(&self, outgoing: Outgoing) -> anyhow::Result<Reply> {
        let sent = self.connections.send(|| outgoing.clone(), CONNECT_TIME).await;
        let (response, hold) = sent.map_err(|error| self.unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow!("the answer of {} broke off: {error}", self.url))?.to_bytes();
        hold.finish();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    fn unreachable(&self, error: &ConnectError) -> anyhow::Error {
        let url = &self.url;
        match error {
            ConnectError::Connect(..) | ConnectError::ConnectTimeout(..) | ConnectError::Dns(..) => anyhow!(
                "cannot reach a gateway at {url}: {error}\n  help: is one running there? start `pointsman demo` or \
                 `pointsman serve`; say where with --admin URL or POINTSMAN_ADMIN"
            ),
            other => anyhow!("{url} does not answer as a gateway does: {other}\n  help: {OTHER_LISTENER}"),
        }
    }

    fn refused(&self, reply: &Reply) -> anyhow::Error {
        let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let error = told.get("error").cloned().unwrap_or_default();
        let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(message) = text("message") else {
            let text = String::from_utf8_lossy(&reply.body);
            let start: String = text.trim().chars().take(200).collect();
            return anyhow!("{} answers {}: {start}", self.url, reply.status);
        };
        let help = match reply.status {
            StatusCode::UNAUTHORIZED => Some(format!("put the gateway's admin token into {TOKEN_VARIABLE}")),
            StatusCode::PRECONDITION_FAILED => Some(STALE.to_owned()),
            StatusCode::NOT_FOUND if text("help").is_none() => Some(OTHER_LISTENER.to_owned()),
            _ => text("help"),
        };
        let code = text("code").unwrap_or_default();
        anyhow::Error::new(Refused { status: reply.status, code, message, help, error })
    }
}

fn headers() -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
        let token = token.trim();
        let Ok(mut value) = HeaderValue::try_from(format!("Bearer {token}")) else {
            bail!("{TOKEN_VARIABLE} has characters that no header can carry");
        };
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let who = variable("POINTSMAN_WHO").or_else(|| variable("USER"));
    if let Some(who) = who.and_then(|who| HeaderValue::from_bytes(who.as_bytes()).ok()) {
        headers.insert(HeaderName::from_static(WHO_HEADER), who);
    }
    Ok(headers)
}
