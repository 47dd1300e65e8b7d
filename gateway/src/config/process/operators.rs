//! Who may operate the gateway, and how much it remembers of what they did.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pointsman_backends::portfolio::Secrets;
use pointsman_backends::secret::SecretRef;
use pointsman_policies::language::{Diagnostic, Located, Report};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// `[admin]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminShape {
    /// What operators send as `authorization: Bearer TOKEN`: `{ env = "NAME" }` or `{ file = "PATH" }`. With a token,
    /// everything but health and metrics asks for it; without one, changes are taken from this machine only.
    #[schemars(example = serde_json::json!({ "env": "POINTSMAN_ADMIN_TOKEN" }))]
    pub token: Option<Located<SecretRef>>,
    /// Names under which the admin listener is asked, besides `localhost`, addresses and nothing else. Others are
    /// refused, so that no web page can reach it through a name of its own.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["gateway.internal"]))]
    pub hosts: Vec<Located<String>>,
}

/// `[generations]`
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationsShape {
    /// Generations kept on disk with their texts, and as many refused attempts; 50 where not given.
    #[schemars(range(min = 2, max = 1000))]
    #[schemars(example = 50)]
    pub keep: Option<usize>,
    /// Whether only the files change anything: the admin API refuses every change. For GitOps.
    #[serde(default)]
    #[schemars(example = true)]
    pub locked: bool,
}

/// Who may operate the gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admin {
    /// What they must know.
    pub token: Option<Token>,
    /// Names under which they may ask, in lower case and without port.
    pub hosts: Vec<String>,
}

/// What is kept of policies that were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// How many.
    pub keep: usize,
    /// Whether only the files change anything.
    pub locked: bool,
}

/// A secret that is compared and never shown.
#[derive(Clone, Debug)]
pub struct Token(Arc<SecretString>);

impl Token {
    /// Whether these bytes are the token; takes as long for a near miss as for a far one.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(given).into()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.is(other.0.expose_secret().as_bytes())
    }
}

const DEFAULT_KEEP: usize = 50;

impl Generations {
    pub(super) fn new(shape: &GenerationsShape) -> Generations {
        Generations { keep: shape.keep.unwrap_or(DEFAULT_KEEP), locked: shape.locked }
    }
}

impl Admin {
    pub(super) fn new(shape: &AdminShape, folder: &Path, secrets: Secrets, report: &mut Report) -> Admin {
        let token = shape.token.as_ref().and_then(|reference| token(reference, folder, secrets, report));
        let hosts = shape.hosts.iter().filter_map(|host| host_name(host, report)).collect();
        Admin { token, hosts }
    }
}

fn token(reference: &Located<SecretRef>, folder: &Path, secrets: Secrets, report: &mut Report) -> Option<Token> {
    match reference.value.resolve(folder) {
        Ok(secret) => Some(Token(Arc::new(secret))),
        Err(error) => {
            let message = format!("`admin.token`: {error}");
            let told = match secrets {
                Secrets::Required => Diagnostic::error("missing-secret", message),
                Secrets::Optional => Diagnostic::warning("missing-secret", message).help("`serve` will refuse this"),
            };
            report.push(told.at(reference.span.clone()));
            None
        }
    }
}

fn host_name(given: &Located<String>, report: &mut Report) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = given.value.to_ascii_lowercase();
    if !name.is_empty() && name.chars().all(plain) {
        return Some(name);
    }
    let wrong = Diagnostic::error("bad-host", format!("`{}` is not the name of a host", given.value));
    report.push(wrong.at(given.span.clone()).help("write it without scheme and port, like `pointsman.internal`"));
    None
}

/// Whoever reaches the listener could change the rules.
pub(super) fn refuse_without_token(listen: SocketAddr, given: Option<&Located<String>>, report: &mut Report) {
    let message = format!("`admin_listen` is `{listen}`, which others can reach, and there is no `admin.token`");
    let open = Diagnostic::error("admin-without-token", message).label("not a loopback address");
    let help = "add `[admin]` with `token = { env = \"POINTSMAN_ADMIN_TOKEN\" }`, or listen on `127.0.0.1:7071`";
    report.push(open.at(given.map_or(0..0, |given| given.span.clone())).help(help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = Token(Arc::new(SecretString::from("correct horse")));
        assert!(token.is(b"correct horse"));
        for other in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!token.is(other.as_bytes()), "{other:?}");
        }
        assert!(!format!("{token:?}").contains("horse"));
    }
}
