// SPDX-License-Identifier: Apache-2.0
//! What a disk holds, as lines for facts. The first says what it is:
//!
//! | line | |
//! |---|---|
//! | `nothing`, `mbr` | no partition table; one in an MBR |
//! | `broken WHY` | a GPT that can't be relied on |
//! | `gpt GUID FIRST LAST ARRAY BACKUP-ARRAY SLOTS BACKUP` | a GPT, see [`Table`] and [`Gpt`]; the other lines may follow |
//! | `hybrid START SIZE` | a partition of the hybrid MBR |
//! | `flaw WHAT` | what is damaged |
//! | `NUMBER START END TYPE GUID ATTRIBUTES NAME LABEL` | a partition; attributes in hexadecimal, `-` for a name that is just the label |

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::str::{FromStr, SplitN};

use super::{Extent, Found, Gpt, Guid, Partition, Table};

impl From<Found> for Vec<String> {
    fn from(found: Found) -> Self {
        let Gpt { table, backup, hybrid, flaws } = match found {
            Found::Nothing => return vec!["nothing".into()],
            Found::Mbr => return vec!["mbr".into()],
            Found::Broken(why) => return vec![format!("broken {why}")],
            Found::Gpt(gpt) => gpt,
        };
        let Table { guid, first, last, array, backup_array, slots, partitions } = table;
        let mut lines = vec![format!("gpt {guid} {first} {last} {array} {backup_array} {slots} {backup}")];
        lines.extend(hybrid.iter().map(|Extent { start, size }| format!("hybrid {start} {size}")));
        lines.extend(flaws.iter().map(|flaw| format!("flaw {flaw}")));
        for Partition { number, start, end, kind, guid, label, name, attributes } in partitions {
            let name = name.as_deref().unwrap_or("-");
            lines.push(format!("{number} {start} {end} {kind} {guid} {attributes:x} {name} {label}"));
        }
        lines
    }
}

impl TryFrom<Vec<String>> for Found {
    type Error = String;

    fn try_from(lines: Vec<String>) -> Result<Self, String> {
        let mut found = Self::Nothing;
        for line in &lines {
            read(line, &mut found).ok_or_else(|| format!("{line:?} says nothing about what a disk holds"))?;
        }
        Ok(found)
    }
}

/// The words of a line, read one after the other.
struct Words<'l>(SplitN<'l, char>);

impl<'l> Words<'l> {
    fn text(&mut self) -> Option<&'l str> {
        self.0.next()
    }

    fn number<T: FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    fn guid(&mut self) -> Option<Guid> {
        Guid::parse(self.text()?)
    }
}

fn read(line: &str, found: &mut Found) -> Option<()> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut words = Words(rest.splitn(7, ' '));
    match (kind, &mut *found) {
        ("nothing", _) => *found = Found::Nothing,
        ("mbr", _) => *found = Found::Mbr,
        ("broken", _) => *found = Found::Broken(rest.into()),
        ("gpt", _) => {
            let table = Table {
                guid: words.guid()?,
                first: words.number()?,
                last: words.number()?,
                array: words.number()?,
                backup_array: words.number()?,
                slots: words.number::<u64>()?.try_into().ok()?,
                partitions: Vec::new(),
            };
            *found = Found::Gpt(Gpt { table, backup: words.number()?, hybrid: Vec::new(), flaws: Vec::new() });
        }
        ("flaw", Found::Gpt(gpt)) => gpt.flaws.push(rest.into()),
        ("hybrid", Found::Gpt(gpt)) => {
            let mut sectors = || words.number::<u64>()?.try_into().ok();
            gpt.hybrid.push(Extent { start: sectors()?, size: sectors()? });
        }
        (number, Found::Gpt(gpt)) => gpt.table.partitions.push(Partition {
            number: number.parse::<u64>().ok()?.try_into().ok()?,
            start: words.number()?,
            end: words.number()?,
            kind: words.guid()?,
            guid: words.guid()?,
            attributes: u64::from_str_radix(words.text()?, 16).ok()?,
            name: words.text().filter(|name| *name != "-").map(Into::into),
            label: words.text()?.into(),
        }),
        _ => return None,
    }
    Some(())
}
