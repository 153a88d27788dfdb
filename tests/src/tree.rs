// SPDX-License-Identifier: Apache-2.0
//! A folder as text, so that two states of it can be compared to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What stands at each path below the folder: kind, mode, owner, and the bytes of files or the target of links.
pub type Tree = BTreeMap<String, String>;

/// Reads a folder.
///
/// # Errors
/// Whatever the operating system says.
pub fn read(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    add(root, "", &mut tree)?;
    Ok(tree)
}

fn add(folder: &Path, prefix: &str, tree: &mut Tree) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{prefix}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let metadata = fs::symlink_metadata(&path)?;
        let owner = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        let content = if metadata.is_dir() {
            add(&path, &name, tree)?;
            String::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path)?.to_string_lossy().into_owned()
        } else {
            String::from_utf8_lossy(&fs::read(&path)?).into_owned()
        };
        tree.insert(name, format!("{owner} {content}"));
    }
    Ok(())
}
