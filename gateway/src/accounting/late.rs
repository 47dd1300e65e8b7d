//! What a process books after it has handed its accounts on: put down beside the file again and again while its last requests
//! end, and booked by the successor, which keeps the file, so that a restart loses no spend.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use pointsman_backends::accounts::Entry;
use pointsman_policies::units::Micros;
use serde::{Deserialize, Serialize};

use super::MAX_BYTES;
use crate::config::write::put;

/// How the names of its files begin; process id and time follow, so that none is written twice.
const PREFIX: &str = "accounts.late-";

/// Sums of what was booked, by the names of pools.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Late {
    pools: BTreeMap<String, Entry>,
}

impl Late {
    /// Adds what a request of a pool took.
    pub(super) fn add(&mut self, pool: &str, entry: &Entry) {
        if !self.pools.contains_key(pool) {
            self.pools.insert(pool.to_owned(), Entry::default());
        }
        let Some(sum) = self.pools.get_mut(pool) else { return };
        sum.tokens = sum.tokens.saturating_add(entry.tokens);
        sum.usd += entry.usd;
        sum.joules += entry.joules;
    }

    /// Adds other sums.
    pub(super) fn add_all(&mut self, other: &Late) {
        other.pools.iter().for_each(|(pool, entry)| self.add(pool, entry));
    }

    /// Writes it beside the accounts.
    pub(super) fn leave(&self, accounts: &Path, now: Micros) -> io::Result<()> {
        if self.pools.is_empty() {
            return Ok(());
        }
        let file = accounts.with_file_name(format!("{PREFIX}{}-{}.json", std::process::id(), now.0));
        put(&file, &serde_json::to_vec(self)?)
    }
}

/// What was left beside the accounts. Each file is taken away before it counts: what cannot be is not counted again and again,
/// and keeps no other from being counted.
pub(super) fn left(accounts: &Path) -> io::Result<Vec<(String, Entry)>> {
    let folder = accounts.parent().unwrap_or(Path::new("."));
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut all = Vec::new();
    for file in files {
        let file = file?;
        if file.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            all.extend(taken(&file.path()).pools);
        }
    }
    Ok(all)
}

fn taken(file: &Path) -> Late {
    let read = || {
        let mut text = Vec::new();
        fs::File::open(file)?.take(MAX_BYTES).read_to_end(&mut text)?;
        fs::remove_file(file)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().unwrap_or_else(|error: io::Error| {
        // Where it is gone, another process has counted it.
        if error.kind() != io::ErrorKind::NotFound {
            let file = file.display();
            tracing::warn!("`{file}` cannot be read: {error}; what was spent during a restart is not counted");
        }
        Late::default()
    })
}
