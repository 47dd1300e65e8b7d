//! What a running gateway has decided, or would decide now.

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_policies::explain::{Explanation, VERSION};
use serde_json::{Value, json};

use super::Arguments;
use crate::commands::admin_client::{AdminClient, Refused, Reply};
use crate::config::source::read_source;

/// A decision that it remembers.
pub(super) fn decided(arguments: &Arguments, id: &str) -> anyhow::Result<Explanation> {
    let client = AdminClient::new(&arguments.admin)?;
    let id = utf8_percent_encode(id.trim(), NON_ALPHANUMERIC);
    explanation(&client.get(&format!("/api/v1/decisions/{id}"))?)
}

/// A request that is only supposed, on its machines as they are.
pub(super) fn supposed(arguments: &Arguments) -> anyhow::Result<Explanation> {
    let client = AdminClient::new(&arguments.admin)?;
    let mut question = arguments.request.question()?;
    let mut add =
        |key: &str, value: Value| question.as_object_mut().map(|members| members.insert(key.to_owned(), value));
    if let Some(draw) = arguments.draw {
        add("draw", json!(draw.to_string()));
    }
    if let Some(file) = &arguments.policy {
        match read_source(file) {
            Ok(source) => add("policy", json!(source.text)),
            Err(report) => bail!("{}", report.render(false).trim_end()),
        };
    }
    let asked = client.post("/api/v1/explain", &question);
    explanation(&asked.map_err(|error| with_diagnostics(error, arguments))?)
}

/// Says what is wrong with the policy where that is why.
fn with_diagnostics(error: anyhow::Error, arguments: &Arguments) -> anyhow::Error {
    let Some(policy) = &arguments.policy else { return error };
    match error.downcast_ref::<Refused>() {
        Some(refused) if refused.code == "bad-policy" => error.context(format!(
            "the policy `{0}` cannot be used with the gateway's machines; `pointsman check {0}` may say more",
            policy.display()
        )),
        _ => error,
    }
}

fn explanation(reply: &Reply) -> anyhow::Result<Explanation> {
    let value = reply.json()?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        _ => bail!("the gateway explains in a form that this program does not know; are both of one version?"),
    }
    serde_json::from_value(value).context("the gateway's explanation cannot be understood; are both of one version?")
}
