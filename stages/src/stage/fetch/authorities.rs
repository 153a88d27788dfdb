// SPDX-License-Identifier: Apache-2.0
//! The certificate authorities that configurations name: fetched once, trusted from then on, and kept with the cache.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use fledge_core::config::Resource;
use fledge_core::diag::{Failure, Place};
use rustls::pki_types::CertificateDer;

use super::Stop;
use crate::fetch::{Error, Fetcher};
use crate::host::net::roots::parse_bundle;

/// No bundle is longer: those of distributions are a quarter of a MiB.
const LIMIT: u64 = 4 << 20;

/// Bundles by their source.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    known: BTreeMap<String, Vec<u8>>,
}

impl Authorities {
    /// The certificates of all these resources.
    pub(super) fn certificates(
        &mut self,
        fetcher: &Fetcher,
        resources: &[Resource],
        place: &dyn Fn(&Resource) -> Option<Place>,
    ) -> Result<Vec<CertificateDer<'static>>, Stop> {
        let mut certificates = Vec::new();
        for resource in resources {
            let bundle = self.bundle(fetcher, resource).map_err(|stop| at(stop, place(resource)))?;
            let found = parse_bundle(bundle).map_err(|why| {
                let failure = Failure::new("reading certificate authorities", why)
                    .remedy("give certificates in PEM form, one after the other");
                at(failure.into(), place(resource))
            })?;
            certificates.extend(found);
        }
        Ok(certificates)
    }

    fn bundle(&mut self, fetcher: &Fetcher, resource: &Resource) -> Result<&[u8], Stop> {
        let source = resource.source.clone().unwrap_or_default();
        let bundle = match self.known.entry(source) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let bundle = fetcher.to_buffer(resource, LIMIT).map_err(|error| match error {
                    Error::NeedNet(what) => Stop::NeedNet(format!("the certificate authority {what}")),
                    Error::Failed(failure) => failure.into(),
                })?;
                entry.insert(bundle)
            }
        };
        Ok(bundle)
    }

    /// Puts the bundles themselves in place of what leads to them: later stages may have no way to fetch them.
    pub(super) fn embed(&self, resources: &mut [Resource]) {
        for resource in resources {
            let Some(bundle) = resource.source.as_ref().and_then(|source| self.known.get(source)) else { continue };
            resource.source = Some(format!("data:text/plain;charset=utf-8;base64,{}", BASE64.encode(bundle)));
            resource.http_headers.clear();
            resource.compression = None;
        }
    }
}

fn at(stop: Stop, place: Option<Place>) -> Stop {
    match (stop, place) {
        (Stop::Failed(failures), Some(place)) => {
            Stop::Failed(failures.into_iter().map(|failure| failure.at(place.clone())).collect())
        }
        (stop, _) => stop,
    }
}
