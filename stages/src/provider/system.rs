// SPDX-License-Identifier: Apache-2.0
//! What the initramfs itself carries: `user.ign`, `base.d/*` and `base.platform.d/<platform>/*` in three directories, of which the
//! higher one wins where both have a file of the same name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use fledge_core::diag::Failure;

use super::{Raw, Surroundings, decompress, read_text};

/// The operator's `user.ign` in the highest directory that has one.
///
/// # Errors
/// It can't be read.
pub fn user(surroundings: &Surroundings) -> Result<Option<Raw>, Failure> {
    for directory in &surroundings.config_dirs {
        let path = directory.join("user.ign");
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map(Some).map_err(|error| failure(&path, &error)),
        }
    }
    Ok(None)
}

/// The distribution's configurations, in the order in which they are merged: `base.d`, then `base.platform.d`, each by name.
///
/// # Errors
/// One of them can't be read.
pub fn base(surroundings: &Surroundings, platform: &str) -> Result<Vec<Raw>, Failure> {
    let mut found = Vec::new();
    for folder in [Path::new("base.d").to_owned(), Path::new("base.platform.d").join(platform)] {
        let mut paths = BTreeMap::<OsString, _>::new();
        for directory in &surroundings.config_dirs {
            let path = directory.join(&folder);
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
            };
            for entry in entries.map_err(|error| failure(&path, &error))? {
                paths.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
        for path in paths.values() {
            found.push(decompress(read(path).map_err(|error| failure(path, &error))?)?);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Raw> {
    Ok(Raw { text: read_text(File::open(path)?)?, name: path.display().to_string() })
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("reading the configuration {}", path.display()), error.to_string())
        .remedy("correct or remove it in the image, or in what wrote it before this stage")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(directory: &tempfile::TempDir, files: &[(&str, &str)]) -> Surroundings {
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config_dirs = ["run", "etc", "usr"].map(|name| directory.path().join(name));
        Surroundings { config_dirs, ..Surroundings::from_environment() }
    }

    #[test]
    fn the_highest_user_config_counts() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(user(&surroundings(&directory, &[])).unwrap(), None);
        let lower = surroundings(&directory, &[("usr/user.ign", "usr")]);
        assert_eq!(user(&lower).unwrap().unwrap().text, b"usr");
        let higher = surroundings(&directory, &[("run/user.ign", ""), ("etc/user.ign", "etc")]);
        assert_eq!(user(&higher).unwrap().unwrap().text, b"", "an empty one is one");
        fs::remove_file(directory.path().join("run/user.ign")).unwrap();
        fs::create_dir(directory.path().join("run/user.ign")).unwrap();
        assert!(user(&higher).is_err(), "one that can't be read is not passed over");
    }

    #[test]
    fn base_configs_are_merged_by_name_and_the_highest_of_a_name_counts() {
        let directory = tempfile::tempdir().unwrap();
        let surroundings = surroundings(
            &directory,
            &[
                ("usr/base.d/20-b", "usr 20"),
                ("usr/base.d/10-a", "usr 10"),
                ("etc/base.d/20-b", "etc 20"),
                ("run/base.d/30-c", "run 30"),
                ("usr/base.platform.d/qemu/00-x", "qemu"),
                ("usr/base.platform.d/metal/00-x", "metal"),
            ],
        );
        let texts = |platform| {
            let found = base(&surroundings, platform).unwrap();
            found.into_iter().map(|raw| String::from_utf8(raw.text).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(texts("qemu"), ["usr 10", "etc 20", "run 30", "qemu"]);
        assert_eq!(texts("file"), ["usr 10", "etc 20", "run 30"]);
    }
}
