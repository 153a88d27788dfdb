// SPDX-License-Identifier: Apache-2.0
//! What is asked of kernel arguments, whether it is so, and what that means for this boot.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::edit::{is_closed, position};
use crate::cmdline::{unquoted, words};
use crate::diag::Failure;

/// Arguments that a kernel is to be started with, and without.
///
/// An argument means what the kernel takes it for: quotes don't count when it is compared. One with a space outside of quotes
/// stands for several that follow each other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Added where they are missing.
    pub should_exist: Vec<String>,
    /// Removed wherever they are.
    pub should_not_exist: Vec<String>,
}

impl Request {
    /// A request; empty arguments ask for nothing.
    ///
    /// # Errors
    /// An argument that would break the line that it is written to.
    pub fn new<S: AsRef<str>>(should_exist: &[S], should_not_exist: &[S]) -> Result<Self, Failure> {
        let check = |list: &[S]| -> Result<Vec<String>, Failure> {
            let arguments =
                list.iter().map(|argument| argument.as_ref().trim()).filter(|argument| !argument.is_empty());
            arguments.map(|argument| refuse(argument).map_or_else(|| Ok(argument.to_owned()), Err)).collect()
        };
        Ok(Self { should_exist: check(should_exist)?, should_not_exist: check(should_not_exist)? })
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.should_exist.is_empty() && self.should_not_exist.is_empty()
    }

    /// What of it isn't so on a command line, in words: `it lacks quiet`, `it has debug`. Empty if all is.
    pub fn unmet(&self, command_line: &str) -> Vec<String> {
        let words: Vec<_> = words(command_line).map(unquoted).collect();
        let lacks = self.should_exist.iter().filter(|argument| position(&words, argument).is_none());
        let has = self.should_not_exist.iter().filter(|argument| position(&words, argument).is_some());
        lacks
            .map(|argument| format!("it lacks {argument}"))
            .chain(has.map(|argument| format!("it has {argument}")))
            .collect()
    }

    /// A line an argument, `+` or `-` before it: the form in which [`Request::from_text`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (sign, list) in [("+", &self.should_exist), ("-", &self.should_not_exist)] {
            for argument in list {
                text.extend([sign, argument, "\n"]);
            }
        }
        text
    }

    /// Reads what [`Request::to_text`] wrote; other lines are passed over.
    pub fn from_text(text: &str) -> Self {
        let signed = |sign: char| text.lines().filter_map(|line| line.strip_prefix(sign)).map(str::to_owned).collect();
        Self { should_exist: signed('+'), should_not_exist: signed('-') }
    }
}

/// Why an argument can't be written to a line of options.
fn refuse(argument: &str) -> Option<Failure> {
    let why = if argument.contains(char::is_control) {
        "it has a line break or another control character in it"
    } else if !is_closed(argument) {
        "a double quote in it isn't closed"
    } else {
        return None;
    };
    Some(
        Failure::new(format!("setting the kernel argument {argument:?}"), why)
            .remedy("write the argument as it is to stand on the kernel's command line"),
    )
}

/// The note on the boot file system that a reboot was asked for, left once the entries were right and on the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Marker {
    /// The boot that asked.
    pub boot_id: String,
    /// For what.
    pub request: Request,
}

impl Marker {
    /// Its text.
    pub fn to_text(&self) -> String {
        format!("boot {}\n{}", self.boot_id, self.request.to_text())
    }

    /// Reads its text. A text that is no marker names no boot and asks for nothing.
    pub fn from_text(text: &str) -> Self {
        let boot_id = text.lines().find_map(|line| line.strip_prefix("boot ")).unwrap_or_default().to_string();
        Self { boot_id, request: Request::from_text(text) }
    }
}

/// What the state of the boot entries and of the running kernel means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// The kernel runs as it is to; entries that differ are put right for later boots.
    GoOn,
    /// The entries are put right, and the machine boots once more.
    Reboot,
    /// A boot with the right entries has been, and the kernel doesn't run as they say: booting again would go round in circles.
    Ignored,
}

impl Next {
    /// Decides. `running`: the kernel runs as asked for; `boot_id`: this boot.
    ///
    /// Only another boot's note about the same request counts. It was written after the entries, which may since have been lost:
    /// that is no better than entries that are ignored.
    pub fn decide(running: bool, request: &Request, marker: Option<&Marker>, boot_id: &str) -> Self {
        match marker {
            _ if running => Self::GoOn,
            Some(marker) if marker.request == *request && marker.boot_id != boot_id => Self::Ignored,
            _ => Self::Reboot,
        }
    }
}
