// SPDX-License-Identifier: Apache-2.0
//! The certificate authorities that configurations name: fetched once, trusted from then on, and kept with the cache.

use data_encoding::BASE64;
use fledge_core::config::Resource;
use fledge_core::diag::{Failure, Place};
use rustls::pki_types::CertificateDer;

use super::Stop;
use crate::fetch::{Error, Fetcher};
use crate::host::net::roots::parse_bundle;

/// No bundle is longer: those of distributions are a quarter of a MiB.
const LIMIT: u64 = 4 << 20;

/// Bundles by what asked for them: one that asks for the same source with another hash is a question of its own.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    known: Vec<(Resource, Vec<u8>)>,
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
        if self.known(resource).is_none() {
            let bundle = fetcher.to_buffer(resource, LIMIT).map_err(|error| match error {
                Error::NeedNet(what) => Stop::NeedNet(format!("the certificate authority {what}"), None),
                Error::Failed(failure) => failure.into(),
            })?;
            self.known.push((resource.clone(), bundle));
        }
        Ok(self.known(resource).unwrap_or_default())
    }

    fn known(&self, resource: &Resource) -> Option<&[u8]> {
        self.known.iter().find(|(known, _)| known == resource).map(|(_, bundle)| bundle.as_slice())
    }

    /// Puts the bundles themselves in place of what leads to them: later stages may have no way to fetch them.
    pub(super) fn embed(&self, resources: &mut [Resource]) {
        for resource in resources {
            let Some(bundle) = self.known(resource) else { continue };
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
        (Stop::NeedNet(what, None), place) => Stop::NeedNet(what, place),
        (stop, _) => stop,
    }
}
