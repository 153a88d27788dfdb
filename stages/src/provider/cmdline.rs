// SPDX-License-Identifier: Apache-2.0
//! The kernel command line: `ignition.config.url=`.

use fledge_core::cmdline::Cmdline;
use fledge_core::config::Resource;
use fledge_core::diag::{Failure, Place};

/// The resource that the command line names, if it names one. As in Ignition, an empty value is none, and of several the last
/// counts.
///
/// # Errors
/// The command line asks for a configuration on a disk, which this build can't read.
pub fn resource(cmdline: &Cmdline) -> Result<Option<Resource>, Failure> {
    let last = |key| cmdline.values(key).filter(|value| !value.is_empty()).last();
    let url = last("ignition.config.url");
    let on_disk = ["ignition.config.device", "ignition.config.path"].into_iter().find(|key| last(key).is_some());
    match (url, on_disk) {
        (None, Some(key)) => {
            Err(Failure::new("finding the configuration", "this build doesn't read configurations from disks")
                .at(place(key))
                .remedy("use ignition.config.url=, or put the configuration into user.ign"))
        }
        (Some(_), Some(key)) => {
            log::warn!("ignition.config.url takes precedence over {key}");
            Ok(url.map(of_url))
        }
        (url, None) => Ok(url.map(of_url)),
    }
}

/// An argument as a place.
pub fn place(key: &str) -> Place {
    Place { source: "the kernel command line".into(), path: key.into(), position: None }
}

fn of_url(url: &str) -> Resource {
    Resource { source: Some(url.into()), ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<String> {
        resource(&Cmdline::parse(text)).unwrap().and_then(|resource| resource.source)
    }

    #[test]
    fn the_last_url_that_is_one_counts() {
        assert_eq!(source("quiet"), None);
        assert_eq!(source("ignition.config.url="), None);
        assert_eq!(
            source("ignition.config.url=http://a/ ignition.config.url=http://b/ ignition.config.url="),
            Some("http://b/".into())
        );
        assert_eq!(source("ignition.config.url=http://a/ ignition.config.device=x"), Some("http://a/".into()));
    }

    #[test]
    fn configurations_on_disks_are_refused_not_ignored() {
        let error = resource(&Cmdline::parse("ignition.config.device=CONFIG ignition.config.path=/c.ign")).unwrap_err();
        assert!(error.to_string().contains("ignition.config.device"), "{error}");
        assert!(resource(&Cmdline::parse("ignition.config.path=/c.ign")).is_err());
        assert_eq!(source("ignition.config.device="), None);
    }
}
