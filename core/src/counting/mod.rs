// SPDX-License-Identifier: Apache-2.0
//! Boot counting: how often a deployment was tried, which one to fall back to, and what a boot that got healthy makes of it.
//!
//! What is known of each deployment stands in the names of empty files below [`FOLDER`] of the boot file system ([`Records`]): a rename
//! is atomic, a write isn't. Two sides work on them, each by a pure decision:
//!
//! | who | when | decision | carried out as |
//! |---|---|---|---|
//! | `fledge boot-select` | in the initramfs, before the pivot | [`decide`] | [`Effect`]s, in their order ([`carry_out`]) |
//! | `fledgectl` | after boot, when the boot is healthy or a person says so | [`bless`] and what stands beside it | [`Step`]s, in their order |
//! | `fledgectl` | when a system goes off | [`arm`] | variables by which GRUB counts starts that never arrive |
//!
//! The first leaves [`Selection`] for the second. A boot is counted before it is tried; boots of a blessed deployment write nothing, unless
//! GRUB counts starts; a machine is never rebooted twice for one reason, and no boot is refused because of a counter.

mod arm;
mod bless;
mod decide;
mod grub;
mod menu;
mod records;
mod selection;
mod settings;
mod starts;
#[cfg(test)]
mod tests;

pub use arm::{Arms, GoesOff, arm};
pub use bless::{Healthy, Step, bless, forget, give_back, mark_bad, mark_good};
pub use decide::{Decision, Effect, Facts, carry_out};
pub use grub::{BLOCK, Environment, SOURCED, STEERING, other_counter, steering};
pub use menu::{Deployment, Listed, Menu, replaced};
pub use records::{Id, Record, Records, State, Tries};
pub use selection::{Selection, VERSION, Verdict};
pub use settings::{COUNT, Settings, TRIES, not_counted};
pub use starts::{Left, SNIPPET, Starts, counts, decide, disarmed, times, told};

/// Where the records are on the boot file system. OSTree's cleanup leaves it alone.
pub const FOLDER: &str = "/fledge/boot";
/// The file that holds [`Selection`], below `/run/fledge`. There is none on a first boot.
pub const SELECTION: &str = "boot-select.json";
/// The flag that all deployments are used up, below `/run/fledge`: it holds a line that says why. Nothing may reboot the machine by itself
/// then.
pub const EXHAUSTED: &str = "exhausted";
/// The kernel command line that the pivot goes by instead of the machine's own, below `/run/fledge`: there is such a file if the machine
/// fell back without a reboot.
pub const COMMAND_LINE: &str = "pivot-cmdline";
