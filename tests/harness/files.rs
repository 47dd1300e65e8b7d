//! The three files in a folder of their own, and the ways in which editors and Kubernetes change them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The model that everything here serves.
pub const MODEL: &str = "gpt-oss-120b";

/// Listens on free ports of this host; short pauses at the end.
pub const PROCESS: &str = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";

/// Everything goes to the cheapest pool, so that the order of attempts is known.
pub const CHEAPEST: &str = "name = \"cheapest\"\n[[route]]\nname = \"all\"\nobjective = \"cheapest\"\n";

/// A policy that allows one pool.
pub fn only(pool: &str) -> String {
    format!("name = \"only-{pool}\"\n[[route]]\nname = \"only\"\npools = 'pool.name == \"{pool}\"'\n")
}

/// A pool of a portfolio file.
#[derive(Clone, Debug)]
pub struct PoolText {
    name: String,
    hardware: &'static str,
    endpoints: Vec<String>,
    keys: String,
    model: String,
}

impl PoolText {
    /// A pool of GPUs that serves [`MODEL`].
    pub fn new<Url: Into<String>>(name: &str, endpoints: impl IntoIterator<Item = Url>) -> PoolText {
        PoolText {
            name: name.to_owned(),
            hardware: "h100",
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            keys: String::new(),
            model: String::new(),
        }
    }

    /// Costs this much, US dollars per million tokens.
    pub fn price(mut self, usd: u32) -> PoolText {
        let _ = writeln!(self.model, "usd_per_m = {{ input = {usd}.0, output = {usd}.0 }}");
        self
    }

    /// Knows the model by another name.
    pub fn upstream(mut self, name: &str) -> PoolText {
        let _ = writeln!(self.model, "upstream = {name:?}");
        self
    }

    /// With another line.
    pub fn key(mut self, line: &str) -> PoolText {
        let _ = writeln!(self.keys, "{line}");
        self
    }

    /// Of other hardware.
    pub fn hardware(mut self, hardware: &'static str) -> PoolText {
        self.hardware = hardware;
        self
    }

    fn text(&self) -> String {
        let PoolText { name, hardware, endpoints, keys, model } = self;
        format!(
            "[pool.{name}]\nhardware = \"{hardware}\"\nendpoints = {endpoints:?}\n{keys}[pool.{name}.model.\"{MODEL}\"]\n{model}"
        )
    }
}

/// A portfolio of pools.
pub fn portfolio(pools: &[PoolText]) -> String {
    pools.iter().map(PoolText::text).collect()
}

/// A folder with `pointsman.toml`, `portfolio.toml` and `policy.toml`.
#[derive(Debug)]
pub struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes them.
    pub fn new(process: &str, portfolio: &str, policy: &str) -> Files {
        let files = Files { folder: tempfile::tempdir().expect("a folder") };
        files.write("pointsman.toml", process);
        files.write("portfolio.toml", portfolio);
        files.write("policy.toml", policy);
        files
    }

    /// An empty folder.
    pub fn none() -> Files {
        Files { folder: tempfile::tempdir().expect("a folder") }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process file.
    pub fn process_file(&self) -> PathBuf {
        self.path("pointsman.toml")
    }

    /// Writes over a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the file can be written");
    }

    /// Replaces a file as editors do: the new text under another name, then renamed over the old.
    pub fn replace(&self, name: &str, text: &str) {
        let beside = self.path(&format!(".{name}.swp"));
        std::fs::write(&beside, text).expect("the file can be written");
        std::fs::rename(beside, self.path(name)).expect("the file can be renamed");
    }

    /// Lays the three files out as Kubernetes mounts a ConfigMap: each a link through `..data` to a folder of one
    /// version, which a new version replaces by renaming `..data`.
    pub fn mount(&self, version: &str, texts: [&str; 3]) {
        let names = ["pointsman.toml", "portfolio.toml", "policy.toml"];
        let folder = format!("..{version}");
        std::fs::create_dir(self.path(&folder)).expect("a folder for the version");
        for (name, text) in names.into_iter().zip(texts) {
            self.write(&format!("{folder}/{name}"), text);
        }
        let old = std::fs::read_link(self.path("..data"));
        std::os::unix::fs::symlink(&folder, self.path("..data_tmp")).expect("a link");
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).expect("the link can be renamed");
        match old {
            Ok(old) => std::fs::remove_dir_all(self.folder.path().join(old)).expect("the old version goes"),
            Err(_) => {
                for name in names {
                    let link = std::os::unix::fs::symlink(Path::new("..data").join(name), self.path(name));
                    link.expect("a link");
                }
            }
        }
    }
}
