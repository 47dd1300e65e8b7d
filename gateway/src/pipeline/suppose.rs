//! A request that is only supposed: read as one that is served, and nothing comes of it.

use std::sync::Arc;

use http::HeaderMap;
use pointsman_policies::facts::{Api, OwnedFacts};
use pointsman_policies::prefix::Prefix;

use super::body;
use super::wishes::Wishes;
use crate::prompt::{self, Text};
use crate::refusal::Refusal;

/// A request as a client would send it.
#[derive(Clone, Debug)]
pub struct Supposed {
    /// Its facts, with all its headers.
    pub facts: OwnedFacts,
    /// What its tokens are estimated from.
    pub text: Text,
    /// How its prompt begins.
    pub prefix: Arc<Prefix>,
}

/// Reads a request, or says which refusal it would get before anything is decided. `unix_s` is when it comes, seconds
/// since 1970.
pub fn suppose(path: &str, headers: &HeaderMap, json: &[u8], unix_s: u64) -> Result<Supposed, Refusal> {
    let api = Api::at(path).ok_or_else(|| Refusal::UnknownPath(path.to_owned()))?;
    let Wishes { class: declared_class, deadline_ms, slo_ttft_ms, slo_itl_ms, session, tenant } =
        Wishes::read(headers)?;
    let parsed = prompt::parse(api, json).map_err(|error| body::refuse(&error))?;
    let visible = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let facts = OwnedFacts {
        api,
        path: path.to_owned(),
        headers: visible.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        tenant,
        model: parsed.model,
        stream: parsed.stream,
        service_tier: parsed.service_tier,
        declared_class,
        input_tokens: parsed.input_tokens,
        max_output_tokens: parsed.max_output_tokens,
        output_tokens: parsed.output_tokens,
        tools: parsed.tools,
        images: parsed.images,
        deadline_ms,
        slo_ttft_ms,
        slo_itl_ms,
        session,
        prefix: parsed.prefix.home(),
        unix_s,
        waited_ms: 0.0,
    };
    Ok(Supposed { facts, text: parsed.text, prefix: parsed.prefix })
}
