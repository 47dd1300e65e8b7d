//! Files replaced whole: whoever reads sees the old text or the new one, also after a crash.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::set::folder_of;

/// Mode of files that were not there before.
const NEW_FILE_MODE: u32 = 0o640;

/// Replaces a file, or makes it. Mode and owner of the old one are kept, its owner as far as this process may.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes)?;
    File::open(folder(path))?.sync_all()
}

/// The same for those who live to see it read: an error means that it was not done.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder(path);
    let name = path.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?.to_string_lossy();
    let mut beside = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(folder)?;
    beside.write_all(bytes)?;
    match std::fs::metadata(path) {
        Ok(old) => {
            beside.as_file().set_permissions(old.permissions())?;
            let _ = chown(beside.path(), Some(old.uid()), Some(old.gid()));
        }
        Err(_) => beside.as_file().set_permissions(Permissions::from_mode(NEW_FILE_MODE))?,
    }
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match folder_of(path) {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    }
}
