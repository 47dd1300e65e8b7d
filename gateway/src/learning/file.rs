//! What was learned, in a file of the state folder: read at the start, written every minute and at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_backends::learn::saved::Saved;

use super::Learning;
use crate::config::write::replace;
use crate::gateway::Gateway;

/// The file in the state folder.
pub const FILE: &str = "learned.json";
/// A file that could not be used is kept under this ending.
const UNUSABLE: &str = "unusable";
/// How often what was learned is written.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// A larger file was not written by a gateway, bytes.
const LARGEST: u64 = 64 << 20;

/// Takes over what an earlier process has learned; a file that cannot be used is put aside and said so.
pub fn load(learning: &Learning, folder: &Path) {
    let path = folder.join(FILE);
    let problem = match read(&path) {
        Ok(None) => return,
        Ok(Some(saved)) => match learning.learner().load(saved) {
            Ok(()) => return tracing::info!("goes on with what `{}` has learned", path.display()),
            Err(problem) => problem.to_string(),
        },
        Err(problem) => problem.to_string(),
    };
    let aside = aside(&path);
    let kept = match std::fs::rename(&path, &aside) {
        Ok(()) => format!("it is kept as `{}`; delete it if nothing in it is wanted", aside.display()),
        Err(error) => format!("it cannot be kept aside ({error}) and will be overwritten"),
    };
    tracing::warn!(
        "what was learned cannot be read from `{}`: {problem}; starts again from the hardware catalog, {kept}",
        path.display()
    );
}

/// What was learned by a gateway that keeps its state in a folder; nothing where there is no file.
pub fn of_another(folder: &Path) -> io::Result<Option<Learning>> {
    let Some(saved) = read(&folder.join(FILE))? else { return Ok(None) };
    let learning = Learning::default();
    learning.learner().load(saved).map_err(io::Error::other)?;
    Ok(Some(learning))
}

/// Writes what has been learned since it was last written; atomically, so that a crash leaves the last whole file.
pub fn save(learning: &Learning, folder: &Path) -> io::Result<()> {
    if !learning.unsaved.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let written = write(learning, folder);
    if written.is_err() {
        learning.unsaved.store(true, Ordering::Relaxed);
    }
    written
}

fn write(learning: &Learning, folder: &Path) -> io::Result<()> {
    let saved = learning.learner().save();
    let text = serde_json::to_vec(&saved).map_err(io::Error::other)?;
    std::fs::create_dir_all(folder)?;
    replace(&folder.join(FILE), &text)
}

/// Writes every minute, until dropped.
pub async fn keep(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + SAVE_EVERY, SAVE_EVERY);
    loop {
        tick.tick().await;
        let gateway = Arc::clone(&gateway);
        let _ = tokio::task::spawn_blocking(move || save_and_log(&gateway)).await;
    }
}

/// Writes, and says so where it fails.
pub fn save_and_log(gateway: &Gateway) {
    let folder = gateway.snapshot().process.state.clone();
    if let Err(error) = save(gateway.learning(), &folder) {
        let path = folder.join(FILE);
        tracing::warn!(
            "what was learned cannot be written to `{}`: {error}; make the folder of `state` writable, or a restart forgets it",
            path.display()
        );
    }
}

fn read(path: &Path) -> io::Result<Option<Saved>> {
    let size = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if size > LARGEST {
        return Err(io::Error::other(format!("it has {size} bytes, more than {LARGEST}")));
    }
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map(Some).map_err(io::Error::other)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension(UNUSABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_kept_aside_and_nothing_stops() {
        for text in ["", "{", "[]", r#"{"version":1}"#] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            std::fs::write(&path, text).unwrap();
            let learning = Learning::default();
            load(&learning, folder.path());
            assert!(!path.exists(), "{text}");
            assert_eq!(std::fs::read_to_string(aside(&path)).unwrap(), text);
            write(&learning, folder.path()).unwrap();
            load(&learning, folder.path());
            assert!(path.exists(), "what it wrote itself it reads");
        }
    }

    #[test]
    fn a_file_of_another_version_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write(&Learning::default(), folder.path()).unwrap();
        let later = std::fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":2");
        std::fs::write(&path, &later).unwrap();
        load(&Learning::default(), folder.path());
        assert_eq!(std::fs::read_to_string(aside(&path)).unwrap(), later);
    }

    #[test]
    fn where_nothing_was_learned_nothing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        load(&Learning::default(), folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
