//! `pointsman reference`: every key of a file, every field of its expressions, every diagnostic, as a page to read.

use std::process::ExitCode;

use pointsman_backends::portfolio::PortfolioShape;
use pointsman_policies::language::{keys, policy_reference};
use pointsman_policies::scenario::ScenarioFile;

use super::schema::File;
use crate::config::process::ProcessShape;
use crate::identity::keys::KeysShape;

/// Arguments of `reference`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which file's.
    #[arg(default_value = "policy")]
    file: File,
}

/// Prints it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::print(&text(arguments.file))?;
    Ok(ExitCode::SUCCESS)
}

/// The reference of a file, in Markdown.
pub fn text(file: File) -> String {
    match file {
        File::Policy => policy_reference(),
        File::Portfolio => format!("# Portfolio reference\n\n{}", keys::<PortfolioShape>()),
        File::Keys => format!("# Keys reference\n\n{}", keys::<KeysShape>()),
        File::Scenarios => format!("# Scenarios reference\n\n{}", keys::<ScenarioFile>()),
        File::Pointsman => format!("# Process reference\n\n{}", keys::<ProcessShape>()),
    }
}
