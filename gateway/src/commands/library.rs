//! `pointsman library`: the policies that come with the program, to start from.

use std::io::IsTerminal;
use std::process::ExitCode;

use pointsman_policies::language::nearest;

/// Every shipped policy: its name and its text.
pub const LIBRARY: [(&str, &str); 4] = [
    ("balanced", include_str!("../../../policies/library/balanced.toml")),
    ("latency-first", include_str!("../../../policies/library/latency-first.toml")),
    ("cost-first", include_str!("../../../policies/library/cost-first.toml")),
    ("energy-capped", include_str!("../../../policies/library/energy-capped.toml")),
];

/// Where the schema lies in the repository, as the shipped files say it; whoever has only the program has it beside.
const SCHEMA: &str = "#:schema ../../deploy/schema/policy.schema.json\n";
const SCHEMA_BESIDE: &str = "#:schema policy.schema.json\n";

/// Arguments of `library`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The policy to print; lists them all where not given.
    name: Option<String>,
}

/// Lists the policies, or prints one.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(name) = &arguments.name else {
        super::print(&list())?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some(text) = text(name) else {
        let names = LIBRARY.map(|(name, _)| name);
        let guess = nearest(name, names).map(|guess| format!("did you mean `{guess}`?"));
        let advice = guess.unwrap_or_else(|| format!("there are {}", names.join(", ")));
        anyhow::bail!("there is no policy `{name}` in the library; {advice}");
    };
    super::print(&text)?;
    if !std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        anstream::eprintln!("for completion in editors: pointsman schema policy > policy.schema.json");
    }
    Ok(ExitCode::SUCCESS)
}

/// A shipped policy by name, as it is printed.
pub fn text(name: &str) -> Option<String> {
    let (_, text) = LIBRARY.iter().find(|(known, _)| *known == name)?;
    Some(text.replacen(SCHEMA, SCHEMA_BESIDE, 1))
}

/// Each policy with the lines that say when to use it.
fn list() -> String {
    let mut list = String::new();
    for (name, text) in LIBRARY {
        list.push_str(name);
        list.push('\n');
        for line in text.lines().take(3) {
            list.push_str("  ");
            list.push_str(line.trim_start_matches(['#', ' ']));
            list.push('\n');
        }
        list.push('\n');
    }
    list.push_str("start from one: pointsman library balanced > policy.toml\n");
    list
}
