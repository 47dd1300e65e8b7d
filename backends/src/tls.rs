//! The one place that knows rustls: client configurations for machines, server configurations for listeners.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::connect::Version;

/// What was trusted, the version offered, and what was made of it.
type Made = (Option<Vec<u8>>, Version, Weak<rustls::ClientConfig>);

/// Configurations in use, so that a reload that changes nothing keeps connections and sessions.
static IN_USE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

/// Trusts the certificates of a PEM file, or the system's (Mozilla's where the system has none). The same trust and
/// version give the same configuration as long as it is in use.
pub fn client(ca_file: Option<&Path>, version: Version) -> io::Result<Arc<rustls::ClientConfig>> {
    let trusted = ca_file.map(std::fs::read).transpose()?;
    let mut in_use = IN_USE.lock();
    in_use.retain(|(_, _, config)| config.strong_count() > 0);
    let same = in_use.iter().find(|(other, offered, _)| *other == trusted && *offered == version);
    if let Some(config) = same.and_then(|(_, _, config)| config.upgrade()) {
        return Ok(config);
    }
    let config = new_client(ca_file, version)?;
    in_use.push((trusted, version, Arc::downgrade(&config)));
    Ok(config)
}

fn new_client(ca_file: Option<&Path>, version: Version) -> io::Result<Arc<rustls::ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(native.certs);
            if added == 0 {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match version {
        Version::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Version::Http1 => vec![b"http/1.1".to_vec()],
        Version::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// Serves with a certificate chain and key from PEM files, offering HTTP/2 and HTTP/1.1.
pub fn server(cert_file: &Path, key_file: &Path) -> io::Result<Arc<rustls::ServerConfig>> {
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unreadable(key_file, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    let chain: Result<Vec<_>, _> = read.collect();
    let chain = chain.map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        return Err(io::Error::other(format!("no certificate in `{}`", path.display())));
    }
    Ok(chain)
}

fn unreadable(path: &Path, error: rustls_pki_types::pem::Error) -> io::Error {
    io::Error::other(format!("cannot read `{}`: {error}", path.display()))
}
