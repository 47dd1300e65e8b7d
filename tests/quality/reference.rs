//! The reference fleet: three files beside this one, fixed before any policy was tuned on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman::config::set::{self, ConfigSet};
use pointsman::simulation::world::Setup;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::{Source, compile};

/// The model that it serves.
pub const MODEL: &str = "llama-3-70b";

/// Portfolio and policy of a run.
pub struct Fleet {
    /// Machines and rules.
    pub set: ConfigSet,
    /// The model that requests ask for: the first that the portfolio names.
    pub model: String,
}

impl Fleet {
    /// The reference.
    pub fn reference() -> Result<Fleet, String> {
        Fleet::load(&folder().join("pointsman.toml"))
    }

    /// Another, from its process file.
    pub fn load(process_file: &Path) -> Result<Fleet, String> {
        let mut loaded = set::load(process_file, Secrets::Optional);
        let Some(set) = loaded.set.take() else { return Err(loaded.render(false)) };
        let models = set.portfolio.facts.iter().flat_map(|pool| &pool.models);
        let model = models.map(|model| model.name.clone()).next().unwrap_or_else(|| MODEL.to_owned());
        Ok(Fleet { set, model })
    }

    /// The set with another policy, whose text is this.
    pub fn with_policy(&self, text: &str) -> ConfigSet {
        let source = Source::new("policy.toml", text);
        let (policy, report) = compile(source, &self.set.portfolio.facts);
        let policy = policy.unwrap_or_else(|| panic!("{}", report.render(false)));
        ConfigSet { policy: Arc::new(policy), ..self.copy() }
    }

    /// The set, once more: a generation takes it over.
    pub fn copy(&self) -> ConfigSet {
        let set = &self.set;
        ConfigSet {
            process: set.process.clone(),
            portfolio: Arc::clone(&set.portfolio),
            policy: Arc::clone(&set.policy),
            candidate: None,
            texts: set.texts.clone(),
            hash: set.hash.clone(),
        }
    }

    /// As the simulation wants it.
    pub fn setup(&self) -> Setup<'_> {
        Setup { portfolio: &self.set.portfolio, policy: &self.set.policy, model: &self.model }
    }
}

/// Where the reference stands.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("quality/fleet")
}
