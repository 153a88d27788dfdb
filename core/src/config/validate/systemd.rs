// SPDX-License-Identifier: Apache-2.0
//! `systemd`.

use alloc::format;

use super::common::{index_of, said};
use crate::config::model::{Checking, Rules};
use crate::config::types::{Dropin, Systemd, Unit};
use crate::json::Path;
use crate::unit::{Name, NameError, has_install};

impl Rules for Systemd {
    /// An instance that is enabled takes the `[Install]` section of its template.
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let list = at.key("units");
        let by_name = index_of(&mut self.units.iter().map(|unit| unit.name.as_str()));
        for (index, unit) in self.units.iter().enumerate() {
            if unit.enabled != Some(true) || !unit.name.ends_with(".service") {
                continue;
            }
            let Some(template) = Name::parse(&unit.name).ok().and_then(|name| name.template()) else { continue };
            let unit_of_template = by_name.get(template.as_str()).and_then(|index| self.units.get(*index));
            let contents = unit_of_template.and_then(|unit| said(unit.contents.as_ref()));
            let Some(contents) = contents else { continue };
            if has_install(contents) == Ok(false) {
                cx.remarks
                    .warning(
                        &list.index(index).key("contents"),
                        format!(
                            "{} is enabled, but its template {template} has no [Install] section: nothing starts it",
                            unit.name
                        ),
                    )
                    .remedy(format!("add [Install] with a WantedBy= to {template}"));
            }
        }
    }
}

impl Rules for Unit {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        match Name::parse(&self.name) {
            Ok(_) => {}
            // Ignition writes such a unit, though systemd never loads it.
            Err(error @ NameError::Character) => {
                cx.remarks.warning(
                    &at.key("name"),
                    format!("systemd will not load a unit of the name {:?}: {error}", self.name),
                );
            }
            Err(error) => {
                cx.remarks
                    .error(&at.key("name"), format!("{:?} can't be the name of a unit: {error}", self.name))
                    .remedy("name it as in NAME.service");
            }
        }
        let Some(contents) = &self.contents else { return };
        let at = at.key("contents");
        match has_install(contents) {
            Err(error) => {
                cx.remarks.error(&at, format!("this is not a unit file: {error}"));
            }
            Ok(false) if self.enabled == Some(true) && !contents.is_empty() => {
                cx.remarks
                    .warning(&at, format!("{} is enabled, but has no [Install] section: nothing starts it", self.name))
                    .remedy("add [Install] with a WantedBy=");
            }
            Ok(_) => {}
        }
    }
}

impl Rules for Dropin {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        if let Some(Err(error)) = self.contents.as_deref().map(has_install) {
            cx.remarks.error(&at.key("contents"), format!("this is not a unit file: {error}"));
        }
        let name = at.key("name");
        let conf = self.name.rsplit_once('.').is_some_and(|(_, suffix)| suffix == "conf");
        if !conf {
            cx.remarks
                .error(&name, format!("a drop-in's name ends in .conf; {:?} doesn't", self.name))
                .remedy("name it as in 10-NAME.conf");
        } else if self.name.chars().any(char::is_control) {
            cx.remarks.error(&name, format!("the drop-in's name {:?} contains a control character", self.name));
        } else if self.name.contains('/') {
            cx.remarks
                .error(&name, format!("the drop-in's name {:?} contains a slash", self.name))
                .remedy("give a name without directories; the unit says where it goes");
        }
    }
}
