//! One file as text, or the reason why not, told so that it can be mended.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use pointsman_policies::language::{Diagnostic, MAX_TEXT_BYTES, Report, Source, nearest};

use super::set::folder_of;

/// Text in another encoding.
mod encoding;

/// Files of a folder that are named where none is near; more would be no help.
const MAX_NAMED: usize = 6;

/// Reads one file as UTF-8 text of bounded size, or reports why not. A byte order mark at its start is part of the text.
pub fn read_source(path: &Path) -> Result<Source, Report> {
    let bytes = read(path).map_err(|[message, help]| {
        let mut report = Report::new(Source::new(path.display().to_string(), ""));
        report.push(Diagnostic::error("unreadable-file", message).help(help));
        report
    })?;
    match String::from_utf8(bytes) {
        Ok(text) if !encoding::is_other(&text) => Ok(Source::new(path.display().to_string(), text)),
        Ok(text) => Err(encoding::told(path, text.as_bytes())),
        Err(error) => Err(encoding::told(path, error.as_bytes())),
    }
}

/// The bytes, or what is wrong and what to do.
fn read(path: &Path) -> Result<Vec<u8>, [String; 2]> {
    let mut bytes = Vec::new();
    let most = MAX_TEXT_BYTES as u64 + 1;
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let known = file.metadata().map_or(0, |found| found.len());
    file.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() > MAX_TEXT_BYTES {
        let size = if known > most { format!("has {known} bytes") } else { "is too large".to_owned() };
        let help = format!("at most {MAX_TEXT_BYTES} bytes are read; is it the right file?");
        return Err([format!("`{}` {size}", path.display()), help]);
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> [String; 2] {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => [format!("there is no file `{shown}`"), beside(path)],
        io::ErrorKind::IsADirectory => [format!("`{shown}` is a folder"), inside(path)],
        io::ErrorKind::PermissionDenied => {
            [format!("`{shown}` may not be read"), "look at its permissions and those of its folder".to_owned()]
        }
        _ => [format!("cannot read `{shown}`: {error}"), "check the path".to_owned()],
    }
}

/// What a file that is not there was most likely meant to be.
fn beside(path: &Path) -> String {
    let folder = folder_of(path);
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !here.is_dir() {
        return format!("there is no folder `{}` either", folder.display());
    }
    let names = files_of(here);
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match nearest(&name, names.iter().map(String::as_str)) {
        Some(guess) => format!("did you mean `{}`?", folder.join(guess).display()),
        None => listed(here, &names),
    }
}

fn inside(folder: &Path) -> String {
    listed(folder, &files_of(folder))
}

fn listed(folder: &Path, names: &[String]) -> String {
    let place = if folder == Path::new(".") { "this folder".to_owned() } else { format!("`{}`", folder.display()) };
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => format!("{place} has no file that ends in `.toml`"),
        [only] => format!("{place} has {only}"),
        [first @ .., last] if names.len() <= MAX_NAMED => format!("{place} has {} and {last}", first.join(", ")),
        _ => format!("{place} has {} files that end in `.toml`", names.len()),
    }
}

/// The TOML files of a folder, by name.
fn files_of(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    names
}
