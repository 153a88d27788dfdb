// SPDX-License-Identifier: Apache-2.0
//! Absolute paths of the target root, as text: no file system is asked.

use alloc::string::String;
use alloc::vec::Vec;

/// Puts an item into a list that is ordered by rank, behind its equals. Lists of entries are made this way instead of being
/// sorted, since each sort is compiled anew and has 5 kB.
pub(crate) fn insert_by<T>(list: &mut Vec<T>, item: T, rank: impl Fn(&T) -> (bool, usize)) {
    let own = rank(&item);
    let at = list.partition_point(|other| rank(other) <= own);
    list.insert(at, item);
}

/// The shortest path that means the same, as Go's `path.Clean` has it: one slash between names, no `.`, and `..` takes the
/// name before it away. A relative path is read as if it stood in the root directory.
pub fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    join(&names)
}

/// A symbolic link's target in its shortest form, as Go's `filepath.Clean` has it; a relative one may begin with `..`.
pub fn clean_link(target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let mut names: Vec<&str> = Vec::new();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    if names.is_empty() { ".".into() } else { names.join("/") }
}

/// A clean path from its names.
pub fn join(names: &[&str]) -> String {
    let mut path = String::from("/");
    path.push_str(&names.join("/"));
    path
}

/// A path below another one. `rest` may start with a slash.
pub fn below(directory: &str, rest: &str) -> String {
    clean(&[directory, rest].join("/"))
}

/// The names of a clean path, from the root.
pub fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// How many names a clean path has: 0 for the root.
pub fn depth(path: &str) -> usize {
    names(path).count()
}

/// The directory above a clean path and its last name; `None` for the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (above, name) = path.rsplit_once('/')?;
    if name.is_empty() { None } else { Some((if above.is_empty() { "/" } else { above }, name)) }
}

/// The directories above a clean path, the nearest first, the root last.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    core::iter::successors(split(path).map(|(above, _)| above), |above| split(above).map(|(above, _)| above))
}

/// Whether a clean path is another one or lies below it.
pub fn is_within(path: &str, directory: &str) -> bool {
    rest(path, directory).is_some()
}

/// What of a clean path comes after a directory that it lies in: empty or beginning with a slash.
pub fn rest<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    if directory == "/" {
        return Some(if path == "/" { "" } else { path });
    }
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../a/b", "/a/b"),
            ("/../../etc", "/etc"),
            ("a/b", "/a/b"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn cleans_links_as_go_does() {
        for (target, expected) in [
            ("/a/../b/", "/b"),
            ("a/../b", "b"),
            ("../x/./y/", "../x/y"),
            ("../../a/..", "../.."),
            ("a/..", "."),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("", "."),
            ("//", "/"),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(clean_link(target), expected, "{target}");
        }
    }

    #[test]
    fn within_is_by_whole_names() {
        assert!(is_within("/home/core", "/home/core"));
        assert!(is_within("/home/core/x", "/home/core"));
        assert!(!is_within("/home/core2", "/home/core"));
        assert!(is_within("/x", "/"));
        assert!(is_within("/", "/"));
        assert!(!is_within("/", "/x"));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/").count(), 0);
        assert_eq!(split("/a"), Some(("/", "a")));
    }
}
