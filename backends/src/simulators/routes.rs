//! What a simulated machine answers, path by path.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::StreamBody;
use super::failure::Failure;
use super::faults::{Blow, Faults, Strike};
use super::machine::{Machine, Stats};
use super::openai::{Answer, Ask, Chunks, Embed, Shape};

/// The largest request body, bytes.
const LARGEST_BODY: usize = 64 << 20;
/// What an `overloaded-429` fault tells the caller to wait.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What all connections of one machine share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) machine: Machine,
    pub(super) models: Vec<String>,
    pub(super) seed: u64,
    pub(super) faults: Mutex<(Faults, Pcg64Mcg)>,
}

impl Desk {
    /// An answer, or an error that closes the connection without one.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> io::Result<Reply> {
        let known = match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => return self.generate(Shape::Chat, request).await,
            (&Method::POST, "/v1/completions") => return self.generate(Shape::Text, request).await,
            (&Method::POST, "/v1/embeddings") => return self.embed(request).await,
            (&Method::POST, "/simulator/faults") => self.change_faults(request).await,
            (&Method::GET, "/v1/models") => Ok(json_reply(StatusCode::OK, &self.models())),
            (&Method::GET, "/health") => Ok(json_reply(StatusCode::OK, &json!({"status": "ok"}))),
            (&Method::GET, "/simulator/stats") => Ok(json_reply(StatusCode::OK, &json!(self.stats()))),
            (&Method::GET, "/metrics") => Ok(self.metrics()),
            (method, path) => {
                let message = format!("Invalid URL ({method} {path})");
                Err(Failure::new(StatusCode::NOT_FOUND, "invalid_request_error", None, &message))
            }
        };
        Ok(known.unwrap_or_else(failure_reply))
    }

    pub(super) fn stats(&self) -> Stats {
        let faults = self.faults.lock().0.iter().map(ToString::to_string).collect();
        Stats { faults, ..self.machine.stats() }
    }

    async fn generate(&self, shape: Shape, request: Request<Incoming>) -> io::Result<Reply> {
        let strike = self.strike().await?;
        Ok(self.try_generate(shape, request, strike).await.unwrap_or_else(failure_reply))
    }

    async fn try_generate(&self, shape: Shape, request: Request<Incoming>, strike: Strike) -> Result<Reply, Failure> {
        let body = read(request).await?;
        fail_on_purpose(strike.blow)?;
        let ask = Ask::read(shape, &body, self.seed)?;
        self.knows(&ask.model)?;
        let (job, finish) = ask.job(self.machine.longest());
        let real = |span| self.machine.real(span);
        let stream = self.machine.submit(job).map_err(|refused| Failure::refused(refused, real))?;
        let prefix = match shape {
            Shape::Chat => "chatcmpl",
            Shape::Text => "cmpl",
        };
        let id = format!("{prefix}-{:016x}{:08x}", self.seed, stream.id());
        let answer = Answer { id, created: unix_seconds(), finish, ask };
        if !answer.ask.stream {
            if strike.blow == Some(Blow::Stall) {
                std::future::pending::<()>().await;
            }
            let (tokens, cached_tokens) = stream.finish().await;
            return Ok(json_reply(StatusCode::OK, &answer.whole(tokens, cached_tokens)));
        }
        // The status is sent with the first token, so that what fails before can still be told by one.
        stream.ready().await;
        let body = StreamBody::new(stream, Chunks::new(answer), strike.blow);
        let mut reply = Response::new(body.boxed_unsync());
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(reply)
    }

    async fn embed(&self, request: Request<Incoming>) -> io::Result<Reply> {
        let strike = self.strike().await?;
        Ok(self.try_embed(request, strike).await.unwrap_or_else(failure_reply))
    }

    async fn try_embed(&self, request: Request<Incoming>, strike: Strike) -> Result<Reply, Failure> {
        let body = read(request).await?;
        fail_on_purpose(strike.blow)?;
        let embed = Embed::read(&body, self.seed)?;
        self.knows(&embed.model)?;
        let real = |span| self.machine.real(span);
        let stream = self.machine.submit(embed.job()).map_err(|refused| Failure::refused(refused, real))?;
        stream.finish().await;
        Ok(json_reply(StatusCode::OK, &embed.answer()))
    }

    /// Draws what goes wrong with a request; waits, or closes the connection, where that is it.
    async fn strike(&self) -> io::Result<Strike> {
        let strike = {
            let (faults, random) = &mut *self.faults.lock();
            faults.draw(random)
        };
        if !strike.delay.is_zero() {
            tokio::time::sleep(strike.delay).await;
        }
        match strike.blow {
            Some(Blow::Refuse) => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            _ => Ok(strike),
        }
    }

    fn knows(&self, model: &str) -> Result<(), Failure> {
        if self.models.iter().any(|known| known == model) { Ok(()) } else { Err(Failure::unknown_model(model)) }
    }

    fn models(&self) -> Value {
        let entry = |name: &String| json!({"id": name, "object": "model", "created": 0, "owned_by": "simulator"});
        json!({"object": "list", "data": self.models.iter().map(entry).collect::<Vec<_>>()})
    }

    async fn change_faults(&self, request: Request<Incoming>) -> Result<Reply, Failure> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            faults: Vec<String>,
        }
        let body = read(request).await?;
        let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
            Failure::invalid(&format!(r#"expected {{"faults": ["stall:0.01"]}}: {error}"#), "faults")
        })?;
        let faults = Faults::parse(&wanted.faults).map_err(|error| Failure::invalid(&error.to_string(), "faults"))?;
        self.faults.lock().0 = faults;
        Ok(json_reply(StatusCode::OK, &json!({"faults": wanted.faults})))
    }

    /// Under the names of vLLM.
    fn metrics(&self) -> Reply {
        let stats = self.machine.stats();
        let used = stats.kv_capacity.map_or(0.0, |capacity| stats.kv_tokens as f64 / capacity.max(1) as f64);
        let model = json!(self.models.first().map_or("", String::as_str));
        let mut text = String::new();
        let gauges = [
            ("vllm:num_requests_running", "Number of requests in model execution batches.", stats.running as f64),
            ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", stats.waiting as f64),
            ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", used),
        ];
        let counters = [
            ("vllm:request_success_total", "Count of successfully processed requests.", stats.completed),
            ("vllm:generation_tokens_total", "Number of generation tokens processed.", stats.output_tokens),
        ];
        let labels = format!("{{model_name={model}}}");
        // Writing to a string cannot fail.
        for (name, help, value) in gauges {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}");
        }
        for (name, help, value) in counters {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{labels} {value}");
        }
        whole_reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
    }
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let collected = Limited::new(request.into_body(), LARGEST_BODY).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        let status =
            if error.is::<LengthLimitError>() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Failure::new(status, "invalid_request_error", None, &format!("the body cannot be read: {error}"))
    })
}

fn fail_on_purpose(blow: Option<Blow>) -> Result<(), Failure> {
    match blow {
        Some(Blow::Error500) => Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            Some("internal_error"),
            "The server had an error while processing your request.",
        )),
        Some(Blow::Overloaded429) => {
            Err(Failure::overloaded("tokens", "We are experiencing high traffic right now.", OVERLOADED_RETRY))
        }
        _ => Ok(()),
    }
}

fn failure_reply(failure: Failure) -> Reply {
    let mut reply = json_reply(failure.status, &failure.body);
    if let Some(wait) = failure.retry_after {
        let milliseconds = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
        let headers = reply.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
        headers.insert("retry-after-ms", HeaderValue::from(milliseconds));
    }
    reply
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    whole_reply(status, "application/json", body.to_string().into())
}

fn whole_reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let body = Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
