//! How the listener proves itself, and who its clients must be.

use std::path::Path;
use std::time::Duration;

use pointsman_backends::tls;
use pointsman_policies::language::{Diagnostic, Report};
use schemars::JsonSchema;
use serde::Deserialize;

/// `[tls]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsShape {
    /// PEM file with the certificate chain, relative to this file; of clients that name no host, or one that no other
    /// certificate is for. Changes of this and the other files take effect within seconds; those that cannot be used
    /// leave the last good ones in force.
    #[schemars(example = &"tls/cert.pem")]
    pub cert_file: String,
    /// PEM file with the private key, relative to this file.
    #[schemars(example = &"tls/key.pem")]
    pub key_file: String,
    /// `[[tls.certificate]]`: certificates for other hosts; each is shown to clients that ask for one of its names.
    #[serde(default)]
    pub certificate: Vec<CertificateShape>,
    /// PEM file with the authorities of clients' certificates, relative to this file. With it clients prove who they are
    /// by certificate; the name is the SPIFFE id, else the first host.
    #[schemars(example = &"tls/clients.pem")]
    pub client_ca_file: Option<String>,
    /// Whether a client without a certificate is let in to prove itself otherwise (`[auth]`): `required` or `optional`;
    /// `required` where not given.
    #[schemars(example = &"optional")]
    pub client_certificates: Option<ClientCertificates>,
    /// SPIFFE ids that may call; `/*` at the end stands for every path below. Every certificate of the authorities where
    /// not given.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["spiffe://example.org/ns/apps/*"]))]
    pub spiffe_ids: Vec<String>,
}

/// `[[tls.certificate]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateShape {
    /// PEM file with the certificate chain, relative to this file.
    #[schemars(example = &"tls/other.pem")]
    pub cert_file: String,
    /// PEM file with the private key, relative to this file.
    #[schemars(example = &"tls/other.key")]
    pub key_file: String,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// The handshake fails without one.
    Required,
    /// One without is let in as nobody.
    Optional,
}

/// How the listener proves itself, and who its clients must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// What rustls needs.
    pub files: tls::ServerFiles,
    /// SPIFFE ids that may call; all where empty.
    pub spiffe_ids: Vec<String>,
}

impl Tls {
    pub(super) fn new(shape: Option<&TlsShape>, folder: &Path, report: &mut Report) -> Option<Tls> {
        let shape = shape?;
        let pair = |cert: &str, key: &str| (folder.join(cert), folder.join(key));
        let more = shape.certificate.iter().map(|more| pair(&more.cert_file, &more.key_file));
        let certificates = std::iter::once(pair(&shape.cert_file, &shape.key_file)).chain(more).collect();
        let client_ca = shape.client_ca_file.as_ref().map(|file| folder.join(file));
        let required = shape.client_certificates != Some(ClientCertificates::Optional);
        let files = tls::ServerFiles { certificates, client_ca, clients_required: required };
        match files.load() {
            Ok(loaded) => warn_of_ends(&loaded.ends, report),
            Err(error) => report.push(Diagnostic::error("bad-certificates", format!("`[tls]`: {error}"))),
        }
        if files.client_ca.is_none() && (shape.client_certificates.is_some() || !shape.spiffe_ids.is_empty()) {
            let useless = "`[tls]`: `client_certificates` and `spiffe_ids` need `client_ca_file`";
            report.push(Diagnostic::error("bad-certificates", useless));
        }
        for id in shape.spiffe_ids.iter().filter(|id| !tls::is_spiffe_pattern(id)) {
            let wrong = Diagnostic::error("bad-spiffe-id", format!("`{id}` is not a SPIFFE id"));
            report.push(wrong.help("write it like `spiffe://example.org/ns/apps/*`"));
        }
        Some(Tls { files, spiffe_ids: shape.spiffe_ids.clone() })
    }

    /// Whether clients prove themselves by certificate.
    pub fn asks_clients(&self) -> bool {
        self.files.client_ca.is_some()
    }
}

/// A certificate with less than this left should have been renewed.
const SOON: Duration = Duration::from_secs(7 * 86_400);

fn warn_of_ends(ends: &[(String, u64)], report: &mut Report) {
    let now = crate::identity::unix_s();
    for (name, end) in ends.iter().filter(|(_, end)| *end < now + SOON.as_secs()) {
        let days = end.saturating_sub(now) / 86_400;
        let told = if *end <= now { "has expired".to_owned() } else { format!("expires within {} days", days + 1) };
        let warning = Diagnostic::warning("certificate-ends", format!("the certificate of `{name}` {told}"));
        report.push(warning.help("put a renewed one in its place; it is taken up without a restart"));
    }
}
