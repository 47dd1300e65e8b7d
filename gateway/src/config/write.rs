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
    let folder = match folder_of(path) {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
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
    File::open(folder)?.sync_all()
}
