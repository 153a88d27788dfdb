// SPDX-License-Identifier: Apache-2.0
//! What the firmware says about the machine.

use std::fs;
use std::path::Path;

/// The name of the product, as the vendor gave it; empty if it isn't known.
pub fn product_name() -> String {
    text("product_name")
}

/// The UUID of the machine; few have none, and only root can read it.
pub fn product_uuid() -> String {
    text("product_uuid")
}

fn text(file: &str) -> String {
    let text = fs::read(Path::new("/sys/class/dmi/id").join(file)).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
