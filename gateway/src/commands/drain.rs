//! `pointsman drain` and `pointsman undrain`: an endpoint of a running gateway out of service, and back in it.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin_client::{AdminArguments, AdminClient};

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The endpoint, as `pointsman top` names it, such as `gpu/1`.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Takes it out of service.
pub fn drain(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    turn(arguments, "drain")
}

/// Gives it back.
pub fn undrain(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    turn(arguments, "undrain")
}

fn turn(arguments: &Arguments, what: &str) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.admin)?;
    let reply = client.post(&format!("/api/v1/backends/{what}"), &json!({ "endpoint": arguments.endpoint }))?;
    super::print(&told(&reply.json()?))?;
    Ok(ExitCode::SUCCESS)
}

fn told(answer: &Value) -> String {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
    let endpoint = answer.get("endpoint").and_then(Value::as_str).unwrap_or_default();
    let by = answer.pointer("/drained/by").and_then(Value::as_str);
    let by_portfolio = answer.get("drained_by_portfolio").and_then(Value::as_bool).unwrap_or_default();
    let (in_flight, others) = (number("in_flight"), number("endpoints_in_service"));
    match (by, by_portfolio) {
        (Some(by), _) if others == 0 => {
            format!("{endpoint} is drained by {by}; {in_flight} still on their way. No endpoint is left in service\n")
        }
        (Some(by), _) => {
            format!("{endpoint} is drained by {by}; {in_flight} still on their way, {others} in service\n")
        }
        (None, true) => format!("{endpoint} stays drained: the portfolio says `drain = true` of its pool\n"),
        (None, false) => format!("{endpoint} is in service, {others} in all\n"),
    }
}
