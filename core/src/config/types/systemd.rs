// SPDX-License-Identifier: Apache-2.0
//! `systemd`.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::model::Entry;
use crate::config::section::section;

section! {
    /// Units.
    pub part Systemd {
        /// The units.
        units: Vec<Unit> = "units", V3_0;
    }
}

section! {
    /// A unit.
    pub item Unit {
        /// Its file.
        contents: Option<String> = "contents", V3_0;
        /// Its drop-ins.
        dropins: Vec<Dropin> = "dropins", V3_0;
        /// Whether it is enabled or disabled by a preset; left alone if absent.
        enabled: Option<bool> = "enabled", V3_0;
        /// Whether it is masked; `false` removes a mask.
        mask: Option<bool> = "mask", V3_0;
        /// Its name.
        name: String = "name", V3_0;
    }
}

section! {
    /// A drop-in of a unit.
    pub item Dropin {
        /// Its file.
        contents: Option<String> = "contents", V3_0;
        /// Its name, ending in `.conf`.
        name: String = "name", V3_0;
    }
}

impl Entry for Unit {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl Entry for Dropin {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}
