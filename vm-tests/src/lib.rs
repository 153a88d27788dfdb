// SPDX-License-Identifier: Apache-2.0
//! Fledge in virtual machines: an image to test it in, machines to run it on, and cases that say what must come out.
//!
//! | where | what |
//! |---|---|
//! | [`session`] | begin here: a [`session::Session`] has the image, the verdict on KVM and a scratch folder |
//! | [`run`], [`case`] | the cases in `cases/`, several at once, and their summary |
//! | [`oracle`] | one case of another kind: a batch of configs, done by Debian's Ignition and by ours, and compared |
//! | [`demo`] | a case with words about what happens, or with the console left to the user |
//! | [`image`] | the test image in cached layers; the part that needs root; the overlay with the newest binary |
//! | [`qemu`], [`serve`] | a machine that can't outlive its thread; the HTTP and HTTPS server that it talks to |
//! | [`template`], [`facts`] | what is known only when a case runs; what the guest saw against what was expected |
//!
//! The guest's side is the package `fledge-vm-checker`. It shares no code with Fledge, and neither does this one.
//!
//! A machine is fresh, a nonce ties an answer to its run, and silence is a failure. Nothing stays behind when the user
//! interrupts: [`interrupt`] turns signals into errors, machines die with their threads, builds run in namespaces.

pub mod cache;
pub mod case;
mod cpio;
pub mod demo;
pub mod facts;
pub mod host;
pub mod image;
pub mod interrupt;
pub mod oracle;
pub mod peripherals;
pub mod progress;
pub mod qemu;
pub mod run;
pub mod serve;
pub mod session;
pub mod template;
pub mod tools;
