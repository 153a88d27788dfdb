// SPDX-License-Identifier: Apache-2.0
//! What is known of deployments, in the names of empty files.
//!
//! | name | means |
//! |---|---|
//! | `ID+LEFT-DONE` | not blessed yet: this many tries are left, this many were begun |
//! | `ID.good` | a boot of it was healthy |
//! | `ID.bad` | its tries are used up, or a person said so; it is never chosen again by itself |
//! | `ID.switched` | the bootloader was told to start another one in its stead |
//! | `ID.switched-again` | it was told so twice |
//!
//! `ID` is `STATEROOT-CHECKSUM.SERIAL`. OSTree gives a commit that it deploys again the next serial that is free, so `bad` counts for other
//! deployments of the commit, too, unless something is known of them or a person gave them other kernel arguments. Each deployment has one
//! of the first three, which become each other by a rename. What is no such name is passed over.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// A deployment's name in records: `nestos-2f6a....0`. The stateroot is part of it, because two of them may have deployments of one
/// commit.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id {
    text: String,
    /// Where the hyphen behind the stateroot is.
    hyphen: usize,
}

impl Id {
    /// The name of the deployment `CHECKSUM.SERIAL` of a stateroot; `None` if these are no such names.
    pub fn new(stateroot: &str, deployment: &str) -> Option<Self> {
        let (checksum, serial) = deployment.split_once('.')?;
        let is_hexadecimal = !checksum.is_empty() && checksum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_stateroot = !stateroot.is_empty()
            && !stateroot.starts_with('.')
            && stateroot.chars().all(|c| c != '/' && !c.is_whitespace() && !c.is_control());
        (is_hexadecimal && number(serial).is_some() && is_stateroot)
            .then(|| Self { text: format!("{stateroot}-{deployment}"), hyphen: stateroot.len() })
    }

    /// Reads what [`Self::as_str`] shows.
    pub fn parse(text: &str) -> Option<Self> {
        let (stateroot, deployment) = text.rsplit_once('-')?;
        Self::new(stateroot, deployment)
    }

    /// The id of a deployment's folder, by its path: `.../deploy/STATEROOT/deploy/CHECKSUM.SERIAL`.
    pub fn of_path(path: &str) -> Option<Self> {
        let mut names = path.trim_end_matches('/').rsplit('/');
        let deployment = names.next()?;
        let (deploy, stateroot, above) = (names.next()?, names.next()?, names.next()?);
        if deploy == "deploy" && above == "deploy" { Self::new(stateroot, deployment) } else { None }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The stateroot's name.
    pub fn stateroot(&self) -> &str {
        self.text.get(..self.hyphen).unwrap_or_default()
    }

    /// `CHECKSUM.SERIAL`, as the deployment's folder is called.
    pub fn deployment(&self) -> &str {
        self.text.get(self.hyphen + 1..).unwrap_or_default()
    }

    /// Whether it is another deployment of the same commit, in the same stateroot.
    pub fn is_of_the_commit_of(&self, other: &Self) -> bool {
        let checksum = |id: &Self| id.text.rfind('.');
        self.hyphen == other.hyphen
            && self.text != other.text
            && checksum(self)
                .is_some_and(|end| self.text.get(..end) == checksum(other).and_then(|end| other.text.get(..end)))
    }

    /// The deployment's folder, below the physical root.
    pub fn path(&self) -> String {
        format!("/ostree/deploy/{}/deploy/{}", self.stateroot(), self.deployment())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.text
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no deployment's id: STATEROOT-CHECKSUM.SERIAL"))
    }
}

/// How often a deployment may be tried, and was.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Tries {
    /// Tries that are left.
    pub left: u32,
    /// Tries that were begun.
    pub done: u32,
}

/// What is known of a deployment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not blessed yet.
    Trying(Tries),
    /// Blessed.
    Good,
    /// Not to be chosen again by itself.
    Bad,
}

impl State {
    /// Whether another one is to be booted in its stead, if there is one.
    pub fn is_used_up(self) -> bool {
        matches!(self, Self::Bad | Self::Trying(Tries { left: 0, .. }))
    }

