// SPDX-License-Identifier: Apache-2.0
//! The platform `qemu`: `-fw_cfg name=opt/com.coreos/config,file=...`, as the kernel shows it below
//! `/sys/firmware/qemu_fw_cfg` (Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg).

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use fledge_core::diag::Failure;

use super::{LIMIT, Raw, Surroundings};

/// The kernel module of the device.
pub(super) const MODULE: &str = "qemu_fw_cfg";

const KEY: &str = "opt/com.coreos/config";

/// Reads the key; a machine without it has no configuration.
pub(super) fn ask(surroundings: &Surroundings) -> Result<Raw, Failure> {
    let name = format!("fw_cfg {KEY}");
    let failed = |why: String| {
        Failure::new(format!("reading the configuration {name}"), why).remedy("check QEMU's -fw_cfg argument")
    };
    // The module makes this directory when it is loaded, whether there is a device or not.
    if !surroundings.fw_cfg.exists() {
        (surroundings.load_module)(MODULE)?;
    }
    let entry = surroundings.fw_cfg.join("by_name").join(KEY);
    let size = match fs::read_to_string(entry.join("size")) {
        Ok(size) => size,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::info!("QEMU's firmware device has no {KEY}: there is no configuration");
            return Ok(Raw { name, text: Vec::new() });
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let size: u64 = size.trim().parse().map_err(|_| failed(format!("its size is {size:?}")))?;
    if size > LIMIT {
        return Err(failed(format!("it is over {} MiB long", LIMIT >> 20)));
    }
    let text =
        File::open(entry.join("raw")).and_then(|file| read(file, size)).map_err(|error| failed(error.to_string()))?;
    Ok(Raw { name, text })
}

/// The kernel starts from the first byte for each call, so few and large reads are what makes long configurations bearable.
fn read(mut file: File, size: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut text = vec![0; size];
    let mut done = 0;
    let mut next_line = Instant::now() + Duration::from_secs(10);
    while let Some(rest @ [_, ..]) = text.get_mut(done..) {
        match file.read(rest) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ends after {done} of {size} bytes"),
                ));
            }
            Ok(amount) => done += amount,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() > next_line {
            next_line = Instant::now() + Duration::from_secs(10);
            log::warn!(
                "read {} of {} KiB from QEMU's firmware device, which is slow: let the config refer to a URL",
                done >> 10,
                size >> 10
            );
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(directory: &tempfile::TempDir) -> Surroundings {
        Surroundings {
            fw_cfg: directory.path().join("fw_cfg"),
            load_module: |name| Err(Failure::new(name, "not here")),
            ..Surroundings::from_environment()
        }
    }

    #[test]
    fn the_key_is_read_whole_and_its_absence_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let surroundings = surroundings(&directory);
        assert_eq!(ask(&surroundings).unwrap_err().what, "qemu_fw_cfg", "a module that can't be loaded is no answer");
        fs::create_dir(&surroundings.fw_cfg).unwrap();
        assert_eq!(ask(&surroundings).unwrap(), Raw { name: "fw_cfg opt/com.coreos/config".into(), text: vec![] });
        let entry = surroundings.fw_cfg.join("by_name/opt/com.coreos/config");
        fs::create_dir_all(&entry).unwrap();
        fs::write(entry.join("size"), "6\n").unwrap();
        fs::write(entry.join("raw"), "config").unwrap();
        assert_eq!(ask(&surroundings).unwrap().text, b"config");
        fs::write(entry.join("size"), "9\n").unwrap();
        assert!(ask(&surroundings).unwrap_err().why.contains("6 of 9"));
        fs::write(entry.join("size"), "many\n").unwrap();
        assert!(ask(&surroundings).unwrap_err().why.contains("many"));
    }
}
