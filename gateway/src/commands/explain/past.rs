//! What a gateway of the same files has learned, and keeps in its state folder.

use std::fmt;
use std::path::{Path, PathBuf};

use pointsman_backends::portfolio::{Portfolio, Secrets};
use pointsman_policies::learned::Learned;
use pointsman_policies::policy::Policy;

use crate::config::set;
use crate::learning::{Learning, file};

/// What was learned; nothing where no gateway has worked with these machines.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) learning: Learning,
    pub(super) learned: Learned,
    told: Told,
}

#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    In(PathBuf),
    Unreadable(PathBuf, String),
}

impl Past {
    /// What the gateway of a process file has learned of these machines.
    pub(super) fn of(config: &Path, portfolio_file: &Path, policy: &Policy, portfolio: &Portfolio) -> Past {
        let set =
            Some(config).filter(|config| config.exists()).and_then(|config| set::load(config, Secrets::Optional).set);
        let same = |other: &Path| same_file(other, portfolio_file);
        let Some(set) = set.filter(|set| same(&set.texts.portfolio.path)) else { return Past::default() };
        let path = set.process.state.join(file::FILE);
        match file::of_another(&set.process.state) {
            Ok(None) => Past::default(),
            Ok(Some(learning)) => {
                let learned = learning.learned(&portfolio.facts, &policy.classes);
                Past { learning, learned, told: Told::In(path) }
            }
            Err(problem) => Past { told: Told::Unreadable(path, problem.to_string()), ..Past::default() },
        }
    }

    /// Whether there is any.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.told, Told::In(_))
    }
}

impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.told {
            Told::Nothing => f.write_str("nothing learned"),
            Told::In(path) => write!(f, "with what `{}` says was learned of them", path.display()),
            Told::Unreadable(path, problem) => {
                write!(f, "nothing learned: `{}` cannot be read: {problem}", path.display())
            }
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
