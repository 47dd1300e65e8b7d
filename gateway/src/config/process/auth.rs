//! Who may send requests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use pointsman_backends::endpoint::Address;
use pointsman_backends::tls;
use pointsman_policies::language::{Diagnostic, Located, Report};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::identity::key_set::KeySet;
use crate::identity::keys::KeyRing;

/// `auth = "none"`, or `[auth]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AuthShape {
    /// Whoever reaches the listener may send requests.
    Open(Open),
    /// Callers prove who they are.
    Proven(Box<ProvenShape>),
}

/// `"none"`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Open {
    /// Nobody is asked who they are.
    None,
}

/// `[auth]`: what callers may prove themselves with; any one of them is enough.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenShape {
    /// The file of API keys, relative to this one; `pointsman keys new` writes it. Changes of it take effect within
    /// seconds; one that cannot be read leaves the last good one in force.
    #[schemars(example = &"keys.toml")]
    pub keys_file: Option<String>,
    /// Signed tokens of an identity provider.
    pub jwt: Option<JwtShape>,
}

/// `[auth.jwt]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtShape {
    /// Who must have issued a token: its `iss`, to the letter.
    #[schemars(example = &"https://login.example.com")]
    pub issuer: String,
    /// Whom a token must be meant for: one of its `aud`.
    #[schemars(example = &"pointsman")]
    pub audience: String,
    /// Where the issuer's keys are fetched, `https://...`; `http` only from this machine. They are kept as long as no
    /// newer ones come.
    #[schemars(example = &"https://login.example.com/.well-known/jwks.json")]
    pub jwks_url: Option<String>,
    /// The issuer's keys as a file, relative to this one, instead of a URL.
    #[schemars(example = &"jwks.json")]
    pub jwks_file: Option<String>,
    /// PEM file with the certificates to trust for `jwks_url` instead of the system's, relative to this file.
    #[schemars(example = &"tls/ca.pem")]
    pub ca_file: Option<String>,
    /// Algorithms a token may be signed with; all three where not given. Shared secrets and `none` are never taken.
    #[schemars(length(min = 1))]
    #[schemars(example = serde_json::json!(["ES256"]))]
    pub algorithms: Option<Vec<SignatureShape>>,
    /// The claim that names the caller; `sub` where not given.
    #[schemars(example = &"client_id")]
    pub name_claim: Option<String>,
    /// How far the issuer's clock may be off, seconds; 60 where not given.
    #[schemars(range(min = 0, max = 600))]
    #[schemars(example = 30)]
    pub leeway_s: Option<u32>,
    /// How often the keys are fetched, seconds; 300 where not given. An unknown key is looked for at once, but not more
    /// often than every ten seconds.
    #[schemars(range(min = 10, max = 86400))]
    #[schemars(example = 300)]
    pub refresh_s: Option<u32>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SignatureShape {
    /// RSA with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Who may send requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// Whether a request needs a caller.
    pub required: bool,
    /// Whether it was written that nobody is asked.
    pub open: bool,
    /// The file of API keys.
    pub keys_file: Option<PathBuf>,
    /// Whose tokens are taken.
    pub jwt: Option<Jwt>,
}

/// Whose tokens are taken, and how they are checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// `iss`
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// Where the keys are.
    pub keys: KeysAt,
    /// How they may be signed.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the caller.
    pub name_claim: String,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// How often keys are fetched.
    pub refresh: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeysAt {
    /// In a file.
    File(PathBuf),
    /// Behind a URL, with the file of authorities to trust.
    Url(Address, Option<PathBuf>),
}

const DEFAULT_LEEWAY_S: u32 = 60;
const DEFAULT_REFRESH_S: u32 = 300;