    /// How likely it is the state that counts, of several: the smaller, the likelier.
    fn rank(self) -> (u8, u32) {
        match self {
            Self::Bad => (0, 0),
            Self::Good => (1, 0),
            Self::Trying(tries) => (2, tries.left),
        }
    }

    /// The name of the file that says so.
    pub fn name(self, id: &Id) -> String {
        match self {
            Self::Trying(Tries { left, done }) => format!("{id}+{left}-{done}"),
            Self::Good => format!("{id}.good"),
            Self::Bad => format!("{id}.bad"),
        }
    }
}

/// The names of the marks that the bootloader was told to start another deployment: the first, and the second.
const SWITCHED: [&str; 2] = ["switched", "switched-again"];

/// What is known of one deployment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Which.
    pub id: Id,
    /// The state that counts, if there is one.
    pub state: Option<State>,
    /// How often the bootloader was told to start another one in its stead: 0, 1 or 2.
    pub switched: usize,
    /// All its files, the one of its state first.
    pub names: Vec<String>,
}

/// All that is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Records {
    records: Vec<Record>,
    /// Names that mean nothing: damaged, or not ours.
    pub odd: Vec<String>,
}

/// What a name says of a deployment.
enum Said {
    State(State),
    Switched(usize),
}

impl Records {
    /// Reads the names in the folder. Of several states of one deployment, `bad` counts before `good`, and that before a counter; the
    /// counter with the fewest tries left counts.
    pub fn parse<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut all = Self::default();
        for name in names {
            match parse(name) {
                None => all.odd.push(name.to_string()),
                Some((id, said)) => all.add(id, name, &said),
            }
        }
        all
    }

    fn add(&mut self, id: Id, name: &str, said: &Said) {
        let place = if let Some(place) = self.records.iter().position(|record| record.id == id) {
            place
        } else {
            self.records.push(Record { id, state: None, switched: 0, names: Vec::new() });
            self.records.len() - 1
        };
        let Some(record) = self.records.get_mut(place) else { return };
        match said {
            Said::State(state) if record.state.is_none_or(|known| state.rank() < known.rank()) => {
                record.state = Some(*state);
                record.names.insert(0, name.to_string());
            }
            Said::State(_) => record.names.push(name.to_string()),
            Said::Switched(count) => {
                record.switched = record.switched.max(*count);
                record.names.push(name.to_string());
            }
        }
    }

    /// What is known, deployment by deployment.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// What is known of a deployment.
    pub fn get(&self, id: &Id) -> Option<&Record> {
        self.records.iter().find(|record| record.id == *id)
    }

    /// The state of a deployment that counts.
    pub fn state(&self, id: &Id) -> Option<State> {
        self.get(id)?.state
    }

    /// What is known of other deployments of the same commit, in the same stateroot, that are bad.
    pub fn bad_of_the_commit_of<'r>(&'r self, id: &'r Id) -> impl Iterator<Item = &'r Record> {
        self.iter().filter(|record| record.state == Some(State::Bad) && record.id.is_of_the_commit_of(id))
    }

    /// How often the bootloader was told to start another one in its stead.
    pub fn switched(&self, id: &Id) -> usize {
        self.get(id).map_or(0, |record| record.switched)
    }

    /// The name of the next mark that the bootloader is told to start another one; `None` once both are there.
    pub fn next_switch(&self, id: &Id) -> Option<String> {
        let word = SWITCHED.get(self.switched(id))?;
        Some(format!("{id}.{word}"))
    }
}

fn parse(name: &str) -> Option<(Id, Said)> {
    let words = [("good", Said::State(State::Good)), ("bad", Said::State(State::Bad))];
    let switched = SWITCHED.iter().zip(1..).map(|(word, count)| (*word, Said::Switched(count)));
    for (word, said) in words.into_iter().chain(switched) {
        if let Some(id) = name.strip_suffix(word).and_then(|name| name.strip_suffix('.')) {
            return Some((Id::parse(id)?, said));
        }
    }
    let (id, tries) = name.rsplit_once('+')?;
    let (left, done) = tries.split_once('-')?;
    let tries = Tries { left: number(left)?, done: number(done)? };
    Some((Id::parse(id)?, Said::State(State::Trying(tries))))
}

/// A number as this program writes it: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
