// SPDX-License-Identifier: Apache-2.0
//! What a volume is bound to by clevis. The configurations of its pins are described in clevis's README and in
//! `clevis-encrypt-tang(1)`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::said;
use crate::config::{Clevis, Resource, Tang};

/// A binding to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The pin.
    pub pin: String,
    /// The pin's configuration, JSON.
    pub config: String,
    /// The advertisements of the tang servers that clevis will ask. Fetching them first waits for the network and the servers with
    /// the patience that clevis lacks.
    pub servers: Vec<Resource>,
    /// Whether enough of the pieces can be had at once to open the volume by the binding, so that it is tried out. A tang server
    /// whose advertisement is given may be out of reach.
    pub tried: bool,
}

/// The binding that a configuration asks for.
pub(super) fn binding(clevis: &Clevis) -> Option<Binding> {
    if !clevis.is_present() {
        return None;
    }
    let asked = clevis.tang.iter().filter(|tang| advertisement(tang).is_none());
    let servers: Vec<_> = asked.map(server).collect();
    let threshold = clevis.threshold.unwrap_or(1);
    let pieces = servers.len() + usize::from(clevis.tpm2 == Some(true));
    let tried = i64::try_from(pieces).is_ok_and(|pieces| pieces >= threshold);
    let custom = &clevis.custom;
    let (pin, config) = match said(custom.pin.as_ref()) {
        Some(pin) => (pin.into(), custom.config.clone().unwrap_or_default()),
        None => ("sss".into(), shares(clevis, threshold)),
    };
    Some(Binding { pin, config, servers, tried })
}

/// Whether opening the volume takes a network.
pub(in crate::plan) fn needs_network(clevis: &Clevis) -> bool {
    let custom = &clevis.custom;
    !clevis.tang.is_empty() || (said(custom.pin.as_ref()).is_some() && custom.needs_network == Some(true))
}

/// The configuration of the pin `sss`: so many of these pieces.
fn shares(clevis: &Clevis, threshold: i64) -> String {
    let tang: Vec<_> = clevis.tang.iter().map(piece).collect();
    let mut pins = Vec::new();
    if !tang.is_empty() {
        pins.push(format!("\"tang\":[{}]", tang.join(",")));
    }
    if clevis.tpm2 == Some(true) {
        pins.push("\"tpm2\":{}".into());
    }
    format!("{{\"pins\":{{{}}},\"t\":{threshold}}}", pins.join(","))
}

fn piece(tang: &Tang) -> String {
    let mut piece = format!("{{\"url\":{}", quoted(&tang.url));
    if let Some(thumbprint) = said(tang.thumbprint.as_ref()) {
        piece.extend([",\"thp\":", &quoted(thumbprint)]);
    }
    if let Some(advertisement) = advertisement(tang) {
        piece.extend([",\"adv\":", advertisement]);
    }
    piece.push('}');
    piece
}

fn advertisement(tang: &Tang) -> Option<&str> {
    said(tang.advertisement.as_ref())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn server(tang: &Tang) -> Resource {
    let end = tang.url.find(['?', '#']).unwrap_or(tang.url.len());
    let (url, rest) = tang.url.split_at(end);
    Resource { source: Some(format!("{}/adv{rest}", url.trim_end_matches('/'))), ..Resource::default() }
}
