//! `pointsman fmt`: files in the form in which they read best. Nothing is written that would mean something else.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use pointsman_policies::language::{MAX_TEXT_BYTES, Report, Source, format, without_secrets};

use crate::config::set::{folder_of, named_files};
use crate::config::source::read_source;

/// What changes, line by line.
mod changes;

/// Arguments of `fmt`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// TOML files; `-` formats stdin to stdout. Where none is given, `pointsman.toml`, the files it
    /// names, and the scenarios beside its policy.
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// Write nothing; show what would change and exit 1 if anything would.
    #[arg(long)]
    pub check: bool,
}

/// Formats; exit status 1 if a file cannot be formatted, or with `--check` if one is not formatted.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.files.iter().any(|file| file.as_os_str() == "-") {
        anyhow::ensure!(arguments.files.len() == 1, "`-` stands for stdin and is given alone");
        return through(arguments.check);
    }
    let given = &arguments.files;
    let files = if given.is_empty() { named_files(Path::new("pointsman.toml")) } else { given.clone() };
    let (mut changed, mut refused) = (0_usize, 0_usize);
    for file in &files {
        match formatted(file) {
            Err(report) => {
                refused += 1;
                anstream::eprint!("{}", report.render(true));
            }
            Ok((old, new)) if old == new => {}
            Ok((old, new)) => {
                changed += 1;
                if arguments.check {
                    super::print(&shown(&file.display().to_string(), &old, &new))?;
                } else {
                    write(file, &new).with_context(|| format!("cannot write `{}`", file.display()))?;
                    anstream::eprintln!("formatted {}", file.display());
                }
            }
        }
    }
    tell(files.len(), changed, refused, arguments.check);
    let failed = refused > 0 || (arguments.check && changed > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(files: usize, changed: usize, refused: usize, check: bool) {
    let (done, left) = if check { ("not formatted", "formatted") } else { ("formatted", "unchanged") };
    let mut told = vec![format!("{changed} {done}"), format!("{} {left}", files - changed - refused)];
    if refused > 0 {
        told.push(format!("{refused} left alone"));
    }
    let files = format!("{files} file{}", if files == 1 { "" } else { "s" });
    anstream::eprintln!("{files}: {}", told.join(", "));
}

/// From stdin to stdout, for editors. What cannot be formatted is told on stderr, and stdout stays empty.
fn through(check: bool) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text).context("cannot read stdin")?;
    anyhow::ensure!(text.len() <= MAX_TEXT_BYTES, "stdin has more than {MAX_TEXT_BYTES} bytes");
    match format(Source::new("stdin", text.as_str())) {
        Err(report) => {
            anstream::eprint!("{}", report.render(true));
            Ok(ExitCode::FAILURE)
        }
        Ok(new) if check => {
            super::print(&shown("stdin", &text, &new))?;
            Ok(if new == text { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Ok(new) => {
            super::print(&new)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A file's text as it is and as it should be.
fn formatted(file: &Path) -> Result<(String, String), Report> {
    let source = read_source(file)?;
    let old = source.text.clone();
    Ok((old, format(source)?))
}

fn shown(name: &str, old: &str, new: &str) -> String {
    changes::shown(name, &without_secrets(old), &without_secrets(new))
}

/// Puts another text in the place of a file's, at once: whoever reads it sees the one or the other. A link stays one.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let target = file.canonicalize()?;
    let mut new = tempfile::NamedTempFile::new_in(folder_of(&target))?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(target.metadata()?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&target)?;
    Ok(())
}
