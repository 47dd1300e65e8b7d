//! `pointsman keys`: API keys, made, listed and revoked in the file that the gateway follows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use pointsman_policies::language::{Report, Source, read};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::config::process::{AuthShape, ProcessShape};
use crate::config::set::folder_of;
use crate::config::write::replace;
use crate::identity::keys::{KeyRing, KeysShape, hash_of, midnight, new_key};
use crate::identity::unix_s;

/// Where keys stand in the file.
const KEY: &str = "key";
/// How a new file begins.
const HEAD: &str =
    "# API keys of the gateway, as hashes: `pointsman keys new|list|revoke`. Changes take effect within seconds.\n";

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The process file, whose `[auth]` names the file of keys.
    #[arg(long, global = true, default_value = "pointsman.toml", value_name = "FILE")]
    config: PathBuf,
    /// The file of keys itself.
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key and print it, this once; the file keeps its hash.
    New(NewArguments),
    /// List the keys: names, ends, what they are for.
    List,
    /// Take keys away by their names.
    Revoke {
        /// The names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct NewArguments {
    /// Who will have it: the tenant that policies, budgets and metrics know.
    #[arg(value_name = "NAME")]
    name: String,
    /// Models it may ask for; all where not given.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    models: Vec<String>,
    /// Classes its requests may be of; all where not given.
    #[arg(long, value_delimiter = ',', value_name = "CLASSES")]
    classes: Vec<String>,
    /// Routes that may match its requests; all where not given.
    #[arg(long, value_delimiter = ',', value_name = "ROUTES")]
    routes: Vec<String>,
    /// The day, in UTC, from which it is no longer good.
    #[arg(long, value_name = "YYYY-MM-DD")]
    expires: Option<String>,
}

/// Makes, lists or revokes.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => named_by(&arguments.config)?,
    };
    match &arguments.command {
        Command::New(wanted) => make(&file, wanted)?,
        Command::List => list(&file)?,
        Command::Revoke { names } => revoke(&file, names)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The file of keys that a process file names.
fn named_by(config: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(config).with_context(|| format!("cannot read `{}`", config.display()))?;
    let shape: Option<ProcessShape> = read(&mut Report::new(Source::new(config.display().to_string(), text)));
    let auth = shape.and_then(|shape| shape.auth).map(|auth| auth.value);
    match auth {
        Some(AuthShape::Proven(proven)) if proven.keys_file.is_some() => {
            Ok(folder_of(config).join(proven.keys_file.unwrap_or_default()))
        }
        _ => bail!(
            "`{}` names no file of keys: add `[auth]` with `keys_file = \"keys.toml\"`, or give `--file`",
            config.display()
        ),
    }
}

fn make(file: &Path, wanted: &NewArguments) -> anyhow::Result<()> {
    let (mut document, _) = open(file)?;
    let key = new_key()?;
    let mut entry = Table::new();
    entry.insert("name", value(wanted.name.as_str()));
    entry.insert("hash", value(hash_of(key.as_bytes())));
    if let Some(day) = &wanted.expires {
        let day: toml_edit::Datetime =
            day.parse().with_context(|| format!("`{day}` is not a day like `2027-07-01`"))?;
        entry.insert("expires", value(day));
    }
    for (name, list) in [("models", &wanted.models), ("classes", &wanted.classes), ("routes", &wanted.routes)] {
        if !list.is_empty() {
            entry.insert(name, value(list.iter().map(String::as_str).collect::<Array>()));
        }
    }
    let keys = document.entry(KEY).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    keys.as_array_of_tables_mut().context("`key` is not written as `[[key]]`")?.push(entry);
    write(file, &document)?;
    anstream::eprintln!("`{}` has a key in `{}`; it is shown this once:", wanted.name, file.display());
    super::print(&format!("{key}\n"))
}

fn list(file: &Path) -> anyhow::Result<()> {
    let (_, shape) = open(file)?;
    let now = unix_s();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["name", "ends", "models", "classes", "routes"]);
    for key in &shape.key {
        let until = match key.expires.map(|day| (day, midnight(day))) {
            None => "-".to_owned(),
            Some((day, Ok(end))) if end <= now => format!("{day}, over"),
            Some((day, _)) => day.to_string(),
        };
        let scope = key.scope();
        let [models, classes, routes] = [scope.models, scope.classes, scope.routes].map(|names| names.to_string());
        table.add_row([key.name.value.clone(), until, models, classes, routes]);
    }
    super::print(&format!("{table}\n"))
}

fn revoke(file: &Path, names: &[String]) -> anyhow::Result<()> {
    let (mut document, _) = open(file)?;
    let keys = document.get_mut(KEY).and_then(Item::as_array_of_tables_mut).context("the file has no keys")?;
    for name in names {
        let before = keys.len();
        keys.retain(|entry| entry.get("name").and_then(Item::as_str) != Some(name));
        if keys.len() == before {
            bail!("`{}` has no key `{name}`; nothing was changed", file.display());
        }
    }
    write(file, &document)?;
    anstream::eprintln!(
        "revoked in `{}`: {}; a running gateway follows within seconds",
        file.display(),
        names.join(", ")
    );
    Ok(())
}

/// The file as it is, comments and all, and what it says; a new one where there is none.
fn open(file: &Path) -> anyhow::Result<(DocumentMut, KeysShape)> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((HEAD.parse()?, KeysShape::default())),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", file.display())),
    };
    KeyRing::read(file).map_err(anyhow::Error::msg)?;
    let shape = read(&mut Report::new(Source::new(file.display().to_string(), text.as_str())));
    Ok((text.parse()?, shape.unwrap_or_default()))
}

/// Nothing is written that the gateway would refuse.
fn write(file: &Path, document: &DocumentMut) -> anyhow::Result<()> {
    let text = document.to_string();
    KeyRing::parse(&file.display().to_string(), text.clone()).map_err(anyhow::Error::msg)?;
    replace(file, text.as_bytes()).with_context(|| format!("cannot write `{}`", file.display()))
}
