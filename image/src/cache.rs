//! What is built once on a machine and kept: a file under the sum of all that went into it.
//!
//! Of several builds that miss the same file one makes it, and the others wait for that. A file
//! system without locks has to do without: then each makes it, and one of them stays.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::tool;

/// The file of that name in a folder. Unless it is there, `build` makes what is to stand in it, in a
/// folder that is its own and does not exist yet. `waits` is called before waiting for somebody else
/// who makes it.
pub fn kept(
    folder: &Path,
    name: &str,
    waits: impl FnOnce(),
    build: impl FnOnce(&Path) -> Result<Vec<u8>, String>,
) -> Result<PathBuf, String> {
    let file = folder.join(name);
    if file.exists() {
        return Ok(file);
    }
    let lock = alone(&folder.join(format!("{name}.lock")), waits);
    if file.exists() {
        return Ok(file);
    }
    let prefix = format!("{name}.new-");
    if lock.is_some() {
        remove_leftovers(folder, &prefix);
    }
    let place = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(folder)
        .map_err(|error| format!("cannot make a folder in {}: {error}", folder.display()))?;
    let bytes = build(&place.path().join("place"))?;
    let fresh = place.path().join("whole");
    tool::write(&fresh, &bytes)?;
    fs::rename(&fresh, &file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// Waits until nobody else has this lock, and keeps it until what is returned goes; `None` where it
/// cannot be had. The file stays: somebody may be waiting for it.
fn alone(path: &Path, waits: impl FnOnce()) -> Option<File> {
    let mut make = OpenOptions::new();
    make.read(true).write(true).create(true).truncate(false);
    // It may be another user's.
    let file = make.open(path).or_else(|_| File::open(path)).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waits();
            file.lock().ok()?;
        }
        Err(TryLockError::Error(_)) => return None,
    }
    Some(file)
}

/// Removes what builds that were killed have left.
fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(prefix) {
            // What cannot be removed is only in the way of other files.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_file_is_built_once_and_what_failed_or_was_killed_is_built_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let nobody = || panic!("nobody else builds it");
        let failed = kept(folder, "it", nobody, |_| Err("no compiler".to_owned()));
        assert_eq!(failed, Err("no compiler".to_owned()));
        fs::create_dir(folder.join("it.new-killed")).expect("it is made");
        fs::create_dir(folder.join("other.new-built")).expect("it is made");
        let built = kept(folder, "it", nobody, |_| Ok(b"whole".to_vec())).expect("it builds");
        assert_eq!(fs::read(&built).expect("it is kept"), b"whole");
        let again = kept(folder, "it", nobody, |_| Err("a second time".to_owned()));
        assert_eq!(again, Ok(built));
        let entries = fs::read_dir(folder).expect("it reads");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("it reads").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["it", "it.lock", "other.new-built"]);
    }

    #[test]
    fn who_misses_what_somebody_else_is_building_waits_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let lock = alone(&folder.join("it.lock"), || panic!("it is free")).expect("it is locked");
        let (says, waiting) = channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(move || {
                let waits = || says.send(()).expect("somebody listens");
                kept(folder, "it", waits, |_| Err("a second time".to_owned()))
            });
            waiting.recv().expect("it waits");
            fs::write(folder.join("it"), b"whole").expect("it is written");
            drop(lock);
            let file = second.join().expect("it ends");
            assert_eq!(file, Ok(folder.join("it")));
        });
    }
}
