// SPDX-License-Identifier: Apache-2.0
//! What boot selection leaves for later: the file `/run/fledge/boot-select.json`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::records::{Id, Tries};

/// The version of the file's form that this build writes.
pub const VERSION: u32 = 1;

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// This boot isn't counted: nobody wants that, or it isn't for this program to do. [`Selection::reason`] says why.
    NotCounted,
    /// The deployment was blessed before: no try is written.
    Blessed,
    /// This boot is one of the deployment's tries.
    Counted,
    /// The bootloader's deployment is used up, and another one was booted in its stead, without a reboot.
    FellBack,
    /// The bootloader's deployment is used up, and the machine reboots into another one. No booted system ever finds this.
    Rebooting,
    /// The deployment is used up, and there is no other to boot: it boots on, for a person to repair.
    Exhausted,
    /// This boot should have been counted and couldn't be.
    CouldNotCount,
}

/// The record of one boot's selection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// [`VERSION`].
    pub version: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// The deployment that really boots, if it can be told: what a healthy boot blesses.
    pub deployment: Option<Id>,
    /// The deployment that the bootloader chose. After a fallback without a reboot, the kernel's command line goes on naming it.
    pub bootloader: Option<Id>,
    /// The deployment that is used up, if this boot is one in its stead, by a pivot or by a reboot.
    pub instead_of: Option<Id>,
    /// Tries of the deployment that boots, this boot included, while it isn't blessed.
    pub tries: Option<Tries>,
    /// Whether this boot was counted: then, and only then, a try can be given back, and may the machine be rebooted because the boot doesn't
    /// get healthy. Rebooting another one would never end.
    pub counted: bool,
    /// The deployment that would be booted if this one were used up: it must stay there until this one is blessed.
    pub fallback: Option<Id>,
    /// Why neither that one nor any other would be booted by itself then, if that is so: rebooting after the last try leads nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// How often the bootloader started the one in whose stead this boot is, if that never got to where boots are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_arrived: Option<u32>,
    /// What was odd on the way, in words: names of records that mean nothing, settings that aren't understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Selection {
    /// A boot that isn't counted.
    pub fn not_counted(verdict: Verdict, deployment: Option<Id>, reason: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            verdict,
            reason: reason.into(),
            bootloader: deployment.clone(),
            deployment,
            instead_of: None,
            tries: None,
            counted: false,
            fallback: None,
            unreachable: None,
            never_arrived: None,
            remarks: Vec::new(),
        }
    }

    /// Another deployment was to be booted in the stead of the bootloader's, and could not be: that one goes on. Whoever notes this also
    /// leaves the flag [`super::EXHAUSTED`].
    pub fn stay(&mut self, why: &str) {
        self.verdict = Verdict::Exhausted;
        self.reason = match &self.deployment {
            Some(other) => format!("it is used up, and {other} could not be booted in its stead: {why}"),
            None => format!("it is used up: {why}"),
        };
        // It is still the one to keep.
        self.fallback = core::mem::replace(&mut self.deployment, self.bootloader.clone());
        self.unreachable = Some(why.into());
        (self.instead_of, self.tries, self.counted) = (None, None, false);
    }
}
