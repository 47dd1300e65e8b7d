//! The one place that knows rustls: client configurations for machines, server configurations for listeners. Both follow
//! their files while they are in use, and keep the last good ones.

/// What a certificate says of itself.
mod names;
/// Whether files have changed.
mod stamp;
/// Towards machines.
mod client;
/// Towards clients.
mod server;

use std::io;
use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

pub use rustls::ServerConfig;
pub use rustls_pki_types::CertificateDer;

pub use client::{ClientFiles, Refreshed, client, client_of, refresh};
pub use names::{PeerName, is_spiffe_pattern, peer_name, spiffe_allowed};
pub use server::{Served, ServerFiles, server};
pub use stamp::Stamp;

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    let chain: Result<Vec<_>, _> = read.collect();
    let chain = chain.map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        return Err(io::Error::other(format!("no certificate in `{}`", path.display())));
    }
    Ok(chain)
}

/// A chain with its key, which must belong together.
fn certified(cert_file: &Path, key_file: &Path) -> io::Result<rustls::sign::CertifiedKey> {
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unreadable(key_file, error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        let (cert_file, key_file) = (cert_file.display(), key_file.display());
        io::Error::other(format!("`{cert_file}` with `{key_file}`: {error}"))
    })
}

fn roots(path: &Path) -> io::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| io::Error::other(format!("`{}`: {error}", path.display())))?;
    }
    Ok(roots)
}

fn unreadable(path: &Path, error: rustls_pki_types::pem::Error) -> io::Error {
    io::Error::other(format!("cannot read `{}`: {error}", path.display()))
}
