//! A caller, what it may do, and why somebody is none.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name: of a key, of a token's claim, of a certificate. What policies read as `request.tenant`.
    pub name: Arc<str>,
    /// What proved it.
    pub by: By,
    /// What it may do.
    pub scope: Scope,
}

/// What proved a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An API key.
    Key,
    /// A signed token.
    Token,
    /// The certificate of its connection.
    Certificate,
}

impl By {
    /// The name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Key => "key",
            By::Token => "token",
            By::Certificate => "certificate",
        }
    }
}

/// What a caller may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Models, by the name clients use.
    pub models: Allowed,
    /// Classes that its requests may be of.
    pub classes: Allowed,
    /// Routes that may match its requests.
    pub routes: Allowed,
}

/// Names that are allowed; all where none are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Option<BTreeSet<String>>);

impl Allowed {
    /// These names only; all where there is no list.
    pub fn only(names: Option<&Vec<String>>) -> Allowed {
        Allowed(names.map(|names| names.iter().cloned().collect()))
    }

    /// Whether a name is allowed.
    pub fn admits(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Whether every name is allowed.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("all"),
            Some(names) => f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Why somebody is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// It shows nothing.
    Nothing,
    /// It shows two things in one header.
    Twice,
    /// No such key.
    UnknownKey,
    /// The key or token is no longer good.
    Expired,
    /// The token is no proof; says why.
    Token(&'static str),
    /// Callers are known by certificate, and this connection has none that may call.
    Certificate,
}

impl Unproven {
    /// What is wrong and what to do, for people. Nothing of what was shown is repeated.
    pub fn message(self) -> String {
        match self {
            Unproven::Nothing => {
                "this gateway asks who calls: send an API key as `authorization: Bearer KEY` or `x-api-key: KEY`"
                    .to_owned()
            }
            Unproven::Twice => "a header that carries credentials is given more than once".to_owned(),
            Unproven::UnknownKey => "the API key is not known here".to_owned(),
            Unproven::Expired => "the API key or token has expired".to_owned(),
            Unproven::Certificate => {
                "this gateway knows its callers by certificate, and this connection has none that may call".to_owned()
            }
            Unproven::Token(why) => format!("the token is not taken: {why}"),
        }
    }

    /// Stable code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Unproven::Nothing => "missing_api_key",
            Unproven::Twice | Unproven::UnknownKey => "invalid_api_key",
            Unproven::Expired => "expired_api_key",
            Unproven::Certificate => "unknown_certificate",
            Unproven::Token(_) => "invalid_token",
        }
    }
}
