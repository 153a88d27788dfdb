// SPDX-License-Identifier: Apache-2.0
//! What is decided, case by case ([`names`], [`cases`], [`blessing`], [`starts`]), and that no machine gets stuck on any way through all of it
//! ([`walk`], [`mutations`]).

extern crate std;

mod blessing;
mod cases;
mod model;
mod mutations;
mod names;
mod starts;
mod walk;
