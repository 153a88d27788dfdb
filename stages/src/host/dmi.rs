// SPDX-License-Identifier: Apache-2.0
//! What the firmware says about the machine.

use std::fs;

/// The name of the product, as the vendor gave it; empty if it isn't known.
pub fn product_name() -> String {
    let text = fs::read("/sys/class/dmi/id/product_name").unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
