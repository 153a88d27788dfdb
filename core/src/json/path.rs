// SPDX-License-Identifier: Apache-2.0
//! Paths to nodes, written as Ignition writes them: `$.storage.files.0.path`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One step from a node to a child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// The member of an object.
    Key(&'a str),
    /// The element of a list, from 0.
    Index(usize),
}

/// A path that lives on the stack of whoever walks a tree: nothing is allocated unless something is said about the node.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    last: Option<(&'a Path<'a>, Step<'a>)>,
}

impl<'a> Path<'a> {
    /// The whole text, `$`.
    pub const ROOT: Self = Self { last: None };

    /// The path of a member.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { last: Some((self, Step::Key(key))) }
    }

    /// The path of an element.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { last: Some((self, Step::Index(index))) }
    }

    /// The last step, if this isn't the root.
    pub fn step(&self) -> Option<Step<'a>> {
        self.last.map(|(_, step)| step)
    }

    /// The first step, if this isn't the root.
    pub fn first(&self) -> Option<Step<'a>> {
        let (parent, step) = self.last?;
        parent.first().or(Some(step))
    }

    /// The path above, and the step from there.
    pub(super) fn split(&self) -> Option<(&'a Path<'a>, Step<'a>)> {
        self.last
    }

    /// A copy that outlives the walk.
    pub fn to_buf(&self) -> PathBuf {
        let mut steps = Vec::new();
        let mut path = self;
        while let Some((parent, step)) = path.last {
            steps.push(match step {
                Step::Key(key) => StepBuf::Key(key.into()),
                Step::Index(index) => StepBuf::Index(index),
            });
            path = parent;
        }
        steps.reverse();
        PathBuf(steps)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            None => f.write_str("$"),
            Some((parent, Step::Key(key))) => write!(f, "{parent}.{key}"),
            Some((parent, Step::Index(index))) => write!(f, "{parent}.{index}"),
        }
    }
}

/// One step of an owned path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StepBuf {
    /// The member of an object.
    Key(String),
    /// The element of a list, from 0.
    Index(usize),
}

/// An owned path.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct PathBuf(pub Vec<StepBuf>);

impl fmt::Display for PathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for step in &self.0 {
            match step {
                StepBuf::Key(key) => write!(f, ".{key}")?,
                StepBuf::Index(index) => write!(f, ".{index}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn reads_as_ignition_writes_it() {
        let storage = Path::ROOT.key("storage");
        let files = storage.key("files");
        let file = files.index(3);
        let path = file.key("path");
        assert_eq!(path.to_string(), "$.storage.files.3.path");
        assert_eq!((path.first(), path.step()), (Some(Step::Key("storage")), Some(Step::Key("path"))));
        assert_eq!((Path::ROOT.first(), Path::ROOT.step()), (None, None));
        assert_eq!(path.to_buf().to_string(), "$.storage.files.3.path");
        assert_eq!(Path::ROOT.to_string(), "$");
        assert_eq!(PathBuf::default().to_string(), "$");
    }
}
