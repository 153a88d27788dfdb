// SPDX-License-Identifier: Apache-2.0
//! `storage.luks`.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::Resource;
use crate::config::model::Entry;
use crate::config::section::section;

section! {
    /// An encrypted volume to make.
    pub item Luks {
        /// Keys in an IBM Crypto Express card.
        cex: Cex = "cex", V3_5;
        /// Keys bound by clevis.
        clevis: Clevis = "clevis", V3_2;
        /// Absolute path of the device below.
        device: Option<String> = "device", V3_2;
        /// Whether discards reach the device below.
        discard: Option<bool> = "discard", V3_4;
        /// The key; a random one if absent.
        key_file: Resource = "keyFile", V3_2;
        /// Its label.
        label: Option<String> = "label", V3_2;
        /// Name of the opened volume.
        name: String = "name", V3_2;
        /// Options of `cryptsetup open`, kept in the header.
        open_options: Vec<String> = "openOptions", V3_4;
        /// Options of `cryptsetup luksFormat`.
        options: Vec<String> = "options", V3_2, appending;
        /// Its UUID.
        uuid: Option<String> = "uuid", V3_2;
        /// Whether it is made even where there is one already.
        wipe_volume: Option<bool> = "wipeVolume", V3_2;
    }
}

impl Entry for Luks {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

section! {
    /// Keys in an IBM Crypto Express card.
    pub part Cex {
        /// Whether one is used.
        enabled: Option<bool> = "enabled", V3_5;
    }
}

section! {
    /// Keys bound by clevis.
    pub part Clevis {
        /// A pin with a configuration of its own.
        custom: ClevisCustom = "custom", V3_2;
        /// Tang servers.
        tang: Vec<Tang> = "tang", V3_2;
        /// How many of the pieces open the volume; 1 if absent.
        threshold: Option<i64> = "threshold", V3_2;
        /// Whether the TPM is one of the pieces.
        tpm2: Option<bool> = "tpm2", V3_2;
    }
}

impl Clevis {
    /// Whether it asks for anything.
    pub fn is_present(&self) -> bool {
        self.custom.pin.as_deref().is_some_and(|pin| !pin.is_empty()) || self.has_pieces()
    }

    /// Whether it asks for anything beside a custom pin.
    pub fn has_pieces(&self) -> bool {
        !self.tang.is_empty() || self.tpm2 == Some(true) || self.threshold.unwrap_or_default() != 0
    }
}

section! {
    /// A clevis pin with a configuration of its own.
    pub part ClevisCustom {
        /// Configuration of the pin.
        config: Option<String> = "config", V3_2;
        /// Whether it needs the network.
        needs_network: Option<bool> = "needsNetwork", V3_2;
        /// The pin.
        pin: Option<String> = "pin", V3_2;
    }
}

section! {
    /// A tang server.
    pub item Tang {
        /// Its advertisement as JSON, where it can't be asked.
        advertisement: Option<String> = "advertisement", V3_4;
        /// Thumbprint of a trusted signing key.
        thumbprint: Option<String> = "thumbprint", V3_2;
        /// Its URL.
        url: String = "url", V3_2;
    }
}

impl Entry for Tang {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.url)
    }
}
