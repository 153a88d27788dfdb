// SPDX-License-Identifier: Apache-2.0
//! `ignition`: the configuration about itself.

use alloc::string::String;
use alloc::vec::Vec;

use super::Resource;
use crate::config::section::section;

section! {
    /// The configuration about itself.
    pub part Ignition {
        /// Other configurations.
        config: IgnitionConfig = "config", V3_0;
        /// Proxies for whatever is fetched.
        proxy: Proxy = "proxy", V3_1;
        /// Whom to trust.
        security: Security = "security", V3_0;
        /// How long to wait.
        timeouts: Timeouts = "timeouts", V3_0;
        /// Version of the specification.
        version: String = "version", V3_0;
    }
}

section! {
    /// References to other configurations.
    pub part IgnitionConfig {
        /// Configurations that are merged into this one, in order.
        merge: Vec<Resource> = "merge", V3_0, ["compression" V3_1, "httpHeaders" V3_1];
        /// A configuration that takes this one's place.
        replace: Resource = "replace", V3_0, ["compression" V3_1, "httpHeaders" V3_1];
    }
}

section! {
    /// Proxies.
    pub part Proxy {
        /// URL of the proxy for `http` resources.
        http_proxy: Option<String> = "httpProxy", V3_1;
        /// URL of the proxy for `https` resources.
        https_proxy: Option<String> = "httpsProxy", V3_1;
        /// Hosts that are asked without a proxy, in the notation of Go's `NO_PROXY`.
        no_proxy: Vec<String> = "noProxy", V3_1;
    }
}

section! {
    /// Whom to trust.
    pub part Security {
        /// Transport security.
        tls: Tls = "tls", V3_0;
    }
}

section! {
    /// Transport security.
    pub part Tls {
        /// PEM certificates that are trusted beside the system's.
        certificate_authorities: Vec<Resource> = "certificateAuthorities", V3_0, ["compression" V3_1, "httpHeaders" V3_1];
    }
}

section! {
    /// How long to wait.
    pub part Timeouts {
        /// Seconds until a server has to have sent its response headers; 10 if absent, no limit if 0.
        http_response_headers: Option<i64> = "httpResponseHeaders", V3_0;
        /// Seconds for a whole fetch with all its retries; no limit if absent or 0.
        http_total: Option<i64> = "httpTotal", V3_0;
    }
}
