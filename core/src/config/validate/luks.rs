// SPDX-License-Identifier: Apache-2.0
//! `storage.luks`.

use alloc::format;

use super::common::{check_path, said};
use crate::config::model::{Checking, Rules};
use crate::config::schema::{ANY_CLEVIS_PIN, CLEVIS_CUSTOM_BY_PIN, CLEVIS_PINS};
use crate::config::types::{Cex, Clevis, ClevisCustom, Luks, Tang};
use crate::json::Path;
use crate::url::Url;

/// Longest label of a LUKS2 header, in bytes (48 with the zero at its end).
const LABEL_MAX: usize = 47;

impl Rules for Luks {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let name = at.key("name");
        if self.name.is_empty() {
            cx.remarks.error(&name, "the volume has no name").remedy("name it; it appears as /dev/mapper/NAME");
        } else if self.name.contains('/') {
            cx.remarks
                .error(&name, format!("the volume's name {:?} contains a slash", self.name))
                .remedy("give a name without directories; it appears below /dev/mapper");
        }
        if let Some(label) = said(self.label.as_ref()).filter(|label| label.len() > LABEL_MAX) {
            cx.remarks
                .error(&at.key("label"), format!("the label has {} bytes; LUKS has room for {LABEL_MAX}", label.len()));
        }
        match said(self.device.as_ref()) {
            None => {
                cx.remarks.error(&at.key("device"), "the device is missing").remedy("give the path of a device");
            }
            Some(device) => check_path(device, &at.key("device"), cx),
        }
        let custom = if cx.version < CLEVIS_CUSTOM_BY_PIN {
            self.clevis.custom != ClevisCustom::default()
        } else {
            said(self.clevis.custom.pin.as_ref()).is_some()
        };
        if custom && self.clevis.has_pieces() {
            cx.remarks
                .error(&at.key("clevis"), "a custom pin excludes tang, tpm2 and threshold")
                .remedy("put them into the custom pin's own config, or remove it");
        }
        if self.cex.enabled == Some(true) {
            let at = at.key("cex");
            if self.clevis.is_present() {
                cx.remarks.error(&at, "keys in a CEX card and clevis exclude each other").remedy("keep one of them");
            }
            if said(self.key_file.source.as_ref()).is_some() {
                cx.remarks
                    .error(&at, "keys in a CEX card and a key file exclude each other")
                    .remedy("keep one of them");
            }
        }
    }
}

impl Rules for Cex {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for Clevis {
    fn rules(&self, _: &Path<'_>, _: &mut Checking<'_>) {}
}

impl Rules for ClevisCustom {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let pin = said(self.pin.as_ref());
        let config = said(self.config.as_ref());
        let network = self.needs_network == Some(true) && cx.version >= CLEVIS_CUSTOM_BY_PIN;
        if pin.is_none() && config.is_none() && !network {
            return;
        }
        match pin {
            None => {
                cx.remarks.error(&at.key("pin"), "the pin is missing").remedy("name the clevis pin");
            }
            Some(pin) if cx.version < ANY_CLEVIS_PIN && !CLEVIS_PINS.contains(&pin) => {
                let since = ANY_CLEVIS_PIN;
                cx.remarks
                    .error(
                        &at.key("pin"),
                        format!(
                            "other pins than {} came with version {since}, this config says {}",
                            CLEVIS_PINS.join(", "),
                            cx.version
                        ),
                    )
                    .remedy(format!("set ignition.version to {since} or later"));
            }
            Some(_) => {}
        }
        if config.is_none() {
            cx.remarks.error(&at.key("config"), "the pin's config is missing").remedy("give it as a string of JSON");
        }
    }
}

impl Rules for Tang {
    fn rules(&self, at: &Path<'_>, cx: &mut Checking<'_>) {
        let url = at.key("url");
        match Url::parse(&self.url) {
            Err(error) => {
                cx.remarks.error(&url, format!("the URL of the tang server can't be read: {error}"));
            }
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
                cx.remarks
                    .error(&url, format!("a tang server is spoken to by http or https, not {:?}", parsed.scheme()));
            }
            Ok(_) => {}
        }
        if said(self.thumbprint.as_ref()).is_none() {
            cx.remarks
                .error(&at.key("thumbprint"), "the thumbprint of the tang server's key is missing")
                .remedy("ask the server for it with tang-show-keys");
        }
        if let Some(text) = said(self.advertisement.as_ref()) {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
                cx.remarks.error(&at.key("advertisement"), format!("the advertisement is not JSON: {error}"));
            }
        }
    }
}
