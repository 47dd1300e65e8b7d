//! A request that is only supposed: a body as a client would send it, or the few things that matter of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::scenario::unix_seconds;
use pointsman_policies::wishes;
use serde_json::{Value, json};

use crate::learning::Learning;
use crate::pipeline::{Supposed, suppose};

/// Largest body that is read, bytes.
const MOST_BODY_BYTES: u64 = 32 << 20;

/// A request.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
pub(super) struct RequestArguments {
    /// The body as a client would send it, JSON; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    body: Option<PathBuf>,
    /// A header as `NAME: VALUE`; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The path.
    #[arg(long, default_value = "/v1/chat/completions", value_name = "PATH")]
    path: String,
    /// Who asks; the same as `-H 'x-pointsman-tenant: NAME'`.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The conversation; the same as `-H 'x-pointsman-session: NAME'`.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// The model, instead of a body.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Ask for a stream.
    #[arg(long, conflicts_with = "body")]
    stream: bool,
    /// Length of the prompt, tokens.
    #[arg(long, value_name = "NUMBER", default_value_t = 500, conflicts_with = "body")]
    input_tokens: u64,
    /// The caller's bound on the answer, tokens.
    #[arg(long, value_name = "NUMBER", conflicts_with = "body")]
    max_tokens: Option<u64>,
    /// When it comes: `HH:MM` by the policy's clock, `sat 09:30`, or a moment such as `2026-09-15T09:30:00Z`; now where
    /// not given.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl RequestArguments {
    /// Whether there is a request at all.
    pub(super) fn is_given(&self) -> bool {
        self.body.is_some() || self.model.is_some()
    }

    /// The facts of the request, with the tokens of its body as `learning` has it. `utc_offset_s` is what the policy's
    /// clock is ahead of UTC.
    pub(super) fn facts(&self, utc_offset_s: i32, learning: &Learning) -> anyhow::Result<OwnedFacts> {
        let supposed = self.supposed(&self.read()?, Some(utc_offset_s))?;
        let input_tokens = if self.body.is_some() { learning.prompt_tokens(&supposed) } else { self.input_tokens };
        Ok(OwnedFacts { input_tokens, ..supposed.facts })
    }

    /// The same as a running gateway is asked: with the body where there is one, so that it goes by what it knows of that.
    pub(super) fn question(&self) -> anyhow::Result<Value> {
        let body = self.read()?;
        let facts = self.supposed(&body, None)?.facts;
        if self.body.is_none() {
            // How long the answer will be, the gateway knows better.
            let facts = OwnedFacts { input_tokens: self.input_tokens, output_tokens: 0, ..facts };
            return Ok(json!({ "facts": facts }));
        }
        let body: Value = serde_json::from_slice(&body).context("the body is no JSON")?;
        let headers: BTreeMap<&str, &str> = facts.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        Ok(json!({ "path": self.path, "headers": headers, "body": body, "unix_s": facts.unix_s }))
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        self.body.as_ref().map_or_else(|| Ok(self.body_of_flags()), |path| read(path))
    }

    /// `utc_offset_s` is `None` where it is not known, and then a time of day cannot be understood.
    fn supposed(&self, body: &[u8], utc_offset_s: Option<i32>) -> anyhow::Result<Supposed> {
        let refused = suppose(&self.path, &self.header_map()?, body, self.unix_s(utc_offset_s)?);
        refused.map_err(|refusal| {
            anyhow!("the gateway refuses this with {} `{}`: {}", refusal.status(), refusal.code(), refusal.message())
        })
    }

    /// Has what each API wants, and no text: the length is given apart.
    fn body_of_flags(&self) -> Vec<u8> {
        let model = self.model.as_deref().unwrap_or_default();
        let mut body = json!({ "model": model, "stream": self.stream, "messages": [], "prompt": "", "input": "" });
        if let (Some(bound), Some(members)) = (self.max_tokens, body.as_object_mut()) {
            members.insert("max_tokens".to_owned(), json!(bound));
        }
        body.to_string().into_bytes()
    }

    fn header_map(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for text in &self.headers {
            let (name, value) = text.split_once(':').with_context(|| format!("-H `{text}` is not `NAME: VALUE`"))?;
            add(&mut headers, name.trim(), value.trim())?;
        }
        let [tenant, session] = [wishes::TENANT.first(), wishes::SESSION.first()];
        for (name, value) in [(tenant, &self.tenant), (session, &self.session)] {
            if let Some((name, value)) = name.zip(value.as_ref()) {
                add(&mut headers, name, value)?;
            }
        }
        Ok(headers)
    }

    fn unix_s(&self, utc_offset_s: Option<i32>) -> anyhow::Result<u64> {
        let Some(at) = &self.at else {
            return Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
        };
        match (unix_seconds(at, utc_offset_s.unwrap_or(0)), utc_offset_s) {
            (Some(unix_s), Some(_)) => Ok(unix_s),
            (Some(unix_s), None) if at.contains('T') => Ok(unix_s),
            (Some(_), None) => bail!("--at `{at}`: with --live, write a moment such as `2026-09-15T09:30:00Z`"),
            (None, _) => bail!("--at `{at}` is no time; write `09:30`, `sat 09:30` or `2026-09-15T09:30:00Z`"),
        }
    }
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> anyhow::Result<()> {
    let name = HeaderName::try_from(name).with_context(|| format!("`{name}` is no name of a header"))?;
    let value = HeaderValue::try_from(value).with_context(|| format!("`{value}` cannot stand in a header"))?;
    headers.append(name, value);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let limited = |input: &mut dyn Read, body: &mut Vec<u8>| input.take(MOST_BODY_BYTES + 1).read_to_end(body);
    let done = match path.to_str() {
        Some("-") => limited(&mut std::io::stdin().lock(), &mut body),
        _ => std::fs::File::open(path).and_then(|mut file| limited(&mut file, &mut body)),
    };
    done.with_context(|| format!("cannot read the body `{}`", path.display()))?;
    if body.len() as u64 > MOST_BODY_BYTES {
        bail!("the body `{}` has more than {MOST_BODY_BYTES} bytes", path.display());
    }
    Ok(body)
}
