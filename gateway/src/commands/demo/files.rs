//! The demo's three files, written to a folder where they can be edited while it runs.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::machines::Machines;
use crate::commands::{library, schema};

/// The policy of the library that the demo runs.
pub(super) const POLICY: &str = "balanced";
/// The portfolio, with a mark for the addresses of each pool.
const PORTFOLIO: &str = include_str!("../../../demo/portfolio.toml");

/// A folder with the three files; a temporary one goes away with this.
#[derive(Debug)]
pub(super) struct Folder {
    /// The process file.
    pub(super) process_file: PathBuf,
    /// The policy file.
    pub(super) policy_file: PathBuf,
    /// Whether it was written now, not found.
    pub(super) policy_is_new: bool,
    _temporary: Option<TempDir>,
}

impl Folder {
    /// Writes process and portfolio anew, and the policy where there is none yet.
    pub(super) fn write(folder: Option<&Path>, machines: &Machines) -> anyhow::Result<Folder> {
        let temporary = match folder {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("pointsman-demo-").tempdir()?),
        };
        let path = folder.or(temporary.as_ref().map(TempDir::path)).unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let (process_file, policy_file) = (path.join("pointsman.toml"), path.join("policy.toml"));
        for file in [&process_file, &path.join("portfolio.toml")] {
            refuse_foreign(file)?;
        }
        let process = format!("{MARK}listen = \"{}\"\nadmin_listen = \"{}\"\n", free(7070), free(7071));
        write(&process_file, &process)?;
        write(&path.join("portfolio.toml"), &portfolio(machines))?;
        let policy_is_new = !policy_file.exists();
        if policy_is_new {
            write(&policy_file, &library::text(POLICY).with_context(|| format!("the library has no `{POLICY}`"))?)?;
            write(&path.join("policy.schema.json"), &schema::text(schema::File::Policy))?;
        }
        Ok(Folder { process_file, policy_file, policy_is_new, _temporary: temporary })
    }

    /// Its path, for messages.
    pub(super) fn shown(&self) -> String {
        self.process_file.parent().unwrap_or(Path::new(".")).display().to_string()
    }
}

/// The first line of files that the demo writes and may write again.
const MARK: &str = "# Written by `pointsman demo`, and written again at its next start.\n";

fn refuse_foreign(file: &Path) -> anyhow::Result<()> {
    match std::fs::read_to_string(file) {
        Ok(text) if !text.starts_with(MARK) => bail!("{} is not the demo's; name another folder", file.display()),
        _ => Ok(()),
    }
}

fn portfolio(machines: &Machines) -> String {
    let mut text = format!("{MARK}{PORTFOLIO}");
    for pool in ["gpu-a", "gpu-b", "wafer", "cpu"] {
        let mut list = String::new();
        for machine in machines.iter().filter(|machine| machine.pool == pool) {
            let comma = if list.is_empty() { "" } else { ", " };
            let _ = write!(list, "{comma}\"http://{}\"", machine.address);
        }
        text = text.replace(&format!("\"{{{pool}}}\""), &list);
    }
    text
}

/// The default port if it is free, else any.
fn free(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
