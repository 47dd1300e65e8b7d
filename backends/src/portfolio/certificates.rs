//! Whom a pool's machines must be, and what they are shown.

use std::path::Path;

use pointsman_policies::language::{Diagnostic, Located};
use rustls_pki_types::ServerName;

use crate::pool::PoolShape;
use crate::tls::{ClientFiles, is_spiffe_pattern};

/// What the keys of a pool say, relative paths starting from `folder`.
pub(super) fn files(shape: &PoolShape, folder: &Path) -> Result<ClientFiles, String> {
    let path = |file: &Located<String>| folder.join(&file.value);
    let certificate = match (&shape.client_cert_file, &shape.client_key_file) {
        (Some(cert), Some(key)) => Some((path(cert), path(key))),
        (None, None) => None,
        _ => return Err("`client_cert_file` and `client_key_file` go together".to_owned()),
    };
    let server_name = match &shape.server_name {
        Some(name) => {
            let read = ServerName::try_from(name.value.clone());
            Some(read.map_err(|_| format!("`{}` is not the name of a host", name.value))?)
        }
        None => None,
    };
    if let Some(wrong) = shape.spiffe_ids.iter().find(|id| !is_spiffe_pattern(id)) {
        return Err(format!(
            "`{}` is not a SPIFFE id; write it like `spiffe://example.org/ns/inference/*`",
            wrong.value
        ));
    }
    if !shape.spiffe_ids.is_empty() && shape.ca_file.is_none() {
        return Err("`spiffe_ids` need `ca_file`: no public authority vouches for them".to_owned());
    }
    let spiffe_ids = shape.spiffe_ids.iter().map(|id| id.value.clone()).collect();
    Ok(ClientFiles { ca: shape.ca_file.as_ref().map(path), certificate, server_name, spiffe_ids })
}

/// Told at the first of the keys that is there.
pub(super) fn refused(shape: &PoolShape, error: String) -> Diagnostic {
    let keys = [&shape.ca_file, &shape.client_cert_file, &shape.client_key_file, &shape.server_name];
    let span = keys.into_iter().flatten().chain(&shape.spiffe_ids).map(|key| key.span.clone()).next();
    Diagnostic::error("bad-certificates", error).at(span.unwrap_or_else(|| shape.hardware.span.clone()))
}
