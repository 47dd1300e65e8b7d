//! A certificate authority and a certificate for this host, made for one test.

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_backends::connect::Version;
use pointsman_backends::tls;
use tempfile::TempDir;

/// PEM files: the authority's certificate, the host's certificate and key.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// For `localhost` and `127.0.0.1`.
    pub fn new() -> Certificates {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let root = authority.self_signed(&authority_key).expect("a root certificate");
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).expect("parameters").signed_by(&key, &issuer);
        let made = Certificates { folder: tempfile::tempdir().expect("a folder") };
        let write = |path: PathBuf, text: String| std::fs::write(path, text).expect("the file can be written");
        write(made.authority(), root.pem());
        write(made.certificate(), certificate.expect("a certificate").pem());
        write(made.key(), key.serialize_pem());
        made
    }

    /// Whom to trust.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The host's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// For a machine.
    pub fn server(&self) -> Arc<tokio_rustls::rustls::ServerConfig> {
        tls::server(&self.certificate(), &self.key()).expect("a server configuration")
    }

    /// For a client that speaks this version.
    pub fn client(&self, version: Version) -> Arc<tokio_rustls::rustls::ClientConfig> {
        tls::client(Some(&self.authority()), version).expect("a client configuration")
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}
