// SPDX-License-Identifier: Apache-2.0
//! The harness without `xtask`: `cargo run -p fledge-vm-tests --example vm -- image`.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use fledge_vm_tests::cache::Cache;
use fledge_vm_tests::image::{self, Elevate, Image, Inputs};

fn main() -> Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (command, rest) = args.split_first().context("say what to do: image, as-root")?;
    let elevate = Elevate { command: vec![std::env::current_exe()?.into(), "as-root".into()] };
    let dist = std::env::var_os("FLEDGE_DIST").map(Into::into);
    match command.to_str() {
        Some("as-root") => image::as_root(rest),
        Some("image") => {
            let cache = Cache::of_user()?;
            let image = Image::ensure(&cache, &Inputs { dist }, &elevate)?;
            println!("{image:#?}\n{} MiB in the cache", cache.bytes() >> 20);
            Ok(())
        }
        _ => bail!("no such command"),
    }
}
