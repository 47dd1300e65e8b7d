//! What each command does. To add one: its file here, a `mod` line, a variant in `cli.rs`.

/// `pointsman serve`
pub mod serve;
/// `pointsman demo`
pub mod demo;
/// `pointsman check`
pub mod check;
/// `pointsman fmt`
pub mod fmt;
/// `pointsman explain`
pub mod explain;
/// `pointsman schema`
pub mod schema;
/// `pointsman reference`
pub mod reference;
/// `pointsman library`
pub mod library;
/// `pointsman hardware`
pub mod hardware;
/// `pointsman simulate`
pub mod simulate;
/// `pointsman simulate-fleet`
pub mod simulate_fleet;
/// `pointsman policy`
pub mod policy;
/// `pointsman top`
pub mod top;
/// `pointsman tail`
pub mod tail;
/// `pointsman trace`
pub mod trace;
/// `pointsman drain`, `pointsman undrain`
pub mod drain;
/// `pointsman keys`
pub mod keys;
/// How commands ask a running gateway.
pub mod admin_client;

/// `pointsman replay`
pub mod replay;

/// Numbers for people.
mod figures;
/// What the pages of commands have in common.
mod page;

use std::io::Write;

/// Prints to stdout; a reader that has gone (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A runtime with a thread for each core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = match one_core {
        true => tokio::runtime::Builder::new_current_thread(), // nobody to share work with
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}
