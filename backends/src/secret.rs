//! Secrets by reference: files name them, memory holds them in types that neither print nor serialise.

use std::path::Path;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretRef {
    /// In an environment variable.
    Env(EnvRef),
    /// In a file; white space at its ends is not part of the secret.
    File(FileRef),
}

/// `{ env = "NAME" }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvRef {
    /// Name of the environment variable.
    #[schemars(example = &"CEREBRAS_API_KEY")]
    pub env: String,
}

/// `{ file = "PATH" }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Path of the file.
    #[schemars(example = &"secrets/cerebras.key")]
    pub file: String,
}

impl SecretRef {
    /// Fetches the secret, relative paths starting from `folder`; the error says what is missing, never what was found.
    pub fn resolve(&self, folder: &Path) -> Result<SecretString, String> {
        let text = match self {
            SecretRef::Env(EnvRef { env }) => {
                std::env::var(env).map_err(|_| format!("environment variable `{env}` is not set"))?
            }
            SecretRef::File(FileRef { file }) => {
                std::fs::read_to_string(folder.join(file)).map_err(|error| format!("cannot read `{file}`: {error}"))?
            }
        };
        let text = text.trim();
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        match (text.is_empty(), printable) {
            (true, _) => Err("the secret is empty".to_owned()),
            (_, false) => Err("the secret has characters that no header can carry".to_owned()),
            _ => Ok(SecretString::from(text)),
        }
    }
}
