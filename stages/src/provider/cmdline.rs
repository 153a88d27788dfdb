// SPDX-License-Identifier: Apache-2.0
//! The kernel command line: `ignition.config.url=`, or `ignition.config.device=` and `ignition.config.path=`.

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Resource;
use fledge_core::diag::{Failure, Place};

use super::disk::OnDisk;

const URL: &str = "ignition.config.url";
const DEVICE: &str = "ignition.config.device";
const PATH: &str = "ignition.config.path";

/// Where the command line says that the configuration is.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// At a URL.
    Url(Resource),
    /// In a file on a disk.
    Disk(OnDisk),
}

/// What the command line names, if it names anything. As in Ignition, an empty value is none, of several the last counts, and a URL
/// takes precedence over a disk.
///
/// # Errors
/// A device without a path or the other way round, or a device's label that no label can be.
pub fn named(cmdline: &Cmdline) -> Result<Option<Named>, Failure> {
    let last = |key| cmdline.values(key).filter(|value| !value.is_empty()).last();
    let (url, device, path) = (last(URL), last(DEVICE), last(PATH));
    if let Some(url) = url {
        if device.or(path).is_some() {
            log::warn!("{URL} takes precedence over {DEVICE} and {PATH}");
        }
        return Ok(Some(Named::Url(Resource { source: Some(url.into()), ..Resource::default() })));
    }
    let missing = |given: &str, missing: &str| {
        Err(Failure::new("finding the configuration", format!("{given} is given without {missing}"))
            .at(place(given))
            .remedy(format!("give both: {DEVICE}=LABEL of the file system, {PATH}= the file on it")))
    };
    match (device, path) {
        (None, None) => Ok(None),
        (Some(_), None) => missing(DEVICE, PATH),
        (None, Some(_)) => missing(PATH, DEVICE),
        (Some(label), Some(_)) if label.contains('/') || matches!(label, "." | "..") => {
            Err(Failure::new("finding the configuration", format!("{label:?} is not the label of a file system"))
                .at(place(DEVICE))
                .remedy("give the label as /dev/disk/by-label shows it"))
        }
        (Some(label), Some(path)) => Ok(Some(Named::Disk(OnDisk { label: label.into(), path: path.into() }))),
    }
}

/// An argument as a place.
pub fn place(key: &str) -> Place {
    Place { source: "the kernel command line".into(), path: key.into(), position: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<String> {
        match named(&Cmdline::parse(text)).unwrap() {
            Some(Named::Url(resource)) => resource.source,
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_url_that_is_one_counts() {
        assert_eq!(source("quiet"), None);
        assert_eq!(source("ignition.config.url="), None);
        assert_eq!(
            source("ignition.config.url=http://a/ ignition.config.url=http://b/ ignition.config.url="),
            Some("http://b/".into())
        );
        for disk in
            ["ignition.config.device=x", "ignition.config.device=x ignition.config.path=/y", "ignition.config.path=/y"]
        {
            assert_eq!(source(&format!("ignition.config.url=http://a/ {disk}")), Some("http://a/".into()));
        }
    }

    #[test]
    fn a_disk_is_named_by_label_and_path() {
        let named = |text| named(&Cmdline::parse(text));
        let on_disk = |label: &str, path: &str| Some(Named::Disk(OnDisk { label: label.into(), path: path.into() }));
        assert_eq!(
            named("ignition.config.device=old ignition.config.device=CONFIG ignition.config.path=c.ign").unwrap(),
            on_disk("CONFIG", "c.ign")
        );
        assert_eq!(named("ignition.config.device= ignition.config.path=").unwrap(), None);
        for (text, words) in [
            ("ignition.config.device=x", "without ignition.config.path"),
            ("ignition.config.path=/x ignition.config.device=", "without ignition.config.device"),
            ("ignition.config.device=../sda ignition.config.path=/x", "not the label"),
            ("ignition.config.device=.. ignition.config.path=/x", "not the label"),
        ] {
            let failure = named(text).unwrap_err();
            assert!(failure.why.contains(words), "{failure}");
            assert!(failure.place.is_some() && failure.remedy.is_some(), "{failure}");
        }
    }
}