impl Auth {
    /// Checks who may send requests to an address. Problems go into the report.
    pub(super) fn new(
        shape: Option<&Located<AuthShape>>,
        (listen, given): (SocketAddr, Option<&Located<String>>),
        by_certificate: bool,
        folder: &Path,
        report: &mut Report,
    ) -> Auth {
        let proven = match shape.map(|shape| (&shape.value, &shape.span)) {
            Some((AuthShape::Open(Open::None), _)) => return Auth { open: true, ..Auth::default() },
            Some((AuthShape::Proven(proven), span)) => Some((proven, span)),
            None => None,
        };
        let keys_file = proven.and_then(|(proven, span)| {
            let path = folder.join(proven.keys_file.as_ref()?);
            if let Err(error) = KeyRing::read(&path) {
                report.push(Diagnostic::error("bad-keys", format!("`auth.keys_file`: {error}")).at(span.clone()));
            }
            Some(path)
        });
        let jwt = proven.and_then(|(proven, span)| {
            let checked = jwt(proven.jwt.as_ref()?, folder);
            checked.map_err(|error| report.push(Diagnostic::error("bad-jwt", error).at(span.clone()))).ok()
        });
        let required = by_certificate || proven.is_some();
        if let Some((proven, span)) = proven
            && proven.keys_file.is_none()
            && proven.jwt.is_none()
            && !by_certificate
        {
            let nobody = Diagnostic::error("empty-auth", "`[auth]` says nothing that a caller could prove itself with");
            let help = "give `keys_file`, `[auth.jwt]` or `tls.client_ca_file`, or write `auth = \"none\"`";
            report.push(nobody.at(span.clone()).help(help));
        }
        if !required && !listen.ip().is_loopback() {
            refuse_open(listen, given, report);
        }
        Auth { required, open: false, keys_file, jwt }
    }
}

/// Whoever reaches the listener could spend.
fn refuse_open(listen: SocketAddr, given: Option<&Located<String>>, report: &mut Report) {
    let message = format!("`listen` is `{listen}`, which others can reach, and nobody is asked who they are");
    let open = Diagnostic::error("listener-without-auth", message).label("not a loopback address");
    let help = "add `[auth]` with `keys_file = \"keys.toml\"` (`pointsman keys new` writes it), listen on \
                `127.0.0.1:7070`, or write `auth = \"none\"` where the network lets nobody else in";
    report.push(open.at(given.map_or(0..0, |given| given.span.clone())).help(help));
}

fn jwt(shape: &JwtShape, folder: &Path) -> Result<Jwt, String> {
    let keys = match (&shape.jwks_url, &shape.jwks_file) {
        (Some(_), Some(_)) => return Err("`auth.jwt`: give `jwks_url` or `jwks_file`, not both".to_owned()),
        (None, None) => {
            return Err("`auth.jwt`: the issuer's keys are missing: give `jwks_url` or `jwks_file`".to_owned());
        }
        (Some(url), None) => KeysAt::Url(url_of_keys(url)?, shape.ca_file.as_ref().map(|file| folder.join(file))),
        (None, Some(file)) => {
            let path = folder.join(file);
            KeySet::read(&path).map_err(|error| format!("`auth.jwt.jwks_file`: {error}"))?;
            KeysAt::File(path)
        }
    };
    if let KeysAt::Url(address, Some(ca_file)) = &keys
        && address.tls
    {
        let read = tls::client(Some(ca_file), pointsman_backends::connect::Version::Negotiated);
        read.map_err(|error| format!("`auth.jwt.ca_file`: {error}"))?;
    }
    let all = [SignatureShape::Rs256, SignatureShape::Es256, SignatureShape::EdDsa];
    let algorithms = shape.algorithms.as_deref().unwrap_or(&all).iter().map(|signature| match signature {
        SignatureShape::Rs256 => Algorithm::RS256,
        SignatureShape::Es256 => Algorithm::ES256,
        SignatureShape::EdDsa => Algorithm::EdDSA,
    });
    let seconds = |given: Option<u32>, default| Duration::from_secs(u64::from(given.unwrap_or(default)));
    Ok(Jwt {
        issuer: shape.issuer.clone(),
        audience: shape.audience.clone(),
        keys,
        algorithms: algorithms.collect(),
        name_claim: shape.name_claim.clone().unwrap_or_else(|| "sub".to_owned()),
        leeway: seconds(shape.leeway_s, DEFAULT_LEEWAY_S),
        refresh: seconds(shape.refresh_s, DEFAULT_REFRESH_S),
    })
}

/// Keys that came over plain HTTP are whatever somebody in between wants them to be.
fn url_of_keys(url: &str) -> Result<Address, String> {
    let address = Address::parse(url).map_err(|error| format!("`auth.jwt.jwks_url`: {error}"))?;
    let here = address.host == "localhost" || address.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if !address.tls && !here {
        return Err("`auth.jwt.jwks_url` must be `https`: whoever stands between could make keys of his own".to_owned());
    }
    Ok(address)
}
