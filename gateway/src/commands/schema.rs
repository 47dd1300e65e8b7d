//! `pointsman schema`: the JSON Schemas of the files, generated from the shapes that read them.

use std::process::ExitCode;

use pointsman_backends::portfolio::PortfolioShape;
use pointsman_policies::language::{PolicyFile, schema_text};
use pointsman_policies::scenario::ScenarioFile;

use crate::cli::SchemaArguments;
use crate::config::process::ProcessShape;
use crate::identity::keys::KeysShape;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum File {
    /// `pointsman.toml`
    Pointsman,
    /// `portfolio.toml`
    Portfolio,
    /// `policy.toml`
    Policy,
    /// `NAME.scenarios.toml`
    Scenarios,
    /// `keys.toml`
    Keys,
}

/// Prints them.
pub fn run(arguments: &SchemaArguments) -> anyhow::Result<ExitCode> {
    let files = arguments.file.map_or_else(
        || vec![File::Pointsman, File::Portfolio, File::Policy, File::Scenarios, File::Keys],
        |file| vec![file],
    );
    for file in files {
        super::print(&text(file))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The schema of a file.
pub fn text(file: File) -> String {
    match file {
        File::Pointsman => schema_text::<ProcessShape>("pointsman.toml"),
        File::Portfolio => schema_text::<PortfolioShape>("portfolio.toml"),
        File::Policy => schema_text::<PolicyFile>("policy.toml"),
        File::Scenarios => schema_text::<ScenarioFile>("NAME.scenarios.toml"),
        File::Keys => schema_text::<KeysShape>("keys.toml"),
    }
}
