//! Two sets of texts, compared file by file.

use pointsman_policies::language::{Difference, differences, summary};
use serde::{Deserialize, Serialize};

use crate::config::set::{Text, Texts};

/// What differs in the three files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The rules.
    pub policy: FileComparison,
    /// The machines.
    pub portfolio: FileComparison,
    /// The process.
    pub process: FileComparison,
    /// The candidates that the policies try, where both do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<FileComparison>,
}

/// What differs in one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileComparison {
    /// Whether it is the same character by character.
    pub same_text: bool,
    /// What differs in meaning.
    pub differences: Vec<Difference>,
    /// Why that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Comparison {
    /// From the first set to the second.
    pub fn of(from: &Texts, to: &Texts) -> Comparison {
        Comparison {
            policy: FileComparison::of(&from.policy, &to.policy),
            portfolio: FileComparison::of(&from.portfolio, &to.portfolio),
            process: FileComparison::of(&from.process, &to.process),
            candidate: from
                .candidate
                .as_ref()
                .zip(to.candidate.as_ref())
                .map(|(from, to)| FileComparison::of(from, to)),
        }
    }

    /// In one line; the policy's differences come first.
    pub fn summary(&self) -> String {
        let files = [&self.policy, &self.portfolio, &self.process];
        let candidate = self.candidate.iter().filter(|candidate| !candidate.same_text);
        if files.iter().all(|file| file.same_text) {
            let told = candidate.map(|candidate| format!("candidate: {}", candidate.summary())).next();
            return told.unwrap_or_else(|| "the same texts, read again".to_owned());
        }
        if let Some(why) = files.iter().find_map(|file| file.unreadable.clone()) {
            return why;
        }
        let all: Vec<Difference> = files.iter().flat_map(|file| file.differences.iter().cloned()).collect();
        summary(&all)
    }
}

impl FileComparison {
    /// From the first text to the second.
    pub fn of(from: &Text, to: &Text) -> FileComparison {
        let same_text = from.text == to.text;
        if same_text {
            return FileComparison { same_text, ..FileComparison::default() };
        }
        match differences(&from.text, &to.text) {
            Ok(differences) => FileComparison { same_text, differences, unreadable: None },
            Err(why) => FileComparison { same_text, differences: Vec::new(), unreadable: Some(why.to_string()) },
        }
    }

    fn summary(&self) -> String {
        self.unreadable.clone().unwrap_or_else(|| summary(&self.differences))
    }
}
