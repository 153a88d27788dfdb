// SPDX-License-Identifier: Apache-2.0
//! Fledge's effects: it looks at the machine, asks `fledge-core` what to do, does it, and tells what it did.
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`] | one run of one stage: settings in, exit code and report out |
//! | `stage` | the stages, one module each |
//! | [`provider`] | where each platform keeps the configuration |
//! | [`reading`] | from texts to configurations, with a record of which texts those were |
//! | [`fetch`] | resources: from a URL to verified bytes |
//! | [`state`] | what one stage leaves for the next |
//! | [`observe`], [`execute`] | facts about a machine; carrying out plans |
//! | [`host`] | the only code that touches the operating system |
//! | [`generator`] | which targets a boot runs, told to systemd |
//! | [`ostree`] | around the stages on an OSTree system: the installed config, `/var` |
//! | [`boot_device`] | which disk the machine boots from, by evidence |
//! | [`boot_select`] | boots are counted, and one deployment falls back to another |
//! | [`handover`] | the network: an installer's files, and what becomes of it when the real root takes over |
//! | [`pivot`] | the deployment becomes the root, as OSTree's own `ostree-prepare-root` has it |
//! | [`root`] | the disk of the root on a first boot: its UUIDs, its size, what becomes of a root that is made anew, and what later boots know of it |
//! | [`kargs`] | kernel arguments: the boot entries edited, and the reboot that they ask for |
//! | [`console`] | what a person at a console is told when the boot stopped |
//! | [`firstboot`] | what the real root does once after a first boot |
//! | [`logger`], [`report`] | the journal or standard output; `/run/fledge` |

pub mod boot_device;
pub mod boot_mount;
pub mod boot_select;
pub mod console;
pub mod execute;
pub mod fetch;
pub mod firstboot;
pub mod generator;
pub mod handover;
pub mod host;
pub mod kargs;
pub mod logger;
pub mod observe;
pub mod ostree;
pub mod pivot;
pub mod provider;
pub mod reading;
pub mod report;
pub mod root;
pub mod run;
pub mod stage;
pub mod state;
