//! Whether files have changed, without reading them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which files these were, and as of when; two of the same paths are equal as long as nothing was written or replaced,
/// behind links as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Seen>)>);

/// Device, inode, length, and the time of the last write.
type Seen = (u64, u64, u64, i64, i64);

impl Stamp {
    /// As they are now; a file that is not there has a stamp as well.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Stamp {
        let seen = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        Stamp(paths.into_iter().map(|path| (path.to_owned(), seen(path))).collect())
    }
}
