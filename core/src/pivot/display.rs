// SPDX-License-Identifier: Apache-2.0
//! Pivots as text.

use core::fmt;

use super::{Plan, Step};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:4} {step}", number + 1)?;
        }
        Ok(())
    }
}

fn access(readonly: bool) -> &'static str {
    if readonly { "read-only" } else { "writable" }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, mode } => write!(f, "make the folder {path} with mode {mode:04o}"),
            Self::Private => f.write_str("take all mounts out of propagation"),
            Self::Enter { path } => write!(f, "work in {path}"),
            Self::Bind { from, to } => write!(f, "bind {from} to {to}"),
            Self::Remount { at, readonly } => write!(f, "make {at} {}", access(*readonly)),
            Self::Writable { at } => write!(f, "make the file system at {at} writable"),
            Self::Verify { image } => write!(f, "check the image {image} by fs-verity"),
            Self::Composefs { image, objects, at, upper, readonly, verity, .. } => {
                write!(f, "mount the composefs image {image} over {objects} at {at}, {}", access(*readonly))?;
                if let Some(upper) = upper {
                    write!(f, ", with changes in {upper}")?;
                }
                f.write_str(if *verity { ", and check every file by fs-verity" } else { "" })
            }
            Self::Overlay { at, lower, upper, .. } => write!(f, "lay {upper} over {lower} at {at}"),
            Self::Detach { at } => write!(f, "detach {at}"),
            Self::Receive { at } => write!(f, "let mounts come to {at} and none go from there"),
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
            Self::File { path, bytes, .. } => write!(f, "write {path} ({} bytes)", bytes.len()),
            Self::Move { from, to } => write!(f, "move {from} to {to}"),
            Self::Remove { path } => write!(f, "remove the folder {path}"),
        }
    }
}
