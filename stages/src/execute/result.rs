// SPDX-License-Identifier: Apache-2.0
//! Ignition's result file: the last thing that is written, so that where it is, everything is.

use std::io::{self, Read, Write};

use fledge_core::plan::Step;
use serde::Serialize;
use serde_json::Value;

use super::{Done, Machine, failed};
use crate::host::clock;
use crate::host::fs::Attributes;
use crate::{generator, report};

const MODE: u32 = 0o600;

/// The file, in Ignition's form.
#[derive(Serialize)]
struct Report {
    #[serde(rename = "provisioningBootID")]
    boot_id: String,
    #[serde(rename = "provisioningDate")]
    date: String,
    #[serde(rename = "userConfigProvided")]
    user_config: bool,
    #[serde(rename = "previousReport", skip_serializing_if = "Option::is_none")]
    previous: Option<Value>,
}

impl Machine<'_> {
    pub(super) fn write_result(&self, step: &Step, path: &str, user_config: bool) -> Done {
        self.sync().and_then(|()| self.result(path, user_config)).map_err(|error| failed(step, &error))
    }

    /// What was written so far gets to the disks first.
    fn sync(&self) -> io::Result<()> {
        rustix::fs::syncfs(self.root)?;
        for mounted in &self.state.mounted {
            rustix::fs::syncfs(self.root.directory(mounted)?)?;
        }
        Ok(())
    }

    fn result(&self, path: &str, user_config: bool) -> io::Result<bool> {
        let (above, name) = self.root.make_parent(path)?;
        let mut result = Report { boot_id: report::boot_id()?, date: clock::date(), user_config, previous: None };
        if let Some(mut previous) = above.file(name)? {
            if !is_live() {
                log::warn!("this system was provisioned before; Ignition is made to run once on a system");
                let mut text = String::new();
                previous.read_to_string(&mut text)?;
                result.previous = Some(previous_report(&text));
            }
        }
        let new = above.temporary()?;
        serde_json::to_writer_pretty(new.file(), &result)?;
        new.file().write_all(b"\n")?;
        new.file().sync_all()?;
        above.place(new, name, Attributes::default().or(0, 0, MODE), true)?;
        rustix::fs::fsync(&above)?;
        Ok(true)
    }
}

/// The previous result. One that can't be read is kept as the text that it is.
fn previous_report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| {
        log::warn!("the previous result file is no JSON: {error}");
        text.into()
    })
}

/// Whether this is a live system, which is provisioned anew on every boot. The file is written all the same if nobody can tell.
fn is_live() -> bool {
    generator::is_live_image().unwrap_or_else(|failure| {
        log::warn!("{failure}");
        false
    })
}
